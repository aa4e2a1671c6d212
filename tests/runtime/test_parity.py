"""Every engine and precision gives what plain torch gives, within its stated tolerance."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from kinecast import load_backbone
from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.runtime import TOLERANCES, accelerate
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fomm import EngineFOMM
from tiny import COMPACT, pictures, tiny_fomm

PUBLISHED = {  # the published depths and scales, an eighth of the widths
    "num_keypoints": 10,
    "frame_size": (128, 128),
    "detector": {"block_expansion": 4, "num_blocks": 5, "max_features": 128, "scale_factor": 0.25},
    "dense_motion": {"block_expansion": 8, "num_blocks": 5, "max_features": 128, "scale_factor": 0.25},
    "generator": {"block_expansion": 8, "max_features": 64, "num_down_blocks": 2, "num_bottleneck_blocks": 6},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": PUBLISHED,
    "wide": {"frame_size": (32, 32), "generator": {"block_expansion": 32, "max_features": 128}},  # Winograd
    "odd": {"frame_size": (24, 56), "num_keypoints": 3},
    "features of another size": {"generator": {"num_down_blocks": 1}},
    "no occlusion": {"estimate_occlusion": False},
    "no jacobian": {"estimate_jacobian": False},
    "one jacobian map": {"single_jacobian_map": True},
    "padded heads": {"detector": {"scale_factor": 1.0}, "head_padding": 3, "temperature": 0.2},
    "no down block": {"generator": {"num_down_blocks": 0}},
    "compact": COMPACT,
    "corners aligned": {"frame_size": (24, 56), "align_corners": True},
    "compact, corners aligned": {**COMPACT, "align_corners": True},
    "skips alone": {"frame_size": (24, 56), "generator": {"skips": True}},
    "pixels passed through alone": {"frame_size": (24, 56), "generator": {"pass_through": True}},
    "shuffle and skips": {"generator": {"shuffle": 2, "skips": True}},
    "shuffle alone": {"generator": {"shuffle": 2, "num_down_blocks": 1}},
}
LEVELS = ["exact", "bf16"] if bfloat16_available() else ["exact"]  # what is refused without it is in test_auto.py
PAIRS = [("fast", level) for level in LEVELS]
ENGINES = [*PAIRS, *(("openvino", level) for level in LEVELS)]  # int8 is in test_openvino.py
CONVERTED = ("published", "odd", "compact")  # converting takes seconds: the parts are the same for every engine
CASES = [
    pytest.param(variant, *pair, id="-".join((variant, *pair)))
    for variant in VARIANTS
    for pair in (ENGINES if variant in CONVERTED else PAIRS)
]


@cache
def of_variant(name: str) -> FOMM:
    """Return one model a variant, so that an engine converts it once for all precisions."""
    return tiny_fomm(**VARIANTS[name])


def both(model: Backbone, other: Backbone, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what two backbones render of the same frames, each from its own motion."""
    frames = pictures(count, model.frame_size, seed=1)
    rendered = []
    for backbone in (model, other):
        motion = backbone.detect(frames)
        rendered.append(backbone.animate(backbone.encode_source(frames[:1]), motion[:1], motion))
    return rendered[0], rendered[1]


def check_close(found: torch.Tensor, expected: torch.Tensor, precision: str) -> None:
    limit = TOLERANCES[precision]
    difference = (found - expected).abs()
    print(f"{precision}: largest {difference.max():.1e}, mean {difference.mean():.1e}")
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert difference.max() <= limit.largest
    assert difference.mean() <= limit.mean


@pytest.mark.parametrize(("variant", "engine", "precision"), CASES)
def test_every_architecture(variant: str, engine: str, precision: str) -> None:
    model = of_variant(variant)
    fast = accelerate(model, engine, precision)
    assert (fast.engine, fast.precision) == (engine, precision)
    expected, found = both(model, fast)
    assert expected.std() > 0.02  # a grey picture would agree with anything
    check_close(found, expected, precision)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_the_bundled_model(engine: str, precision: str) -> None:
    model = load_backbone("face-128", "cpu", engine="eager")
    check_close(*both(model, load_backbone("face-128", "cpu", engine=engine, precision=precision))[::-1], precision)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_frames_of_another_size_than_trained_at(engine: str, precision: str) -> None:
    model = of_variant("odd")
    fast = accelerate(model, engine, precision)
    frames = pictures(2, (40, 72))
    motion = model.detect(frames)
    expected = model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    check_close(fast.animate(fast.encode_source(frames[:1]), motion[:1], motion), expected, precision)


