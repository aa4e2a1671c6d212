"""Evaluation of video from end to end, on small clips and a tiny backbone: what is measured, and that it is resumed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from helpers import draw_frames, write_clip
from kinecast.data.datasets import Clip
from kinecast.data.windows import Horizon, evaluation_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.media.pictures import to_tensor
from kinecast.media.video import read_batches
from kinecast.metrics.jedi import VJEPA, VJEPAConfig
from kinecast.metrics.pixel import apd, mae, ssim
from kinecast.models.checkpoints import save_backbone
from kinecast.research import predictors, rate_units, run, workers
from kinecast.research.predictors import predict
from kinecast.research.rate_units import RateSettings
from kinecast.research.run import RunResult, evaluate
from kinecast.research.study import Job, Row, RunConfig, Study, picked_windows, unit_seed
from kinecast.research.summary import CEILING, COPY, summarise
from kinecast.zoo import load_backbone
from tiny import tiny_fomm

pytest.importorskip("dcor")
pytest.importorskip("scoringrules")
HORIZON = Horizon(3, 2)
TRAINING = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of three people, no two alike, and one that is no clip."""
    folder = tmp_path_factory.mktemp("videos")
    frames = draw_frames(40, (32, 32))
    for i, name in enumerate(("id1_a", "id1_b", "id2_a", "id3_a")):
        write_clip(folder / f"{name}.mp4", frames[5 * i : 5 * i + 12 + i])
    (folder / "id1_damaged.mp4").write_bytes(b"no film at all")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=3), path, {})
    return path


def config(folder: Path, weights: Path, *studies: Study, **changes: Any) -> RunConfig:
    values: dict[str, Any] = {"validate": "id1", "backbone": str(weights), "training": TRAINING, "device": "cpu"}
    return RunConfig(folder, "clips", studies or (single(),), **(values | changes))


def single(**changes: Any) -> Study:
    return replace(Study("single", "reconstruction", (HORIZON,), ("gru",), samples=4, keep=2), **changes)


def diverse(**changes: Any) -> Study:
    return replace(Study("diverse", "transfer", (HORIZON,), (), windows=1, samples=5, keep=2), **changes)


