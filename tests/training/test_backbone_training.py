"""Training runs from folder to weights: what is written, what is learned, and that a kill changes nothing."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import draw_frames, make_clip, write_clip
from kinecast import load_backbone
from kinecast.errors import KinecastError
from kinecast.machine.process_state import flushes_denormals
from kinecast.media.video import read_image
from kinecast.models.checkpoints import load_backbone_file, save_backbone
from kinecast.models.fomm import FOMMConfig
from kinecast.training.backbone import BackboneTrainingConfig, compact_recipe, learning_rate_factor, train_backbone
from kinecast.training.backbone_config import changed_settings
from kinecast.training.checkpoint import load_state
from tiny import COMPACT, tiny_fomm, tiny_settings
from tiny_backbones import FACE_SETTINGS, TPS_SETTINGS, tiny_tps

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two persons, three clips; `id2` is validated on."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("id1_a", "id1_b", "id2_a"):
        make_clip(folder / f"{name}.mp4", frames=12)
    return folder


def values(clips: Path, output: Path, **changes) -> dict:
    settings = {
        "data": [str(clips)],
        "output": str(output),
        "validate": "id2",
        "model": tiny_settings(num_keypoints=3),
        "loss": {"perceptual": 0.0, "pixel": 10.0, "equivariance_value": 1.0, "equivariance_jacobian": 1.0},
        "steps": 7,
        "batch_size": 2,
        "checkpoint_every": 3,
        "validate_every": 5,
        "validation_frames": 3,
        "accelerator": "cpu",
    }
    return settings | changes


def configured(clips: Path, output: Path, **changes) -> BackboneTrainingConfig:
    return BackboneTrainingConfig.from_dict(values(clips, output, **changes))


@pytest.fixture(scope="module")
def straight(clips, tmp_path_factory) -> tuple[Path, list[str], dict[str, float]]:
    """A run without a stop: its folder, its log, its figures."""
    lines: list[str] = []
    output = tmp_path_factory.mktemp("runs") / "straight"
    figures = train_backbone(configured(clips, output), lines.append)
    return output, lines, figures


def flat(state: dict | list, prefix: str = "") -> dict:
    """Return nested dicts and lists as one dict of leaves."""
    leaves: dict = {}
    for key, value in enumerate(state) if isinstance(state, list) else state.items():
        name = f"{prefix}{key}"
        leaves |= flat(value, name + ".") if isinstance(value, dict | list) else {name: value}
    return leaves


def assert_same_state(found: Path, wanted: Path) -> None:
    """Weights, optimiser, moving average and step, bit for bit."""
    a, b = (flat(load_state(folder / "last.ckpt")) for folder in (found, wanted))
    assert list(a) == list(b)
    different = [
        name
        for name in b
        if not (torch.equal(a[name], b[name]) if isinstance(b[name], torch.Tensor) else a[name] == b[name])
    ]
    assert not different
    models = [load_backbone_file(folder / "model.safetensors").state_dict() for folder in (found, wanted)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[1])


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_without_a_recipe_the_bundled_design_is_trained_by_the_recipe_of_the_bundled_model():
    own = compact_recipe(data=("clips",))
    recipe = BackboneTrainingConfig.read(Path(__file__).parents[2] / "recipes" / "face-128.toml")
    assert own.model == recipe.model == load_backbone("face-128", "cpu", engine="eager").config
    assert own.loss == recipe.loss
    assert own.augmentation == recipe.augmentation


def test_a_run_leaves_its_config_state_figures_picture_and_weights(straight, clips):
    output, lines, figures = straight
    names = {path.name for path in output.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        "config.json",
        "frames",
        "last.ckpt",
        "metrics.json",
        "model.safetensors",
        "validation-0000005.jpg",
        "validation-0000007.jpg",
    }
    config = configured(clips, output)
    saved = json.loads((output / "config.json").read_text())
    assert saved == json.loads(json.dumps(asdict(config)))
    assert BackboneTrainingConfig.from_dict(saved) == config

    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics == {"step": 7, **figures}
    assert set(figures) == {"mae", "mae_copy", "mae_ratio", "ssim", "ssim_copy"}
    assert figures["mae_ratio"] == pytest.approx(figures["mae"] / figures["mae_copy"])
    assert 0 < figures["mae_copy"] < figures["mae"] < 1  # seven steps do not beat copying
    picture = read_image(output / "validation-0000007.jpg", crop="none")
    assert picture.shape == (1, 3, 64, 7 * 64 + 6 * 2)  # the source, and three pairs of true and rebuilt

    model = load_backbone_file(output / "model.safetensors")
    assert model.config == config.model
    average = load_state(output / "last.ckpt")["average"]
    for name, tensor in model.state_dict().items():
        wanted = average[name]
        assert torch.equal(tensor, wanted.half().float() if wanted.is_floating_point() else wanted)
    assert any(line.startswith("step 7  validation mae_ratio ") for line in lines)
    assert lines[-1] == f"wrote {output / 'model.safetensors'}"


def test_the_same_command_on_a_finished_run_trains_no_further(straight, clips):
    output, _, figures = straight
    before = (output / "last.ckpt").read_bytes()
    lines: list[str] = []
    assert train_backbone(configured(clips, output), lines.append) == figures
    assert lines[0] == "resuming from step 7"
    assert (output / "last.ckpt").read_bytes() == before


def test_every_parameter_moves(clips, tmp_path):
    start = tiny_fomm(num_keypoints=3)
    save_backbone(start, tmp_path / "start.safetensors", {})
    config = configured(
        clips, tmp_path / "run", initialise=str(tmp_path / "start.safetensors"), steps=2, validate="", average=0.0
    )
    lines: list[str] = []
    train_backbone(config, lines.append)
    count = len(start.state_dict())
    kept = sum(name.endswith("down.weight") for name in start.state_dict())
    assert lines[0] == f"initialised {count - kept} of {count} tensors from {tmp_path / 'start.safetensors'}"
    trained = load_state(tmp_path / "run" / "last.ckpt")["model"]
    for name, parameter in start.named_parameters():
        moved = (trained[name] - parameter).abs().max().item()
        assert moved <= 2.1 * 2e-4 + 1e-6, "Adam moves a weight by at most its learning rate"
        # A bias before batch normalisation, or a constant on a whole heatmap, has no effect and hardly a gradient.
        assert moved > 0 or name.endswith(("conv.bias", "conv1.bias", "kp.bias")), name
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_frozen_motion_stays_as_initialised(clips, tmp_path):
    start = tiny_fomm(num_keypoints=3)
    save_backbone(start, tmp_path / "start.safetensors", {})
    config = configured(
        clips,
        tmp_path / "run",
        initialise=str(tmp_path / "start.safetensors"),
        steps=2,
        train_motion=False,
        validate="",
    )
    train_backbone(config, lambda line: None)
    trained = load_state(tmp_path / "run" / "last.ckpt")["model"]
    for name, tensor in start.state_dict().items():
        motion = name.startswith(("kp_detector.", "generator.dense_motion_network."))
        if motion:
            assert torch.equal(trained[name], tensor), name
        elif name.endswith(("conv.weight", "running_mean")):
            assert not torch.equal(trained[name], tensor), name


def test_training_lowers_the_error(clips, tmp_path):
    """The clips are alike, so what is learned of one person holds for the other."""
    options = {"learning_rate": 1e-2, "batch_size": 2, "average": 0.9, "augmentation": {"flip": False, "hue": 0.0}}
    loss = {"perceptual": 0.0, "pixel": 10.0}
    model = tiny_settings(num_keypoints=3, generator={"block_expansion": 8, "num_down_blocks": 1, "max_features": 16})
    figures = []
    for steps in (1, 50):
        config = configured(
            clips, tmp_path / str(steps), steps=steps, validate_every=50, loss=loss, model=model, **options
        )
        figures.append(train_backbone(config, lambda line: None))
    assert figures[1]["mae"] < 0.85 * figures[0]["mae"]
    assert figures[1]["ssim"] > figures[0]["ssim"]


# --- stops ----------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


ADVERSARIAL = {"perceptual": 0.0, "pixel": 10.0, "adversarial": 1.0}


@pytest.mark.parametrize("changes", [{}, {"loss": ADVERSARIAL, "model": tiny_settings(single_jacobian_map=True)}])
def test_a_run_that_was_stopped_ends_in_the_same_bits(clips, tmp_path, straight, changes):
    wanted = straight[0]
    if changes:
        wanted = tmp_path / "straight"
        train_backbone(configured(clips, wanted, **changes), lambda line: None)
    config = configured(clips, tmp_path / "stopped", **changes)

    def stop(line: str) -> None:
        if line.startswith("step 5  validation"):
            raise Stop

    with pytest.raises(Stop):
        train_backbone(config, stop)
    assert load_state(tmp_path / "stopped" / "last.ckpt")["step"] == 3
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    lines: list[str] = []
    train_backbone(config, lines.append)
    assert lines[0] == "resuming from step 3"
    assert_same_state(tmp_path / "stopped", wanted)


CHILD = """
import json, os, signal, sys, torch
from kinecast.machine.process_state import flushes_denormals
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone

