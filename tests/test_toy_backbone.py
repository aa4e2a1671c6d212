"""A backbone of somebody else's goes the whole way, and nothing in the package has to be changed for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import toy_backbone
from apps.call.ends import End, by_hand, models_of, opened, run, until
from helpers import make_clip
from kinecast import Motion, load_backbone
from kinecast.apps.stream.clips import layout_for_quality
from kinecast.cli import main
from kinecast.codec import model_identity
from kinecast.errors import KinecastError
from kinecast.media.video import probe
from kinecast.models import register_backbone
from kinecast.motion_spec import Component, MotionSpec
from kinecast.runtime import TOLERANCES, accelerate
from kinecast.runtime.calibration import calibrate
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.offers import register_engine
from toy_backbone import Toy


@pytest.fixture(autouse=True)
def registered():
    with toy_backbone.registered():
        yield


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips" / "id2_a.mp4", frames=8, size=(32, 32))
    return make_clip(tmp_path / "clips" / "id1_a.mp4", frames=8, size=(32, 32))


@pytest.fixture
def trained(clip: Path, tmp_path: Path) -> Path:
    """Its weights, trained by the command."""
    pytest.importorskip("lightning_fabric")
    recipe = tmp_path / "toy.toml"
    recipe.write_text(
        f'backbone = "toy"\ndata = ["{clip.parent}"]\noutput = "{tmp_path / "run"}"\nvalidate = "id2"\nsteps = 30\n'
        "batch_size = 2\nlearning_rate = 0.02\naverage = 0.5\nvalidate_every = 30\n"
        "[loss]\nperceptual = 0.0\npixel = 10.0\n"
    )
    assert main(["train", "backbone", str(recipe), "--device", "cpu"]) == 0
    return tmp_path / "run" / "model.safetensors"


def test_it_trains_and_goes_through_every_command(trained, clip, tmp_path, capsys):
    assert set(json.loads((trained.parent / "metrics.json").read_text())) > {"mae", "ssim"}
    model = load_backbone(trained, "cpu")
    assert isinstance(model, Toy) and "fastest of eager exact" in model.reason

    def command(*arguments: object) -> None:
        assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err

    with_model = "--model", trained, "--device", "cpu"
    command("extract", clip, "-o", tmp_path / "m.npz", *with_model)
    motion = Motion.load(tmp_path / "m.npz")
    assert motion.backbone == "toy" and motion.dim == model.motion_dim and len(motion) == 8
    command("encode", clip, "-o", tmp_path / "c.kcm", *with_model)
    command("decode", tmp_path / "c.kcm", "-o", tmp_path / "d.mp4", *with_model)
    command("animate", "--driving", clip, "-o", tmp_path / "a.mp4", *with_model)
    others = "--source", clip.parent / "id2_a.mp4", "--relative"
    command("animate", "--driving", clip, *others, "-o", tmp_path / "t.mp4", *with_model)
    command("forecast", tmp_path / "m.npz", "--model", "velocity", "--horizon", "2-2", "-o", tmp_path / "f.npz")
    for name in ("d.mp4", "a.mp4", "t.mp4"):
        assert probe(tmp_path / name).frames == 8


def test_its_motion_is_quantised_as_its_specification_says(clip):
    motion = Toy(toy_backbone.ToyConfig()).eval().detect(torch.rand(3, 3, 32, 32))
    layout = layout_for_quality(motion, 5)
    assert layout.dim == 13 and [part.name for part in layout.components] == ["tint", "light"]
    assert layout.components[1].step == 2 * layout.components[0].step


def test_it_makes_a_call():
    toy = Toy(toy_backbone.ToyConfig()).eval()

    async def work():
        one, other = End(models_of(toy)), End(models_of(toy))
        async with opened(one, other):
            await by_hand(one, other)
            await until(lambda: one.shown["received"] > 3 and other.shown["received"] > 3, 15, "frames")

    run(work(), 60)


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("fast", "exact"),
        ("fast", "bf16"),
        pytest.param("openvino", "exact", marks=pytest.mark.slow),  # see tests/runtime/conftest.py
        pytest.param("openvino", "int8", marks=pytest.mark.slow),
    ],
)
def test_engines_run_what_it_offers(engine, precision, tmp_path, monkeypatch):
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path))
    if precision == "bf16" and not bfloat16_available():
        pytest.skip("no bfloat16 on this processor")
    if engine == "openvino":
        pytest.importorskip("openvino")
    torch.manual_seed(0)
    toy, frames = Toy(toy_backbone.ToyConfig()).eval(), torch.rand(4, 3, 32, 32)
    if precision == "int8":
        pytest.importorskip("nncf")
        calibrate(toy, frames.split(2))
    run = accelerate(toy, engine, precision)
    assert isinstance(run, Toy) and (run.engine, run.precision) == (engine, precision)
    motion = toy.detect(frames)
    expected, found = (model.animate(model.encode_source(frames[:1]), motion[:1], motion) for model in (toy, run))
    difference = (found - expected).abs()
    limit = TOLERANCES[precision]
    assert difference.max() <= limit.largest and difference.mean() <= limit.mean
    assert precision == "exact" or not torch.equal(found, expected)  # it is not plain torch that ran
    assert model_identity(run) == model_identity(toy)


def test_auto_measures_its_engines(tmp_path, monkeypatch):
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path))
    chosen = accelerate(Toy(toy_backbone.ToyConfig()).eval())
    assert "fastest of eager exact" in chosen.reason and "fast exact" in chosen.reason


def test_a_name_is_given_once():
    toy_backbone.register()  # the same again
    with pytest.raises(KinecastError, match="engine of toy: expected to be registered once"):
        register_engine(Toy, replace(toy_backbone.OFFER, quantised=None))
    with pytest.raises(KinecastError, match="motion of backbone 'toy': expected an unused name"):
        register_backbone(Toy, MotionSpec(((Component("other", "", ""),),)))
    other = type("Other", (Toy,), {})
    with pytest.raises(KinecastError, match="backbone 'toy': expected an unused name"):
        register_backbone(other, toy_backbone.MOTION)
