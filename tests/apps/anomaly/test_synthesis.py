"""Synthetic defects: what is changed and what is not, and a set on disk that goes on and is never overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinecast.apps.anomaly.defect_set import LABELS, MANIFEST, manifest_of, read_set, write_set
from kinecast.apps.anomaly.scorer import Whitening
from kinecast.apps.anomaly.synthesis import KINDS, SynthesisConfig, least_typical, make, plan, units_of
from kinecast.errors import KinecastError

CONFIG = SynthesisConfig(count=3, observed=4, ahead=5, part=2, samples=6, seed=3)


def normal(dim: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"clip-{i}": torch.randn(12, dim, generator=generator).cumsum(dim=0) for i in range(5)}


class Straight:
    """Futures that go on by the last step, each faster than the one before; the last sample is far away."""

    def __init__(self, series: dict[str, Tensor]) -> None:
        self.whitening = Whitening.of(series)
        self.seeds: list[int] = []

    def futures(self, observed: Tensor, horizon: int, samples: int, seed: int) -> Tensor:
        self.seeds.append(seed)
        ahead = torch.arange(1, horizon + 1)[:, None] * (observed[:, -1] - observed[:, -2])[:, None]
        paces = torch.linspace(1, 1.5, samples)
        paces[-1] = 1 if samples == 1 else 9
        return observed[:, -1:] + paces.view(-1, 1, 1, 1) * ahead


def test_each_kind_is_what_it_says() -> None:
    clips = normal()
    model, units = Straight(clips), units_of(clips).float()
    for each in plan(clips, CONFIG):
        motion = make(model, clips, each, CONFIG)
        seen = clips[each.clip][each.start : each.start + 4]
        assert motion.shape == (9, 4) and each.onset == 4
        torch.testing.assert_close(motion[:4], seen)
        step, ahead = seen[-1] - seen[-2], torch.arange(1.0, 6)[:, None]
        usual = seen[-1] + ahead * step
        part = slice(each.first, (each.first or 0) + 2)
        off = motion[4:] - usual
        if each.kind == "normal":
            torch.testing.assert_close(motion[4:], usual)
        elif each.kind == "tail":
            torch.testing.assert_close(motion[4:], seen[-1] + 9 * ahead * step)
        else:
            assert each.first in (0, 2)
            elsewhere = [i for i in range(4) if i not in (each.first, (each.first or 0) + 1)]
            assert off[:, elsewhere].abs().max() < 1e-5
        if each.kind == "freeze":
            torch.testing.assert_close(motion[4:, part], seen[-1:, part].expand(5, 2))
        if each.kind == "drift":
            assert each.amount is not None and 0.3 <= abs(each.amount) <= 2
            torch.testing.assert_close(off[:, part], each.amount * units[part] * ahead, atol=1e-4, rtol=1e-4)
        if each.kind == "shake":
            assert each.amount is not None and each.period is not None
            swing = each.amount * units[part] * torch.sin(2 * torch.pi * ahead / each.period)
            torch.testing.assert_close(off[:, part], swing, atol=1e-4, rtol=1e-4)


def test_the_first_samples_do_not_depend_on_the_count() -> None:
    clips = normal()
    few = {p.name: p for p in plan(clips, CONFIG)}
    more = {p.name: p for p in plan(clips, SynthesisConfig(5, KINDS, 4, 5, 2, 6, seed=3))}
    assert len(more) == 25 and all(more[name] == each for name, each in few.items())
    others = {p.name: p for p in plan(clips, SynthesisConfig(3, KINDS, 4, 5, 2, 6, seed=4))}
    assert any(others[name] != each for name, each in few.items())


def test_parts_that_moved_are_chosen() -> None:
    """A number that stands still in the clip is no place for a defect that nobody would see."""
    still = {name: torch.cat([motion[:, :1], torch.zeros(12, 3)], dim=1) for name, motion in normal().items()}
    config = SynthesisConfig(20, ("freeze",), 4, 5)
    assert {p.first for p in plan(still, config)} == {0}


def test_the_least_typical_future_is_the_far_one() -> None:
    futures = torch.zeros(5, 3, 2)
    futures[3] = 4
    assert least_typical(futures) == 3


def test_whitening_goes_back() -> None:
    clips = normal()
    whitening = Whitening.of(clips)
    torch.testing.assert_close(whitening.back(whitening(clips["clip-0"])), clips["clip-0"], atol=1e-5, rtol=1e-5)


def test_a_set_goes_on_and_is_never_overwritten(tmp_path: Path) -> None:
    clips, model = normal(), Straight(normal())
    manifest = manifest_of(clips, CONFIG, {"name": "straight"}, clips=False)
    assert write_set(tmp_path, model, clips, CONFIG, manifest) == 15
    motions, rows = read_set(tmp_path)
    assert motions.keys() == rows.keys() and len(rows) == 15 and motions["drift-00001"].shape == (9, 4)
    assert {row["kind"]: row["label"] for row in rows.values()} == {k: str(int(k != "normal")) for k in KINDS}

    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.is_file()}
    assert write_set(tmp_path, model, clips, CONFIG, manifest) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before

    (tmp_path / "motion/tail-00002.npz").unlink()  # as an interruption leaves it, without labels
    (tmp_path / LABELS).unlink()
    with pytest.raises(KinecastError, match="labels.csv, found none"):
        read_set(tmp_path)
    assert write_set(tmp_path, model, clips, CONFIG, manifest) == 1
    for path, (data, _) in before.items():
        assert path.read_bytes() == data or path.suffix == ".npz"
    np.testing.assert_array_equal(read_set(tmp_path)[0]["tail-00002"], motions["tail-00002"])

    larger = SynthesisConfig(4, KINDS, 4, 5, 2, 6, seed=3)
    more = manifest_of(clips, larger, {"name": "straight"}, clips=False)
    assert (
        more == manifest and write_set(tmp_path, model, clips, larger, more) == 5 and len(read_set(tmp_path)[1]) == 20
    )
    assert write_set(tmp_path, model, clips, CONFIG, manifest) == 0 and len(read_set(tmp_path)[1]) == 20


@pytest.mark.parametrize(
    ("change", "words"),
    [({"seed": 9}, "settings, seed"), ({"ahead": 7}, "settings, ahead"), ({"model": "other"}, "model"), ({}, "normal")],
)
def test_another_set_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    clips, model = normal(), Straight(normal())
    write_set(tmp_path, model, clips, CONFIG, manifest_of(clips, CONFIG, {"name": "straight"}, clips=False))
    name = change.pop("model", "straight")
    if not change and name == "straight":
        clips = {**clips, "clip-0": clips["clip-0"] + 1}
    other = SynthesisConfig(**{"count": 3, "observed": 4, "ahead": 5, "part": 2, "samples": 6, "seed": 3, **change})
    with pytest.raises(KinecastError, match=f"these {words}, found another"):
        write_set(tmp_path, model, clips, other, manifest_of(clips, other, {"name": name}, clips=False))


def test_a_folder_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_text("mine")
    clips = normal()
    with pytest.raises(KinecastError, match=r"expected a free folder, found labels\.csv"):
        write_set(tmp_path, Straight(clips), clips, CONFIG, manifest_of(clips, CONFIG, {}, clips=False))
    (tmp_path / MANIFEST).write_text(json.dumps([]))
    with pytest.raises(KinecastError, match="expected the manifest of a defect set"):
        write_set(tmp_path, Straight(clips), clips, CONFIG, manifest_of(clips, CONFIG, {}, clips=False))
    assert (tmp_path / LABELS).read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"count": 0}, "count of at least 1"),
        ({"kinds": ("normal", "leak")}, "some of normal, tail"),
        ({"kinds": ()}, "found none"),
        ({"samples": 1}, "samples of at least 2"),
    ],
)
def test_unfit_settings(config: dict, words: str) -> None:
    with pytest.raises(KinecastError, match=words):
        SynthesisConfig(**config)


def test_unfit_clips() -> None:
    with pytest.raises(KinecastError, match="divides the 4 numbers of a frame, found 3"):
        next(plan(normal(), SynthesisConfig(part=3)))
    with pytest.raises(KinecastError, match="at least 20 frames, found none"):
        next(plan(normal(), SynthesisConfig(observed=20)))
