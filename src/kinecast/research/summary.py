"""From arrays over windows to the figures of a table: one value per window first, then means, then spread over seeds.

Errors of *all* frames of a window average its observed frames too, animated by their true keypoints, as the published
ones do; errors of *predicted* frames do not. APD is of the H predicted frames, as printed ([A] eq. 37).

Notation: V windows, C clips, N observed, H horizon, T = N + H.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.metrics.distances import pooled_energy_distance
from kinecast.metrics.diversity import ScaledRatios, scaled_ratios
from kinecast.metrics.jedi import jedi
from kinecast.research.run import Measured, TableData
from kinecast.research.study import BASELINES

CEILING, COPY = "true keypoints", "copy of the source"


@dataclass(frozen=True)
class Figures:
    """One row of a table. `figures` are means over windows and seeds; `deviations` are of seeds, where several.

    `windows` has for each seed the values of each window; `curves` the error at each predicted step, means over
    windows and seeds. `ratios` are the scaled APD/MAE ratios of each seed, one value per clip, of diverse tables;
    `scaled_with` names the other model whose figures are scaled together with this one's.
    """

    name: str
    reads_future: bool
    figures: dict[str, float]
    deviations: dict[str, float]
    windows: dict[int, dict[str, list[float]]]
    curves: dict[str, list[float]]
    ratios: dict[int, ScaledRatios]
    scaled_with: str = ""
    family: str = ""
    differences: tuple[str, ...] = ()


def summarise(table: TableData) -> list[Figures]:
    """Return the rows of a table: what needs no forecast first."""
    single = table.study.kind == "single"
    rows = [_reference_row(table, name, key) for name, key in ((COPY, "copy"), (CEILING, "true"))]
    pairs = () if single else compared_pairs([row.label for row, _ in table.rows if row.label not in BASELINES])
    ratios = _ratios(table, pairs)
    names = list(dict.fromkeys(row.label for row, _ in table.rows))
    for name in names:
        runs = [(row, seed, m) for (row, seed), m in zip(table.rows, table.measured, strict=True) if row.label == name]
        values = {seed: (_single if single else _diverse)(table, measured) for _, seed, measured in runs}
        sets = {seed: _of_sets(table, measured) if single else {} for _, seed, measured in runs}
        own = {seed: ratios[name, seed] for seed in values if (name, seed) in ratios}
        curves = {key: _curve([m[key] for _, _, m in runs]) for key in ("mae", "keypoint_mae") if single}
        of = runs[0][0]
        row = _row(name, of.reads_future, values, sets, curves, own)
        partners = [other for pair in pairs if name in pair and own for other in pair if other != name]
        rows.append(replace(row, scaled_with=", ".join(partners), family=of.family, differences=of.differences))
    return rows


def compared_pairs(labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of models whose APD and MAE are scaled together, as the paper scales VRNN and GRU-NF.

    VRNN and GRU-NF of the same preset, wherever both are there; without them, the only two models of a table. No
    baseline and no third model stretches the scale.
    """
    names = list(dict.fromkeys(labels))
    pairs = [(name, name.replace("vrnn", "gru-nf", 1)) for name in names if name.partition(":")[0] == "vrnn"]
    found = tuple(pair for pair in pairs if pair[1] in names)
    if not found and len(names) == 2:
        return ((names[0], names[1]),)
    return found


def _row(
    name: str,
    reads_future: bool,
    values: dict[int, dict[str, np.ndarray]],
    sets: dict[int, dict[str, float]],
    curves: dict[str, list[float]],
    ratios: dict[int, ScaledRatios],
) -> Figures:
    by_seed = [
        {key: float(column.mean()) for key, column in values[seed].items()} | sets.get(seed, {}) for seed in values
    ]
    for figures, seed in zip(by_seed, values, strict=True):
        if seed in ratios:
            figures |= {"ratio_mean": ratios[seed].mean, "ratio_median": ratios[seed].median}
    keys = list(by_seed[0])
    several = len(by_seed) > 1
    return Figures(
        name=name,
        reads_future=reads_future,
        figures={key: mean(figures[key] for figures in by_seed) for key in keys},
        deviations={key: stdev(figures[key] for figures in by_seed) for key in keys} if several else {},
        windows={
            seed: {key: [round(float(v), 6) for v in column] for key, column in columns.items()}
            for seed, columns in values.items()
        },
        curves=curves,
        ratios=ratios,
    )


