"""Folders of sources and clips: an output each, resumed, and never replaced unless asked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kinecast import KinecastError
from kinecast.apps.portrait import batch
from kinecast.apps.portrait.batch import is_batch, plan, run_batch
from kinecast.apps.portrait.batch_worker import BatchSettings, PortraitWorker
from kinecast.apps.portrait.options import PortraitOptions
from kinecast.jobs.pool import WorkerPool
from kinecast.media.pictures import write_image
from kinecast.models.checkpoints import save_backbone

OPTIONS = PortraitOptions(size=64, limit=2)


@pytest.fixture
def people(tmp_path: Path, group: np.ndarray) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    write_image(folder / "b2.png", group[:, :280])
    write_image(folder / "b10.png", group[:, 280:])
    return folder


def test_names_of_outputs(people, clip, tmp_path):
    out = tmp_path / "out"
    assert [task.output.name for task in plan(people, clip, out)] == ["b2.mp4", "b10.mp4"]
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("x.mp4", "y.mp4"):
        shutil.copy(clip, clips / name)
    names = [task.output.name for task in plan(people, clips, out, ".webm")]
    assert names == ["b2_x.webm", "b10_x.webm", "b2_y.webm", "b10_y.webm"]
    assert [task.output.name for task in plan(people / "b2.png", clips, out)] == ["x.mp4", "y.mp4"]
    assert is_batch(people, clip) and is_batch(people / "b2.png", clips) and not is_batch(people / "b2.png", clip)
    assert not is_batch(people / "b2.png", people)  # a folder of pictures is a clip


def test_outputs_of_one_name(people, clip, tmp_path, group):
    write_image(people / "b2.jpg", group)
    with pytest.raises(KinecastError, match="expected outputs of different names, found two of b2.mp4"):
        plan(people, clip, tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(KinecastError, match="expected a folder of pictures, found none in it"):
        plan(tmp_path / "none", clip, tmp_path / "out")


def test_a_batch_resumes(model, people, clip, tmp_path, monkeypatch):
    lines: list[str] = []
    tasks = plan(people, clip, tmp_path / "out")
    assert run_batch(model, tasks, OPTIONS, "tiny", say=lines.append) == 2
    assert all(
        task.output.is_file() and json.loads(task.sidecar.read_text())["report"]["frames"] == 2 for task in tasks
    )
    tasks[1].output.unlink()  # as after an interruption
    before, lines[:] = tasks[0].output.stat().st_mtime_ns, []
    assert run_batch(model, tasks, OPTIONS, "tiny", say=lines.append) == 1
    assert lines[:2] == ["1 of 2 outputs exist already", "[1/1] b10.png, driven by lean.mp4"]
    assert tasks[0].output.stat().st_mtime_ns == before
    monkeypatch.setattr(batch, "make", lambda *a: pytest.fail("nothing was left to do"))
    assert run_batch(model, tasks, OPTIONS, "tiny") == 0


def test_what_was_made_otherwise_is_replaced_only_if_asked(model, people, clip, tmp_path):
    tasks = plan(people, clip, tmp_path / "out")[:1]
    run_batch(model, tasks, OPTIONS, "tiny")
    before = tasks[0].output.read_bytes()
    for options, name in ((PortraitOptions(size=80, limit=2), "tiny"), (OPTIONS, "another")):
        with pytest.raises(KinecastError, match="expected no such file, or one with the same inputs and options"):
            run_batch(model, tasks, options, name)
    assert tasks[0].output.read_bytes() == before
    assert run_batch(model, tasks, PortraitOptions(size=80, limit=2), "tiny", overwrite=True) == 1
    assert tasks[0].output.read_bytes() != before


def test_one_that_fails_does_not_stop_the_others(model, people, clip, tmp_path):
    write_image(people / "a.png", np.full((80, 80, 3), 120, np.uint8))
    lines: list[str] = []
    tasks = plan(people, clip, tmp_path / "out")
    with pytest.raises(KinecastError, match="1 of 3 could not be animated, a.mp4 first"):
        run_batch(model, tasks, OPTIONS, "tiny", say=lines.append)
    assert [task.output.exists() for task in tasks] == [False, True, True]
    assert any(line.startswith("a.mp4: source: expected a face") for line in lines)


def test_two_processes_make_what_one_makes(model, people, clip, tmp_path):
    weights = tmp_path / "tiny.safetensors"
    save_backbone(model, weights, {})
    write_image(people / "a.png", np.full((80, 80, 3), 120, np.uint8))
    here, there = plan(people, clip, tmp_path / "here"), plan(people, clip, tmp_path / "there")
    with pytest.raises(KinecastError, match="1 of 3 could not be animated, a.mp4 first"):
        run_batch(model, here, OPTIONS, str(weights))
    lines: list[str] = []
    with WorkerPool(PortraitWorker(BatchSettings(str(weights), "cpu", "eager", "exact", OPTIONS)), workers=2) as pool:
        with pytest.raises(KinecastError, match="1 of 3 could not be animated, a.mp4 first"):
            run_batch(model, there, OPTIONS, str(weights), say=lines.append, pool=pool)
        assert run_batch(model, there[1:], OPTIONS, str(weights), say=lines.append, pool=pool) == 0
    for one, other in list(zip(here, there, strict=True))[1:]:
        assert one.output.read_bytes() == other.output.read_bytes()
        assert json.loads(other.sidecar.read_text())["report"]["frames"] == 2
    assert not there[0].output.exists() and not there[0].sidecar.exists()
    assert sum(line.startswith("source: face 1 at") for line in lines) == 2
    assert any(line.startswith("a.mp4: source: expected a face") for line in lines)
    assert "2 of 2 outputs exist already" in lines


def test_an_input_is_never_replaced(model, people, clip, tmp_path):
    shutil.copy(clip, people / "c.mp4")
    tasks = plan(people, people / "c.mp4", people)
    with pytest.raises(KinecastError, match="expected an output that is not an input"):
        run_batch(model, tasks, OPTIONS, "tiny", overwrite=True)
