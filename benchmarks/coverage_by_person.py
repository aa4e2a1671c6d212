"""Do 80 % intervals cover 80 % for each person, how much of that is chance, and does a person's own past help?

    python benchmarks/coverage_by_person.py runs/people-motion.npz \
        --output docs/results/coverage-by-person.json --report docs/results/coverage-by-person.md

The bundled `transformer-mesh` forecasts one clip of each of the people that it has not seen. Three readings:

- as it is;
- with a truth of its own, a sample that it draws: nothing can be better calibrated, so what is left is the chance of
  few windows;
- scaled online: spreads are multiplied by one factor for the person, from how far the frames seen so far lay from what
  was forecast of them, in units of its own spread (conformal scores of the past, Gibbs & Candes 2021 in purpose, here
  their quantile). At frame t only frames before t are read. How much the past weighs against none is chosen on
  people who are not among those scored.

Notation: T frames, H horizon, D numbers per frame, S samples, W windows.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.data.keypoint_store import load_series
from kinecast.data.video_folder import person_of
from kinecast.data.windows import Horizon, Windows, evaluation_windows
from kinecast.files import atomic_path
from kinecast.forecasting.storage import load_forecaster_file
from kinecast.forecasting.transformer import Transformer
from kinecast.metrics.scores import covered, crps
from kinecast.research.people import People
from kinecast.research.tables import markdown, provenance
from kinecast.zoo import load_forecaster

PERSON = "^([^#]+)#"
CHOOSING = "7$"  # people whose names end so said when training stopped, and no gradient saw them
HORIZONS = (Horizon(6, 6), Horizon(12, 12))
WEIGHTS = (0.0, 12.0, 24.0, 48.0, 96.0, 192.0, 384.0, float("inf"))  # frames that no past is worth
LEVEL, NEAR = 0.8, 0.02
SAMPLES, TRUTHS = 100, 20  # drawn of each window; and how often one of its own samples is taken for the truth
COLUMNS = ("coverage", "distance", "near", "at 70-90 %")
ABOUT = """# Coverage by person

How many people have 80 % intervals that cover 78 to 82 % depends on how many windows each has: neighbouring frames and
numbers of one window err together. *Truth of its own* takes one more sample of the forecaster for the truth, so that
it is perfectly calibrated: what it has is what chance leaves. *Scaled online* multiplies spreads by a factor from the
person's own past in the clip, none of it later than the frame that a forecast is made at.

"""
_FEWEST = 3  # observed frames of the first forecast whose error is read


def past_scores(model: Transformer, motion: Tensor, reach: int) -> Tensor:
    """Return how far frames lay from the medians forecast of them, in 80 % half-widths: (T, reach, D).

    Row s is the forecast made when s frames had been seen, column i of frame s + i. NaN where there is none.
    """
    frames, dim = motion.shape
    found = torch.full((frames, reach, dim), torch.nan)
    half = model.bank[:, :reach].float().abs().quantile(LEVEL, dim=0)  # (reach, D)
    reads = model.config.reads
    with torch.inference_mode():
        for origin in range(_FEWEST, frames):
            # one at a time below what the model reads; all later ones together
            if origin < reads:
                seen, at = motion[None, :origin], [origin]
            elif origin == reads:
                seen = motion.unfold(0, reads, 1)[: frames - reads].transpose(1, 2)
                at = list(range(reads, frames))
            else:
                break
            made = model.marginals(seen, reach)
            for row, start in enumerate(at):
                count = min(reach, frames - start)
                distance = (motion[start : start + count] - made.location[row, :count]).abs()
                found[start, :count] = distance / (made.scale[row, :count] * half[:count])
    return found


def factor(scores: Tensor, now: int, weight: float) -> float:
    """Return what to multiply spreads by when `now` frames have been seen, from scores of frames before alone."""
    reach = scores.shape[1]
    origin = torch.arange(now).view(-1, 1)
    known = scores[:now][(origin + torch.arange(reach)) < now]  # frame s + i has been seen
    known = known[torch.isfinite(known)]
    if not len(known) or weight == float("inf"):
        return 1.0
    own = float(np.quantile(known.numpy(), LEVEL))
    frames = now - _FEWEST
    return max(own, 1e-3) ** (frames / (frames + weight))


def starts_of(windows: Windows) -> list[int]:
    """Return of each window the number of frames of its clip that have been seen when it is forecast."""
    count: dict[str, int] = {}
    starts = []
    for clip in windows.clips:
        count[clip] = count.get(clip, -1) + 1
        starts.append(count[clip] * windows.horizon.frames + windows.horizon.observed)
    return starts


def factors_of(scores: Mapping[str, Tensor], windows: Windows, weight: float) -> Tensor:
    """Return the factor of each window, (W,)."""
    starts = zip(windows.clips, starts_of(windows), strict=True)
    return torch.tensor([factor(scores[clip], now, weight) for clip, now in starts])


def spread_by(factors: Tensor, model: Transformer, windows: Windows, samples: Tensor) -> Tensor:
    """Return samples (S, W, H, D) with distances to the model's medians multiplied by factors (W,)."""
    median = model.median(windows.observed, windows.horizon.forecast)
    return median + factors.view(-1, 1, 1) * (samples - median)


