"""One training on two processes, started by the real torchrun from the command line: the loss curve is that of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import make_clip
from kinecast.errors import KinecastError
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone
from kinecast.training.checkpoint import load_state

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")
# At this rate rounding errors, which Adam multiplies, stay small for as many steps; a slice's own batch statistics
# alone would change the first loss by more than a hundredth.
GIVEN, STEPS, FIRST, ALL = 2, 10, 1e-5, 1e-2
RECIPE = """
data = ["{clips}"]
output = "{output}"
steps = {steps}
batch_size = 4
learning_rate = 2e-4
decay_from = 1.0
log_every = 1
checkpoint_every = 5
accelerator = "cpu"
[model]
frame_size = [32, 32]
num_keypoints = 3
detector = {{ block_expansion = 4, num_blocks = 2, max_features = 16, scale_factor = 0.5 }}
dense_motion = {{ block_expansion = 4, num_blocks = 2, max_features = 16, scale_factor = 0.5 }}
generator = {{ block_expansion = 4, max_features = 16, num_down_blocks = 2, num_bottleneck_blocks = 1 }}
[loss]
perceptual = 0.0
pixel = 10.0
equivariance_value = 1.0
equivariance_jacobian = 1.0
"""


def recipe(folder: Path, clips: Path, name: str, steps: int = STEPS) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(clips=clips, output=folder / name, steps=steps))
    return path


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "kinecast"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [*command, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)


def curve(run: Path) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"] if tag.startswith("loss/")}


def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path, record_property) -> None:
    """The two go on from a checkpoint of one process after its second step: only the first of them reads it."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("id1_a", "id2_a"):
        make_clip(clips / f"{name}.mp4", frames=12)
    for steps in (GIVEN, STEPS):
        train_backbone(BackboneTrainingConfig.read(recipe(tmp_path, clips, "one", steps)), lambda line: None)
        if steps == GIVEN:
            shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("events*"))
    done = torchrun("train", "backbone", recipe(tmp_path, clips, "two"), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{}\n"  # of one process alone; nobody is validated on, so there are no figures
    assert [line for line in done.stderr.splitlines() if line.startswith("resuming")] == [f"resuming from step {GIVEN}"]
    wanted, found = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(wanted) == len(found) == 3
    worst = 0.0
    for name, values in found.items():
        one = wanted[name][GIVEN:]
        assert len(values) == len(one) == STEPS - GIVEN
        assert values[0] == pytest.approx(one[0], rel=FIRST), name
        assert values == pytest.approx(one, rel=ALL), name
        worst = max(worst, *(abs(a / b - 1) for a, b in zip(values, one, strict=True)))
    line = f"losses of two processes and of one, step by step over {STEPS - GIVEN} steps: at most {worst:.1e} apart"
    record_property("measured", line)
    models = [load_state(tmp_path / run / "last.ckpt")["model"] for run in ("one", "two")]
    for name, tensor in models[0].items():
        torch.testing.assert_close(models[1][name], tensor, rtol=0.02, atol=2e-3, msg=name)


def test_processes_must_share_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    config = BackboneTrainingConfig.read(recipe(tmp_path, tmp_path, "run"))
    for local, world, words in (
        ("3", "3", "3 processes can share, found 4"),
        ("2", "3", "found 3 in total and 2 here"),
    ):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        monkeypatch.setenv("WORLD_SIZE", world)
        with pytest.raises(KinecastError, match=words):
            train_backbone(config)