def log(line):
    print(line, flush=True)
    if line.startswith("step 5  validation"):
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
train_backbone(BackboneTrainingConfig.from_dict(json.loads(sys.argv[1])), log)
"""


def test_kill_9_between_two_checkpoints_changes_nothing(clips, tmp_path, straight):
    output = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(values(clips, output))], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_state(output / "last.ckpt")["step"] == 3
    assert not [name for name in os.listdir(output) if name.startswith(".")], "no half-written file"
    train_backbone(configured(clips, output), lambda line: None)
    assert_same_state(output, straight[0])


def test_a_half_written_checkpoint_does_not_count(clips, tmp_path):
    """What a kill in the middle of writing leaves: a hidden part beside the good file."""
    output = tmp_path / "run"
    train_backbone(configured(clips, output, steps=3), lambda line: None)
    (output / ".last.abc.ckpt").write_bytes((output / "last.ckpt").read_bytes()[:1000])
    (output / "model.safetensors").unlink()
    lines: list[str] = []
    train_backbone(configured(clips, output), lines.append)
    assert lines[0] == "resuming from step 3"
    assert load_state(output / "last.ckpt")["step"] == 7
    assert (output / "model.safetensors").exists()


def test_a_damaged_checkpoint_is_said_in_one_line(clips, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "last.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(KinecastError) as error:
        train_backbone(configured(clips, output), lambda line: None)
    assert str(error.value).startswith(f"{output / 'last.ckpt'}: expected a training checkpoint, found ")
    assert "\n" not in str(error.value)


# --- persons --------------------------------------------------------------------------------------------------------


def test_training_never_sees_a_validation_person(tmp_path):
    """Other pictures of the person who is kept out give the same weights; other pictures of a trained one do not."""
    weights = {}
    frames = draw_frames(6)
    for name, people in {
        "as is": {"id1_a": frames, "id2_a": frames},
        "other validation": {"id1_a": frames, "id2_a": 255 - frames},
        "other training": {"id1_a": 255 - frames, "id2_a": frames},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        for clip, pixels in people.items():
            write_clip(folder / f"{clip}.mp4", pixels)
        train_backbone(configured(folder, tmp_path / f"run {name}", steps=2), lambda line: None)
        state = load_state(tmp_path / f"run {name}" / "last.ckpt")["model"]
        weights[name] = torch.cat([tensor.flatten().double() for tensor in state.values()])
    assert torch.equal(weights["as is"], weights["other validation"])
    assert not torch.equal(weights["as is"], weights["other training"])


@pytest.mark.parametrize("pattern, count", [("id9", 0), ("id", 3)])
def test_a_split_must_leave_something_on_both_sides(clips, tmp_path, pattern, count):
    with pytest.raises(KinecastError) as error:
        train_backbone(configured(clips, tmp_path / "run", validate=pattern), lambda line: None)
    assert str(error.value) == (
        f"validate = {pattern!r}: expected it to match some persons and not all, found {count} of 3 clips; "
        "persons are id1, id2"
    )


# --- configs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"optimiser": "sgd"}, "training config: "),
        ({"loss": {"l2": 1.0}}, "training config: "),
        ({"augmentation": {"rain": 0.1}}, "training config: "),
        ({"model": {"wings": 2}}, "FOMM config: "),
        ({"augmentation": {"hue": 2.0}}, "augmentation: expected hue in [0, 1), found 2.0"),
        ({"steps": 0}, "training config: expected steps above 0, found 0"),
        ({"learning_rate": -1.0}, "training config: expected learning_rate above 0, found -1.0"),
        ({"data": []}, "training config: expected data, a list of folders of clips, found none"),
        ({"validate": "id("}, "training config: expected validate to be a regular expression, found 'id('"),
        (
            {"model": tiny_settings(frame_size=(60, 64))},
            "training config: expected a frame_size in multiples of 8 for this model, found 60x64",
        ),
        ({"devices": 0}, "training config: expected devices above 0, found 0"),
        (
            {"devices": 2, "batch_size": 3},
            "training config: expected a batch_size that 2 devices can share, found 3",
        ),
    ],
)
def test_configs_that_are_refused(tmp_path, changes, message):
    with pytest.raises(KinecastError) as error:
        configured(tmp_path, tmp_path, **changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    if message in ("training config: ", "FOMM config: "):
        [name] = [key for key in ("optimiser", "l2", "rain", "wings") if key in json.dumps(changes)]
        assert f"'{name}'" in str(error.value)


def test_configs_are_read_from_toml(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        'data = ["clips"]\nbetas = [0.9, 0.99]\n[model]\nframe_size = [128, 256]\n'
        "detector = { num_blocks = 3 }\n[loss]\nscales = [1.0, 0.5]\n[augmentation]\nhue = 0.0\n"
    )
    config = BackboneTrainingConfig.read(path)
    assert (config.data, config.betas, config.loss.scales) == (("clips",), (0.9, 0.99), (1.0, 0.5))
    assert isinstance(config.model, FOMMConfig)
    assert (config.model.frame_size, config.model.detector.num_blocks, config.augmentation.hue) == ((128, 256), 3, 0.0)
    path.write_text("data = [\n")
    with pytest.raises(KinecastError) as error:
        BackboneTrainingConfig.read(path)
    assert str(error.value).startswith(f"{path}: expected TOML: ")
    with pytest.raises(KinecastError, match="found nothing there"):
        BackboneTrainingConfig.read(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", ["model", "seed", "validate"])
def test_the_folder_of_another_run_is_refused(straight, clips, name):
    output, _, _ = straight
    other = {"model": tiny_settings(num_keypoints=4), "seed": 1, "validate": "id1"}[name]
    before = (output / "config.json").read_bytes()
    with pytest.raises(KinecastError) as error:
        train_backbone(configured(clips, output, **{name: other}), lambda line: None)
    assert str(error.value) == (
        f"{output}: expected the run of this config, found one with another {name}: name a new output folder"
    )
    assert (output / "config.json").read_bytes() == before


OTHERS = {
    "person": "^(id[0-9]+_.)",
    "crop": "none",
    "balance": 0.1,
    "every": 2,
    "far_pairs": 0.5,
    "train_motion": False,
    "initialise": "face-128",
    "betas": [0.9, 0.999],
    "dropout_splines": 0.1,
    "backbone": "tps",
    "loss": {"perceptual": 0.0, "pixel": 10.0, "adversarial": 1.0},
    "augmentation": {"flip": False},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_run_learns_may_not_change_when_it_is_resumed(straight, clips, name):
    output = straight[0]
    changes = {name: OTHERS[name]} | ({"model": TPS_SETTINGS} if name == "backbone" else {})
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    with pytest.raises(KinecastError) as error:
        train_backbone(configured(clips, output, **changes), lambda line: None)
    said = str(error.value)
    assert said.startswith(f"{output}: expected the run of this config, found one with another ")
    assert said.endswith(": name a new output folder") and "\n" not in said
    assert {"loss": "loss.adversarial", "augmentation": "augmentation.flip"}.get(name, name) in said
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before


def test_every_setting_is_said_to_be_changeable_or_not(straight, clips):
    """A setting that a later version adds is refused until somebody says otherwise."""
    saved = asdict(configured(clips, straight[0]))
    changeable = {
        *("output", "cache", "steps", "batch_size", "learning_rate", "warmup_steps", "decay_from", "average"),
        *("precision", "accelerator", "devices"),
        *("log_every", "checkpoint_every", "validate_every", "validation_frames"),
    }
    values = {
        "output": "elsewhere",
        "cache": "elsewhere",
        "precision": "bf16-mixed",
        "accelerator": "auto",
        "decay_from": 0.9,
        "average": 0.5,
    }
    for name in changeable:
        changed = BackboneTrainingConfig.from_dict(saved | {name: values.get(name, 2 * (saved[name] or 1))})
        assert changed_settings(saved, changed) == [], name
    of_a_mesh = {"downscale"}
    assert set(OTHERS) | {"model", "data", "validate", "seed"} | of_a_mesh | changeable == set(saved)


def test_a_run_of_an_earlier_version_goes_on(clips, tmp_path):
    """Its config knows less: what it does not say is what that version did."""
    config = configured(clips, tmp_path / "run", steps=1)
    train_backbone(config, lambda line: None)
    path = tmp_path / "run" / "config.json"
    saved = json.loads(path.read_text())
    del saved["model"]["align_corners"], saved["dropout_splines"]
    path.write_text(json.dumps(saved))
    lines: list[str] = []
    train_backbone(configured(clips, tmp_path / "run", steps=2), lines.append)
    assert lines[0] == "resuming from step 1"
    path.write_text("{}]")
    with pytest.raises(KinecastError, match="config.json: expected the config of a run, found another file"):
        train_backbone(configured(clips, tmp_path / "run", steps=2), lines.append)


def test_a_checkpoint_without_its_discriminator_is_told_in_one_line(clips, tmp_path):
    train_backbone(configured(clips, tmp_path / "run", steps=1), lambda line: None)
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(KinecastError, match="expected a run with a discriminator, found one without"):
        train_backbone(configured(clips, tmp_path / "run", steps=2, loss=ADVERSARIAL), lambda line: None)


@pytest.mark.parametrize("learning_rate", [2e-4, 1e30], ids=["to the end", "to an error"])
def test_training_leaves_the_process_as_it_was(clips, tmp_path, learning_rate):
    torch.manual_seed(11)
    before = torch.get_rng_state(), torch.backends.cudnn.benchmark, torch.get_num_threads()
    assert not flushes_denormals()
    config = configured(clips, tmp_path / "run", steps=5, learning_rate=learning_rate, validate="")
    failed = False
    try:
        train_backbone(config, lambda line: None)
    except KinecastError:
        failed = True
    assert failed == (learning_rate > 1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.backends.cudnn.benchmark, torch.get_num_threads()) == before[1:]
    assert not flushes_denormals()


def test_a_loss_that_is_no_number_stops_the_run(clips, tmp_path):
    config = configured(clips, tmp_path / "run", learning_rate=1e30, steps=20, validate="")
    with pytest.raises(KinecastError) as error:
        train_backbone(config, lambda line: None)
    assert "expected a finite loss, found " in str(error.value)
    assert str(error.value).endswith("lower the learning rate")


def test_the_learning_rate_rises_stays_and_falls(tmp_path):
    config = configured(tmp_path, tmp_path, steps=100, warmup_steps=10, decay_from=0.6)
    factors = [learning_rate_factor(config, step) for step in range(100)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert set(factors[10:61]) == {1.0}
    np.testing.assert_allclose(factors[60:], np.arange(40, 0, -1) / 40)
    constant = replace(config, warmup_steps=0, decay_from=1.0)
    assert {learning_rate_factor(constant, step) for step in range(100)} == {1.0}


# --- adversarial ----------------------------------------------------------------------------------------------------


def test_the_adversarial_variant_trains_both_networks(clips, tmp_path):
    states = []
    for steps in (1, 2):
        config = configured(
            clips, tmp_path / str(steps), steps=steps, loss=ADVERSARIAL, validate="", decay_from=1.0, checkpoint_every=1
        )
        train_backbone(config, lambda line: None)
        states.append(load_state(tmp_path / str(steps) / "last.ckpt"))
    for first, second in ((s["model"] for s in states), (s["opponent"]["network"] for s in states)):
        weights = [
            name for name in first if name.endswith(("weight", "weight_orig")) and not name.endswith("down.weight")
        ]
        assert len(weights) > 5
        assert all(not torch.equal(first[name], second[name]) for name in weights)
        assert all(torch.isfinite(tensor).all() for tensor in second.values())


# --- several processes ----------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys, torch
from kinecast.machine.process_state import flushes_denormals
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone

torch.set_num_threads(1)
train_backbone(BackboneTrainingConfig.from_dict(json.loads(sys.argv[1])))
"""


