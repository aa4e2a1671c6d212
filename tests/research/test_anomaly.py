"""Figures of the anomaly table on scores that are known."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from kinecast.apps.anomaly import Detector, Rates
from kinecast.research.anomaly import Anomalies, auroc, cells, draw_table, intervals, measure, onsets_of, paired, plain


class First:
    """The score of a frame is its first number; frame 0 has none."""

    def score_series(self, series: Tensor) -> dict[str, np.ndarray]:
        scores = series[:, 0].double().numpy().copy()
        scores[0] = np.nan
        return {"first": scores}

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Mapping[str, float]]:
        return ({"first": float(frame[0])} if t else {} for t, frame in enumerate(frames))


def clips(count: int, level: float = 0.0) -> dict[str, Tensor]:
    return {f"{level}-{i}": torch.linspace(0, 1, 10)[:, None] + level + i / 100 for i in range(count)}


def test_auroc_is_sklearns() -> None:
    random = np.random.default_rng(0)
    positive, negative = random.integers(0, 6, 40).astype(float), random.integers(-2, 5, 70).astype(float)
    truth = np.r_[np.ones(40), np.zeros(70)]
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(truth, np.r_[positive, negative]))
    assert auroc(np.array([-math.inf]), np.array([-math.inf, 0.0])) == 0.25


def test_figures_of_known_scores(tmp_path: Path) -> None:
    scorer = First()
    detector = Detector.calibrate(scorer, clips(19), Rates(0.05, 0.05))
    assert detector.thresholds["first"].clip == pytest.approx(1.18)
    jumps = {f"jump-{i}": torch.cat([torch.zeros(4, 1), torch.full((6, 1), 0.5 + i)]) for i in range(2)}
    late = {"late": torch.cat([torch.full((6, 1), 9.0), torch.zeros(1, 1), torch.full((3, 1), 5.0)])}
    kinds = [Anomalies("jump", jumps, dict.fromkeys(jumps, 4)), Anomalies("late", late, {"late": 6})]
    table = measure([scorer], [detector], clips(10) | clips(10, level=0.5), kinds)
    assert table["first"]["normal"]["false_clips"] == 0.5
    assert table["first"]["jump"]["found"] == 0.5 and table["first"]["jump"]["delay"] == 0
    assert table["first"]["late"] == {"auroc_frames": pytest.approx(0.75), "auroc_clips": 1.0, "found": 1.0, "delay": 1}

    failing = Anomalies("late", late, {"late": 6}, {"late": 9})  # the alarm is one frame after the onset
    announced = measure([scorer], [detector], clips(10), [failing])["first"]["late"]
    assert (announced["delay"], announced["lead"], announced["warned"]) == (1, 2, 1)

    both = intervals([table, table])
    assert both["first"]["late"]["delay"].mean == 1 and both["first"]["late"]["delay"].half == 0
    assert str(both["first"]["jump"]["found"]) == "0.500 ± 0.000"
    assert str(intervals([table])["first"]["jump"]["found"]) == "0.500"
    assert cells(both, "false_clips") == (["score", "normal"], [["first", "0.500 ± 0.000"]])
    assert json.loads(json.dumps(plain(intervals([table])), allow_nan=False))
    draw_table(tmp_path / "auroc.png", {"arms": both})
    assert (tmp_path / "auroc.png").stat().st_size > 1000


def test_intervals_are_students() -> None:
    runs = [{"s": {"k": {"x": value}}} for value in (1.0, 2.0, 3.0, math.nan)]
    found = intervals(runs)["s"]["k"]["x"]
    assert (found.mean, found.runs) == (2.0, 3)
    assert found.half == pytest.approx(4.302653 * 1.0 / math.sqrt(3), rel=1e-5)


def test_differences_are_paired_within_a_run() -> None:
    runs = [{"a": {"k": {"x": i + 0.1}}, "b": {"k": {"x": float(i)}}} for i in range(4)]
    found = paired(runs, "a", "b", "k", "x")
    assert found.mean == pytest.approx(0.1) and found.half == pytest.approx(0, abs=1e-9) and found.runs == 4


def test_onsets() -> None:
    assert onsets_of({"a": torch.tensor([[0.0], [0], [1], [1]])}) == {"a": 2}