def coverage_by_person(samples: Tensor, truth: Tensor, people: People) -> dict[str, Any]:
    """Return coverage over people, its distance from 80 %, the shares of people near it, and the furthest."""
    each = people.means(covered(samples, truth, (LEVEL,))[LEVEL].mean(axis=(1, 2)))
    off = np.abs(each - LEVEL)
    return {
        "coverage": float(each.mean()),
        "distance": float(off.mean()),
        "near": float((off <= NEAR + 1e-9).mean()),
        "at 70-90 %": float((off <= 0.1 + 1e-9).mean()),
        "furthest": float(each[off.argmax()]),
        "by_person": {name: round(float(share), 4) for name, share in zip(people.names, each, strict=True)},
    }


def split_people(
    model: Transformer, series: Mapping[str, Tensor], validate: str | None
) -> dict[str, dict[str, Tensor]]:
    """Return the clips of people that nothing of the training has seen, and of those that chose when it stops."""
    about = model.about
    kept_out = validate or str(about["kept_out"])
    choosing = about["training"]["early_stop"] if "training" in about else CHOOSING
    split: dict[str, dict[str, Tensor]] = {"choosing": {}, "scored": {}}
    for clip, motion in series.items():
        person = person_of(clip, PERSON)
        if re.search(kept_out, person):
            split["scored"][clip] = motion
        elif re.search(choosing, person):
            split["choosing"][clip] = motion
    return split


class Part:
    """Forecasts of some people's windows, and the factors of their pasts."""

    def __init__(self, model: Transformer, clips: Mapping[str, Tensor], horizon: Horizon, samples: int) -> None:
        self.model, self.windows = model, evaluation_windows(clips, horizon)
        self.people = People(self.windows.clips, PERSON)
        self.drawn = model.forecast(self.windows.observed, horizon.forecast, samples, seed=0)
        self.past = {clip: past_scores(model, clips[clip], horizon.forecast) for clip in {*self.windows.clips}}

    def scaled(self, weight: float) -> Tensor:
        """Return the samples (S, W, H, D) scaled by the pasts."""
        return spread_by(factors_of(self.past, self.windows, weight), self.model, self.windows, self.drawn)

    def crps(self, weight: float) -> np.ndarray:
        """Return the CRPS of these samples, by window (W,)."""
        return crps(self.scaled(weight), self.windows.truth).mean(dim=(1, 2)).numpy()

    def coverage(self, weight: float) -> dict[str, Any]:
        """Return their coverage by person."""
        return coverage_by_person(self.scaled(weight), self.windows.truth, self.people)

    def by_chance(self) -> dict[str, float]:
        """Return the coverage that perfectly calibrated samples have: the truth is one more of them."""
        seen, reach = self.windows.observed, self.windows.horizon.forecast
        runs = [
            coverage_by_person(self.drawn, self.model.forecast(seen, reach, 1, seed=seed)[0], self.people)
            for seed in range(1000, 1000 + TRUTHS)
        ]
        return {key: float(np.mean([run[key] for run in runs])) for key in COLUMNS}

    def worse(self) -> dict[str, float]:
        """Return the share of people of whom the median is worse than a held frame, and if they stay so.

        Of people worse in every other window, from the first on: the share that is worse in the rest as well, beside
        that of the others. The two are equal if it is chance who is worse.
        """
        truth, last = self.windows.truth, self.windows.observed[:, -1:]
        mine = (self.model.median(self.windows.observed, truth.shape[1]) - truth).abs().mean(dim=(1, 2)).numpy()
        held = (last - truth).abs().mean(dim=(1, 2)).numpy()
        owner = np.array([person_of(clip, PERSON) for clip in self.windows.clips])
        halves = []
        for name in self.people.names:
            at = np.flatnonzero(owner == name)
            if len(at) > 1:
                halves.append([mine[part].sum() > held[part].sum() for part in (at[::2], at[1::2])])
        first, second = np.array(halves).T
        return {
            "people": len(self.people.names),
            "worse": float((self.people.means(mine) > self.people.means(held)).mean()),
            "worse again": float(second[first].mean()) if first.any() else float("nan"),
            "worse, of those better before": float(second[~first].mean()),
            "people with two windows": len(first),
        }