@pytest.fixture(scope="module")
def finished(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    output = tmp_path_factory.mktemp("run")
    return evaluate(config(folder, weights, single(), diverse()), output), output


def equal(first: RunResult, second: RunResult) -> bool:
    pairs = [
        (a[name], b[name])
        for one, two in zip(first.tables, second.tables, strict=True)
        for a, b in zip([one.reference, *one.measured], [two.reference, *two.measured], strict=True)
        for name in {*a, *b}
    ]
    return all(np.array_equal(a, b) for a, b in pairs)


def test_figures_are_those_of_the_plain_pipeline(finished, folder: Path, weights: Path) -> None:
    table = finished[0].tables[0]
    backbone = load_backbone(weights, "cpu", "eager")
    frames = torch.cat(list(read_batches(folder / "id1_a.mp4", (32, 32))))
    motion = backbone.detect(frames)
    state, source = backbone.encode_source(frames[:1]), backbone.detect(frames[:1])
    window = slice(5, 10)  # the second of the first clip
    animated = backbone.animate(state, source, motion[window])
    assert [(w.clip, w.index) for w in table.windows[:3]] == [("id1_a", 0), ("id1_a", 1), ("id1_b", 0)]
    reference = table.reference
    np.testing.assert_allclose(reference["true_mae"][1], mae(animated, frames[window]).numpy(), atol=1e-6)
    np.testing.assert_allclose(reference["true_ssim"][1], ssim(animated, frames[window]).numpy(), atol=1e-5)
    copied = frames[:1].expand(5, -1, -1, -1)
    np.testing.assert_allclose(reference["copy_mae"][1], mae(copied, frames[window]).numpy(), atol=1e-6)
    (repeat, measured) = next(
        (row, m) for (row, _), m in zip(table.rows, table.measured, strict=True) if row.label == "repeat"
    )
    held = backbone.animate(state, source, motion[7:8]).expand(2, -1, -1, -1)
    np.testing.assert_allclose(measured["mae"][1], mae(held, frames[8:10]).numpy(), atol=1e-6)
    vectors = motion.vectors()
    error = (vectors[7] - vectors[8:10]).abs().mean(dim=1)
    np.testing.assert_allclose(measured["keypoint_mae"][1], error.numpy(), atol=1e-6)
    assert measured["crps"][1] == pytest.approx(float(error.mean()), abs=1e-6) and not repeat.seeded


def test_rows_averages_and_marks(finished) -> None:
    table = finished[0].tables[0]
    rows = {row.name: row for row in summarise(table)}
    assert list(rows) == [COPY, CEILING, "repeat", "velocity", "damped", "climatology", "gru"]
    figures, observed = rows["gru"].figures, table.reference["true_mae"][:, :3].mean()
    assert figures["mae_all"] == pytest.approx((3 * observed + 2 * figures["mae_predicted"]) / 5, rel=1e-5)
    assert figures["energy_distance"] > 0 and not rows["gru"].reads_future and not rows["gru"].deviations
    assert len(rows["gru"].curves["mae"]) == 2 and "jedi" not in figures
    assert rows[CEILING].figures["mae_all"] == pytest.approx(float(table.reference["true_mae"].mean()), rel=1e-6)


def test_diverse_figures_are_those_of_videos_held_whole(finished, folder: Path, weights: Path) -> None:
    table = finished[0].tables[1]
    backbone = load_backbone(weights, "cpu", "eager")
    place = next(i for i, (row, _) in enumerate(table.rows) if row.label == "climatology")
    (row, seed), measured, job = table.rows[place], table.measured[place], table.jobs[0]
    assert job.source is not None and job.source.person != job.clip.person
    motion = backbone.detect(torch.cat(list(read_batches(job.clip.path, (32, 32)))))
    windows = evaluation_windows({job.clip.name: motion.vectors()}, HORIZON)
    samples = predict(row, windows, job.windows, 5, unit_seed(seed, job.clip, HORIZON, job.windows))
    picture = job.source.first_frame((32, 32))
    state, source = backbone.encode_source(picture), backbone.detect(picture)
    videos = torch.stack([backbone.animate(state, source, motion.with_vectors(s)) for s in samples[:, 0]])
    truth = backbone.animate(state, source, motion.with_vectors(windows.truth[job.windows[0]]))
    errors = torch.stack([mae(video, truth).mean() for video in videos])
    np.testing.assert_allclose(measured["mae"][0], errors.numpy(), rtol=1e-4)
    assert measured["apd"][0] == pytest.approx(apd(videos), rel=1e-4)
    kept = errors.argsort()[:2]
    assert measured["kept"][0].tolist() == kept.tolist()
    assert measured["apd_kept"][0] == pytest.approx(apd(videos[kept]), rel=1e-4)
    rows = {row.name: row.figures for row in summarise(table)}
    assert rows[CEILING]["mae_all"] == 0  # the truth of transfer is what true keypoints give
    assert rows["climatology"]["apd_every"] == pytest.approx(float(measured["apd"].mean()))
    assert rows["climatology"]["mae_kept"] <= rows["climatology"]["mae_every"]
    assert rows["repeat"]["apd_every"] == 0


def test_every_second_frame_is_what_is_forecast_and_shown(folder: Path, weights: Path, tmp_path: Path) -> None:
    result = evaluate(config(folder, weights, single(every=2)), tmp_path)
    table = result.tables[0]
    assert table.study.title == "single, reconstruction, one frame in 2"
    assert [(w.clip, w.index) for w in table.windows] == [("id1_a", 0), ("id1_b", 0)]  # 9 frames of 12 and of 13
    backbone = load_backbone(weights, "cpu", "eager")
    frames = torch.cat(list(read_batches(folder / "id1_a.mp4", (32, 32))))[:9:2]
    motion = backbone.detect(frames)
    animated = backbone.animate(backbone.encode_source(frames[:1]), motion[:1], motion)
    np.testing.assert_allclose(table.reference["vectors"][0], motion.vectors().numpy(), atol=1e-5)
    np.testing.assert_allclose(table.reference["true_mae"][0], mae(animated, frames).numpy(), atol=1e-5)
    model = load_forecaster_file(result.settings.models / result.models["gru 3-2 seed 0"])
    assert model.about["training"]["every"] == 2


def test_a_damaged_clip_is_left_out_and_said(finished) -> None:
    result = finished[0]
    assert list(result.skipped) == ["id1_damaged"] and "found a file of another kind" in result.skipped["id1_damaged"]
    assert {window.clip for table in result.tables for window in table.windows} == {"id1_a", "id1_b"}


def test_a_run_goes_on_where_it_was_stopped(finished, folder, weights, monkeypatch: pytest.MonkeyPatch) -> None:
    result, output = finished
    done: list[int] = []
    monkeypatch.setattr(workers, "measure_single", _counting(workers.measure_single, done))
    monkeypatch.setattr(predictors, "train_forecaster", _refuse)
    stored = {path: path.stat().st_mtime_ns for path in (output / "cache/motion").iterdir()}
    run = config(folder, weights, single(), diverse())
    assert equal(evaluate(run, output), result) and not done
    assert stored == {path: path.stat().st_mtime_ns for path in (output / "cache/motion").iterdir()}
    lost = result.tables[0].jobs[0].units[2].key
    (output / "units" / f"{lost}.npz").unlink()
    assert equal(evaluate(run, output), result) and done == [1]


def _counting(measure: Callable, done: list[int]) -> Callable:
    def counted(stage: Any, windows: Any, job: Job, *rest: Any) -> Any:
        done.append(len(job.units))
        return measure(stage, windows, job, *rest)

    return counted


def _refuse(*arguments: Any) -> None:
    raise AssertionError("this was there already")


def test_many_workers_give_the_bits_of_one(finished, folder: Path, weights: Path, tmp_path: Path) -> None:
    result = replace(finished[0], tables=finished[0].tables[:1])
    again = evaluate(config(folder, weights, single()), tmp_path, workers=2)
    assert equal(again, result) and list(again.skipped) == ["id1_damaged"]


def test_other_settings_are_other_units(finished, folder: Path, weights: Path, tmp_path: Path) -> None:
    result, output = finished
    keys = {unit.key for table in result.tables for job in table.jobs for unit in job.units}
    assert len(keys) == sum(len(job.units) for table in result.tables for job in table.jobs)
    changed = (single(samples=5), single(windows=1), diverse(keep=3), diverse(mode="reconstruction"))
    other = evaluate(config(folder, weights, *changed), output)
    rows = [unit for table in other.tables for job in table.jobs for unit in job.units if unit.row is not None]
    assert not keys & {unit.key for unit in rows}


def test_what_was_kept_of_frames_that_are_read_otherwise_now_is_not_used(folder, monkeypatch) -> None:
    """A cache outlives a version of kinecast: of one that showed the same file otherwise nothing may be taken."""
    settings: Any = SimpleNamespace(motions=folder, weights="w", engine="eager", crop="center", relative=False)
    settings.jedi_weights = None
    clip = Clip("a", "id1", folder / "id1_a.mp4").hashed()
    job = Job(single(), HORIZON, clip, None, (0,), ())
    rates: Any = RateSettings(
        *("m", "w", "cpu", "eager", "exact", "generic", "", ("hold",), 0, ("mae",), None, 4, "center", None, None),
        units=folder,
    )

    def keys() -> list[Any]:
        return [workers.motion_path(settings, clip), run._key(job, None, 0, settings), rate_units._common(rates)]

    before = keys()
    assert keys() == before
    for module in (workers, run, rate_units):
        monkeypatch.setattr(module, "READING", module.READING + 1)
    assert all(now != then for now, then in zip(keys(), before, strict=True))


def test_seeds_give_spread_to_rows_with_randomness_alone(folder: Path, weights: Path, tmp_path: Path) -> None:
    result = evaluate(config(folder, weights, single(windows=1), seeds=(0, 1)), tmp_path)
    rows = {row.name: row for row in summarise(result.tables[0])}
    assert rows["climatology"].deviations["crps"] > 0 and set(rows["climatology"].windows) == {0, 1}
    assert not rows["damped"].deviations and set(rows["damped"].windows) == {0}


def test_an_honest_row_does_not_see_the_future(tmp_path: Path) -> None:
    path = tmp_path / "gru.safetensors"
    save_forecaster(build_forecaster("gru", 4), path)
    row = Row("gru", "forecaster", path, "x", seeded=True)
    frames = torch.randn(20, 4)
    changed = frames.clone()
    changed[8:10], changed[15:] = 9.0, -9.0  # all but the observed frames of the second window of 5, and later ones
    forecasts = [predict(row, evaluation_windows({"a": f}, HORIZON), [1], 3, 0) for f in (frames, changed)]
    assert torch.equal(*forecasts)
    previous = predict(replace(row, kind="previous", path=None), evaluation_windows({"a": frames}, HORIZON), [1], 3, 0)
    assert torch.equal(previous[0, 0], frames[7:9])


def test_jedi_where_the_weights_are(folder: Path, weights: Path, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    network = VJEPA(VJEPAConfig(width=12, depth=1, heads=2, patch=16, frames=4, size=32)).eval()
    monkeypatch.setattr(workers, "open_vjepa", lambda named: network if named == tmp_path else None)
    studies = [single(mode=mode, windows=1, models=()) for mode in ("reconstruction", "transfer")]
    result = evaluate(config(folder, weights, *studies, jedi_weights=tmp_path), tmp_path)
    reconstruction, transfer = ({r.name: r.figures["jedi"] for r in summarise(table)} for table in result.tables)
    assert transfer[CEILING] == pytest.approx(0, abs=1e-9) and reconstruction[CEILING] > 0
    assert transfer["repeat"] > 0 and transfer[COPY] > 0


def test_short_clips_are_said(folder: Path, weights: Path, tmp_path: Path) -> None:
    study = single(horizons=(Horizon(6, 7),), models=())
    result = evaluate(config(folder, weights, study), tmp_path)
    assert result.notes[-1] == "6-7: test clips of fewer than 13 frames are not in it: id1_a"
    assert {window.clip for window in result.tables[0].windows} == {"id1_b"}


def test_windows_are_picked_evenly() -> None:
    assert picked_windows(5, None) == (0, 1, 2, 3, 4) == picked_windows(5, 9)
    assert picked_windows(9, 3) == (1, 4, 7) and picked_windows(8, 1) == (4,)


def test_relative_transfer_starts_at_the_source(folder: Path, weights: Path, tmp_path: Path) -> None:
    study = single(mode="transfer", windows=1, models=())
    absolute, relative = (
        evaluate(config(folder, weights, study, relative=which), tmp_path).tables[0] for which in (False, True)
    )
    assert not np.allclose(absolute.reference["copy_mae"], relative.reference["copy_mae"])


def test_sources_of_a_folder(folder: Path, weights: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    from kinecast.media.pictures import write_image

    write_image(sources / "face.png", to_tensor(draw_frames(1, (32, 32))))
    study = single(mode="transfer", windows=1, models=())
    result = evaluate(config(folder, weights, study, sources=sources), tmp_path)
    assert {window.source for window in result.tables[0].windows} == {"face.png"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizons": (Horizon(9, 9),)}, "the longest clip to train on has 15 frames; horizon 9-9 needs at least 18"),
        ({"models": ("gru:huge",)}, "expected a preset of"),
        ({"models": ("lstm",)}, "expected one of repeat"),
        ({"models": ("missing.safetensors",)}, "found nothing there"),
    ],
)
def test_what_cannot_be_measured_is_refused(finished, folder, weights, changes: dict, words: str) -> None:
    with pytest.raises(KinecastError, match=words):
        evaluate(config(folder, weights, single(**changes)), finished[1])


def test_configs_that_make_no_sense_are_refused(folder: Path, weights: Path) -> None:
    with pytest.raises(KinecastError, match="found 0 and 1"):
        single(samples=0, keep=1)
    with pytest.raises(KinecastError, match=r"found a \(file\) twice"):
        single(models=("x/a.safetensors", "y/a.safetensors"))
    with pytest.raises(KinecastError, match="add --released"):
        config(folder, weights, protocol="as-released")
    with pytest.raises(KinecastError, match="drop --relative"):
        config(folder, weights, relative=True)
    with pytest.raises(KinecastError, match="at least 1, found 0"):
        evaluate(config(folder, weights), folder, workers=0)


def test_released_weights_are_of_other_motion_than_this(folder, weights, tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="expected FOMM motion of 60 numbers per frame"):
        evaluate(config(folder, weights, protocol="as-released", released=tmp_path), tmp_path)