@pytest.mark.parametrize(("engine", "precision"), PAIRS)
@pytest.mark.parametrize("count", [1, 5, 17])  # one pass takes 16 frames of this size
def test_any_number_of_frames_at_once(count: int, engine: str, precision: str) -> None:
    fast = accelerate(tiny_fomm(), engine, precision)
    frames = pictures(count)
    motion = fast.detect(frames)
    assert len(motion) == count
    state = fast.encode_source(frames[:1])
    together = fast.animate(state, motion[:1], motion)
    alone = torch.cat([fast.animate(state, motion[:1], motion[i]) for i in range(count)])
    torch.testing.assert_close(together, alone, atol=1e-6 if precision == "exact" else 1e-2, rtol=0)
    torch.testing.assert_close(motion.vectors()[-1:], fast.detect(frames[-1:]).vectors(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", LEVELS)
def test_motion_is_exact_at_every_precision(precision: str) -> None:
    model, frames = tiny_fomm(), pictures(3)
    found = accelerate(model, "fast", precision).detect(frames)
    torch.testing.assert_close(found.vectors(), model.detect(frames).vectors(), atol=1e-5, rtol=0)
    assert found.frame_size == (64, 64)


def test_an_engine_is_the_same_model() -> None:
    model = tiny_fomm(temperature=0.2)
    fast = accelerate(model, "fast")
    frames = pictures(2)
    motion = model.detect(frames)
    assert model_identity(fast) == model_identity(model)
    assert fast.motion_dim == model.motion_dim and fast.device == model.device
    assert isinstance(fast, EngineFOMM)
    assert fast.generator is model.generator and fast.kp_detector is model.kp_detector
    assert torch.equal(fast.flatten(motion), model.flatten(motion))
    assert torch.equal(fast.unflatten(model.flatten(motion)).vectors(), motion.vectors())
    moved = [b.relative_motion(motion[:1], motion, motion[:1], False).vectors() for b in (model, fast)]
    assert torch.equal(*moved)
    with pytest.raises(KinecastError, match="build the engine again"):
        fast.load_state_dict(model.state_dict())


def test_a_state_of_one_engine_serves_another() -> None:
    model = tiny_fomm()
    fast = accelerate(model, "fast")
    frames = pictures(2)
    motion = model.detect(frames)
    expected = model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    check_close(fast.animate(model.encode_source(frames[:1]), motion[:1], motion), expected, "exact")
    check_close(model.animate(fast.encode_source(frames[:1]), motion[:1], motion), expected, "exact")


def test_what_the_contract_refuses_an_engine_refuses() -> None:
    fast = accelerate(tiny_fomm(), "fast")
    with pytest.raises(KinecastError, match="multiples of 8"):
        fast.detect(pictures(1, (60, 64)))
    with pytest.raises(KinecastError, match="expected one image"):
        fast.encode_source(pictures(2))
    foreign = tiny_fomm(num_keypoints=3).detect(pictures(1))
    with pytest.raises(KinecastError, match="24 numbers per frame, found fomm with 18"):
        fast.animate(fast.encode_source(pictures(1)), foreign, foreign)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("quick", "exact", "engine: expected one of auto, eager, fast, openvino, found 'quick'"),
        ("fast", "half", "precision: expected one of exact, bf16, int8, found 'half'"),
        ("eager", "bf16", "engine eager: expected precision exact, found bf16: use engine fast, openvino or auto"),
        ("fast", "int8", "engine fast: expected precision exact or bf16, found int8: use engine openvino or auto"),
    ],
)
def test_pairs_that_do_not_exist(engine: str, precision: str, message: str) -> None:
    with pytest.raises(KinecastError, match=message):
        load_backbone("face-128", "cpu", engine=engine, precision=precision)


def test_only_networks_on_the_cpu(tmp_path: Path) -> None:
    model = tiny_fomm().to("meta")
    with pytest.raises(KinecastError, match="expected device cpu, found meta: use engine eager or auto"):
        accelerate(model, "fast")
    assert isinstance(model, FOMM)
    assert accelerate(model, "auto") is model and "the only engine" in model.reason