def _reference_row(table: TableData, name: str, key: str) -> Figures:
    observed, reference = table.horizon.observed, table.reference
    values: dict[str, np.ndarray] = {}
    for measure in ("mae", "ssim"):
        frames = reference[f"{key}_{measure}"]
        values |= {f"{measure}_all": frames.mean(axis=1), f"{measure}_predicted": frames[:, observed:].mean(axis=1)}
    if table.study.kind == "diverse":  # with one video there is nothing to choose
        values |= {f"{m}_{which}": values[f"{m}_all"] for m in ("mae", "ssim") for which in ("kept", "every")}
        values |= {"mae_every_predicted": values["mae_predicted"]}
    sets = {"jedi": _jedi(reference[f"{key}_features"], reference)} if f"{key}_features" in reference else {}
    curves = {"mae": _curve([reference[f"{key}_mae"][:, observed:]])}
    return _row(name, False, {0: values}, {0: sets}, curves, {})


def _with_observed(table: TableData, measure: str, predicted: np.ndarray) -> np.ndarray:
    """Average predicted frames, one value per window (V,), with the window's observed frames from true keypoints."""
    observed, length = table.horizon.observed, table.horizon.frames
    given = table.reference[f"true_{measure}"][:, :observed].mean(axis=1)
    return (observed * given + (length - observed) * predicted) / length


def _single(table: TableData, measured: Measured) -> dict[str, np.ndarray]:
    predicted = {measure: measured[measure].mean(axis=1) for measure in ("mae", "ssim")}
    return {
        **{f"{measure}_all": _with_observed(table, measure, values) for measure, values in predicted.items()},
        **{f"{measure}_predicted": values for measure, values in predicted.items()},
        "keypoint_mae": measured["keypoint_mae"].mean(axis=1),
        "crps": measured["crps"],
        "energy_score": measured["energy_score"],
    }


def _of_sets(table: TableData, measured: Measured) -> dict[str, float]:
    """Return the figures of sets of windows: one sample of every window against all true ones."""
    observed = table.horizon.observed
    vectors = torch.from_numpy(table.reference["vectors"])
    samples = torch.from_numpy(measured["sample"]).unsqueeze(0)
    figures = {
        "energy_distance": pooled_energy_distance(samples, vectors[:, observed:]),
        "energy_distance_all": pooled_energy_distance(samples, vectors[:, observed:], vectors[:, :observed]),
    }
    return figures | ({"jedi": _jedi(measured["features"], table.reference)} if "features" in measured else {})


def _jedi(features: np.ndarray, reference: Measured) -> float:
    return jedi(torch.from_numpy(features), torch.from_numpy(reference["features"]))


def _diverse(table: TableData, measured: Measured) -> dict[str, np.ndarray]:
    kept = {measure: np.take_along_axis(measured[measure], measured["kept"], axis=1) for measure in ("mae", "ssim")}
    values = {"apd_kept": measured["apd_kept"], "apd_every": measured["apd"]}
    for which, of in (("kept", kept.__getitem__), ("every", measured.__getitem__)):
        for measure in ("mae", "ssim"):
            predicted = of(measure).mean(axis=1)
            values[f"{measure}_{which}"] = _with_observed(table, measure, predicted)
            values[f"{measure}_{which}_predicted"] = predicted
    return values


def _ratios(table: TableData, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, int], ScaledRatios]:
    """Return the scaled ratios of kept samples, one value per clip, of each pair's two models, by seed."""
    found: dict[tuple[str, int], ScaledRatios] = {}
    for pair in pairs:
        for seed in sorted({seed for _, seed in table.rows}):
            columns = {
                row.label: _diverse(table, measured)
                for (row, of), measured in zip(table.rows, table.measured, strict=True)
                if row.label in pair and of == seed and measured["mae"].shape[1] > 1
            }
            if len(columns) < 2:
                continue
            try:
                ratios = scaled_ratios(*(_of_clips(table, columns, key) for key in ("apd_kept", "mae_kept")))
            except KinecastError:  # all values equal: the scale, and so the ratio, is undefined
                continue
            found |= {(name, seed): of for name, of in ratios.items()}
    return found


def _of_clips(table: TableData, columns: dict[str, dict[str, np.ndarray]], key: str) -> dict[str, torch.Tensor]:
    """Return for each model the means over the windows of each clip, (C,)."""
    clips = [window.clip for window in table.windows]
    places = [[i for i, clip in enumerate(clips) if clip == name] for name in dict.fromkeys(clips)]
    return {
        name: torch.tensor([float(values[key][rows].mean()) for rows in places], dtype=torch.float64)
        for name, values in columns.items()
    }


def _curve(runs: list[np.ndarray]) -> list[float]:
    return [float(v) for v in np.mean([run.mean(axis=0) for run in runs], axis=0)]