def measure(model: Transformer, split: Mapping[str, Mapping[str, Tensor]], horizon: Horizon) -> dict[str, Any]:
    """Return the readings at a horizon of people kept out, with the weight chosen on the others."""
    parts = {name: Part(model, clips, horizon, SAMPLES) for name, clips in split.items()}
    choosing, scored = parts["choosing"], parts["scored"]
    tried = {str(weight): float(choosing.people.means(choosing.crps(weight)).mean()) for weight in WEIGHTS}
    best = min(WEIGHTS, key=lambda weight: tried[str(weight)])
    columns = {reading: scored.crps(w) for reading, w in (("as it is", float("inf")), ("scaled online", best))}
    return {
        "windows": len(scored.windows.frames),
        "people": len(scored.people.names),
        "chosen_on": len(parts["choosing"].people.names),
        "crps_of_weights": tried,
        "weight": str(best),
        "as it is": scored.coverage(float("inf")),
        "scaled online": scored.coverage(best),
        "truth of its own": scored.by_chance(),
        "crps": {reading: float(scored.people.means(values).mean()) for reading, values in columns.items()},
        "crps_difference": str(scored.people.difference(columns["scaled online"], columns["as it is"])),
        "worse": scored.worse(),
    }


def page(results: Mapping[str, Any]) -> str:
    """Return the readings as Markdown."""
    text = ABOUT
    header = ("reading", "coverage", "distance from 80 %", "people at 78-82 %", "at 70-90 %", "CRPS")
    for name, of in results.items():
        rows = [
            [
                reading,
                *(f"{100 * of[reading][key]:.1f} %" for key in COLUMNS),
                f"{of['crps'][reading]:.4f}" if reading in of["crps"] else "–",
            ]
            for reading in ("as it is", "scaled online", "truth of its own")
        ]
        text += markdown(f"{name}: {of['windows']} windows of {of['people']} people", header, rows)
        worse = of["worse"]
        text += (
            f"\nWeight of no past {of['weight']} frames, chosen on {of['chosen_on']} people; CRPS of scaled online "
            f"against as it is: {of['crps_difference']}.\n\n"
            f"Worse than a held frame: {100 * worse['worse']:.0f} % of people. Of those worse in every other window, "
            f"{100 * worse['worse again']:.0f} % are worse in the rest; of those better, "
            f"{100 * worse['worse, of those better before']:.0f} % ({worse['people with two windows']} people).\n\n"
        )
    return text


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="transformer-mesh", help="bundled, or a file of `research keypoints`")
    parser.add_argument("--validate", help="people kept out of a file's training")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    model = load_forecaster_file(options.model) if options.validate else load_forecaster(options.model, "cpu")
    assert isinstance(model, Transformer)
    split = split_people(model, load_series(options.data), options.validate)
    results = {str(horizon): measure(model, split, horizon) for horizon in HORIZONS}
    facts = provenance()
    head = f"`{facts['command']}`, {facts['date'][:10]}; {facts['machine']['processor']}.\n\n"
    for path, content in (
        (options.output, json.dumps(facts | {"horizons": results}, indent=1) + "\n"),
        (options.report, page(results) + head),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
