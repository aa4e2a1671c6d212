"""Figures of a table from arrays that are known."""

from pathlib import Path

import numpy as np
import pytest

from kinecast.data.datasets import Clip
from kinecast.data.windows import Horizon
from kinecast.research.figures import chosen_windows, error_curves, ratio_densities
from kinecast.research.run import TableData, Window
from kinecast.research.study import Job, Row, Study
from kinecast.research.summary import CEILING, COPY, compared_pairs, summarise

pytest.importorskip("dcor")
HORIZON = Horizon(2, 1)


def table(
    kind: str, measured: dict[str, dict[str, np.ndarray]], windows: int = 2, reads: str = "", a_clip: int = 1
) -> TableData:
    """Make a table of clips with `a_clip` windows each."""
    study = Study(kind, "reconstruction", (HORIZON,), (), samples=2, keep=1)  # type: ignore[arg-type]
    rows = [(Row(name, "forecaster", None, name, True, name == reads), 0) for name in measured]
    reference = {
        "true_mae": np.full((windows, 3), 0.1),
        "true_ssim": np.full((windows, 3), 0.9),
        "copy_mae": np.full((windows, 3), 0.4),
        "copy_ssim": np.full((windows, 3), 0.2),
        "vectors": np.arange(windows * 6, dtype=np.float32).reshape(windows, 3, 2),
    }
    clips = [Clip(f"clip{i}", "p", Path("x")) for i in range(windows // a_clip)]
    jobs = [Job(study, HORIZON, clip, None, tuple(range(a_clip)), ()) for clip in clips]
    listed = [Window(job.clip.name, place, job.clip.name) for job in jobs for place in job.windows]
    return TableData(study, HORIZON, listed, jobs, rows, reference, list(measured.values()))


def single(level: float, windows: int = 2) -> dict[str, np.ndarray]:
    return {
        "mae": np.full((windows, 1), level),
        "ssim": np.full((windows, 1), 0.6),
        "keypoint_mae": np.full((windows, 1), level / 10),
        "crps": np.full(windows, level / 20),
        "energy_score": np.full(windows, level),
        "sample": np.arange(windows * 6, dtype=np.float32).reshape(windows, 3, 2)[:, 2:],
    }


def test_all_frames_average_the_observed_ones_of_true_keypoints() -> None:
    rows = {row.name: row for row in summarise(table("single", {"a": single(0.4), "b": single(0.7)}, reads="b"))}
    assert list(rows) == [COPY, CEILING, "a", "b"]
    assert rows["a"].figures["mae_all"] == pytest.approx((0.1 + 0.1 + 0.4) / 3)
    assert rows["a"].figures["mae_predicted"] == pytest.approx(0.4)
    assert rows["a"].figures["ssim_all"] == pytest.approx((0.9 + 0.9 + 0.6) / 3)
    assert rows["a"].figures["energy_distance"] == 0  # the sample of every window is its truth
    assert rows["a"].windows[0]["mae_all"] == [0.2, 0.2] and rows["a"].curves["mae"] == [pytest.approx(0.4)]
    assert rows[COPY].figures["mae_all"] == pytest.approx(0.4) and rows[CEILING].figures["ssim_predicted"] == 0.9
    assert [name for name, row in rows.items() if row.reads_future] == ["b"]


def sampled(errors: list[list[float]], apd: list[float]) -> dict[str, np.ndarray]:
    return {
        "mae": np.array(errors),
        "ssim": np.array(errors),
        "apd": np.array(apd),
        "apd_kept": np.array(apd) / 2,
        "kept": np.array([[0]] * len(errors)),
    }


def test_kept_samples_ratios_and_what_is_at_the_minimum() -> None:
    data = {"a": sampled([[0.1, 0.5], [0.2, 0.6]], [0.3, 0.6]), "b": sampled([[0.3, 0.3], [0.5, 0.5]], [0.0, 0.9])}
    rows = {row.name: row for row in summarise(table("diverse", data))}
    figures = rows["a"].figures
    assert figures["apd_kept"] == pytest.approx((0.15 + 0.3) / 2)  # of the one predicted frame, not of all three
    assert figures["mae_kept_predicted"] == pytest.approx(0.15) and figures["mae_every_predicted"] == pytest.approx(
        0.35
    )
    assert figures["mae_kept"] == pytest.approx((0.1 + 0.1 + 0.15) / 3)
    # Of all clips and both models, MAE kept is 0.1 at least and 0.5 at most, APD kept 0 and 0.45.
    assert rows["a"].ratios[0].ratios.tolist() == [pytest.approx(np.inf), pytest.approx((0.3 / 0.45) / (0.1 / 0.4))]
    assert rows["a"].ratios[0].infinite == 1 and figures["ratio_mean"] == pytest.approx(2.6667, abs=1e-3)
    assert rows["b"].ratios[0].ratios.tolist() == [0, pytest.approx(1)]
    assert "ratio_mean" not in rows[CEILING].figures


def test_a_ratio_is_of_a_clip_whose_windows_are_averaged_first() -> None:
    data = {
        "a": sampled([[0.2, 0.9], [0.4, 0.9], [0.9, 0.9], [0.9, 0.9]], [0.2, 0.6, 0.0, 0.0]),
        "b": sampled([[0.3, 0.9], [0.5, 0.9], [0.4, 0.9], [0.6, 0.9]], [0.8, 0.8, 0.2, 0.2]),
    }
    rows = {row.name: row for row in summarise(table("diverse", data, windows=4, a_clip=2))}
    # Of clips: APD kept 0.2, 0 and 0.4, 0.1; MAE kept of the predicted frame 0.3, 0.9 and 0.4, 0.5.
    assert rows["a"].ratios[0].ratios.tolist() == [pytest.approx(np.inf), pytest.approx(0)]
    assert rows["b"].ratios[0].ratios.tolist() == [
        pytest.approx(1 / (0.1 / 0.6)),
        pytest.approx((0.1 / 0.4) / (0.2 / 0.6)),
    ]


def test_a_third_model_and_baselines_do_not_stretch_the_scale() -> None:
    pair = {
        "vrnn:paper": sampled([[0.1, 0.5], [0.2, 0.6]], [0.3, 0.6]),
        "gru-nf:paper": sampled([[0.3, 0.3], [0.5, 0.5]], [0.0, 0.9]),
    }
    wide = sampled([[9.0, 9.0], [0.0, 0.0]], [9.0, 7.0])
    alone = {row.name: row for row in summarise(table("diverse", pair))}
    rows = {row.name: row for row in summarise(table("diverse", {"climatology": wide, **pair, "direct": wide}))}
    for name in pair:
        assert rows[name].ratios[0].ratios.tolist() == alone[name].ratios[0].ratios.tolist()
    assert rows["vrnn:paper"].scaled_with == "gru-nf:paper" and not rows["direct"].ratios
    assert not rows["climatology"].ratios and "ratio_mean" not in rows["climatology"].figures


def test_pairs_are_of_one_preset_or_the_only_two() -> None:
    both = ["vrnn", "gru-nf:paper", "vrnn:paper", "gru-nf", "direct"]
    assert compared_pairs(both) == (("vrnn", "gru-nf"), ("vrnn:paper", "gru-nf:paper"))
    assert compared_pairs(["gru-nf", "gru-snf"]) == (("gru-nf", "gru-snf"),)
    assert compared_pairs(["vrnn", "gru-nf:paper", "direct"]) == () == compared_pairs(["vrnn"])


def test_one_window_of_one_row_has_no_ratio() -> None:
    rows = summarise(table("diverse", {"a": sampled([[0.1, 0.5]], [0.3])}, windows=1))
    assert not rows[-1].ratios and "ratio_mean" not in rows[-1].figures


def test_windows_for_pictures_are_chosen_by_rank() -> None:
    measured = single(0.0, windows=11)
    measured["mae"] = np.array([5, 3, 9, 1, 0, 2, 4, 6, 7, 8, 10], dtype=float)[:, None]
    assert chosen_windows(table("single", {"repeat": measured}, windows=11)) == {"typical": 0, "lively": 2}


def test_curves_and_densities_are_drawn_small_or_not_at_all(tmp_path: Path) -> None:
    pytest.importorskip("seaborn")
    from PIL import Image

    rows = summarise(table("single", {"a": single(0.4), "b": single(0.7)}))
    error_curves(tmp_path / "curves.jpg", rows, "title")
    data = {"a": sampled([[0.1, 0.5], [0.2, 0.6]], [0.3, 0.6]), "b": sampled([[0.3, 0.3], [0.5, 0.5]], [0.0, 0.9])}
    assert ratio_densities(tmp_path / "ratio.jpg", {"2-1": summarise(table("diverse", data))}, "title")
    for name in ("curves", "ratio"):
        path = tmp_path / f"{name}.jpg"
        assert path.stat().st_size < 150_000 and min(Image.open(path).size) > 200
    assert not ratio_densities(tmp_path / "none.jpg", {"2-1": rows}, "title")
    assert not (tmp_path / "none.jpg").exists()