@pytest.mark.slow
def test_two_processes_train_one_model(clips, tmp_path):
    script, output = tmp_path / "train.py", tmp_path / "run"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(values(clips, output, devices=2))],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    assert set(json.loads((output / "metrics.json").read_text())) > {"mae", "ssim"}
    assert load_state(output / "last.ckpt")["step"] == 7
    assert load_backbone_file(output / "model.safetensors").config == configured(clips, output).model


@pytest.mark.parametrize(
    ("backbone", "model", "precision"),
    [
        ("fomm", tiny_settings(num_keypoints=3, **COMPACT), "32-true"),
        ("tps", TPS_SETTINGS, "bf16-mixed"),
        ("face-vid2vid", FACE_SETTINGS, "bf16-mixed"),
    ],
    ids=["compact fomm", "tps", "face-vid2vid"],
)
def test_every_backbone_learns(backbone, model, precision, clips, tmp_path):
    found = []
    for steps in (1, 50):
        changes = {"backbone": backbone, "model": model, "loss": {"perceptual": 0.0, "pixel": 10.0}, "steps": steps}
        changes |= {"learning_rate": 2e-3, "average": 0.9, "precision": precision, "checkpoint_every": 100}
        found.append(train_backbone(configured(clips, tmp_path / str(steps), **changes), lambda line: None))
    assert found[1]["mae"] < 0.8 * found[0]["mae"]
    trained = load_backbone_file(tmp_path / "50" / "model.safetensors")
    assert trained.name == backbone and trained.config.to_dict()["frame_size"] == model["frame_size"]


def test_frozen_motion_of_every_backbone(clips, tmp_path):
    changes = {"backbone": "tps", "model": TPS_SETTINGS, "train_motion": False, "steps": 3, "learning_rate": 0.05}
    before = tmp_path / "before.safetensors"
    save_backbone(tiny_tps(), before, {})
    train_backbone(configured(clips, tmp_path / "run", initialise=str(before), **changes), lambda line: None)
    after, start = (load_backbone_file(path).state_dict() for path in (tmp_path / "run" / "model.safetensors", before))
    for name, tensor in start.items():
        moved = not torch.allclose(after[name], tensor, atol=1e-3)
        assert moved == name.startswith("inpainting_network") or not moved, name
    assert any(not torch.allclose(after[name], tensor, atol=1e-3) for name, tensor in start.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "other"}, "expected backbone fomm, tps, face-vid2vid, mesh, found 'other'"),
        ({"backbone": "tps", "model": {"num_keypoints": 3}}, "num_keypoints"),
        ({"dropout_splines": 1.0}, "dropout_splines"),
    ],
)
def test_settings_of_another_backbone(changes, message, clips, tmp_path):
    with pytest.raises(KinecastError, match=message):
        configured(clips, tmp_path, **changes)
