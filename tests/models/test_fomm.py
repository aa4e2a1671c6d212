"""FOMM: parity with the published network, the grid of sizes, the contract, and the formulas of the paper."""

import importlib.util
import json
from typing import Any

import numpy as np
import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.models.blocks.layers import coordinate_grid
from kinecast.models.fomm import FOMM, DenseMotion, FOMMConfig, Keypoints, infer_config, warp_pixels
from kinecast.motion import Motion
from kinecast.runtime import accelerate
from kinecast.training.discriminator import MultiScaleDiscriminator
from kinecast.training.losses import RandomTransform, equivariance_losses
from tiny import COMPACT, pictures, tiny_fomm, tiny_settings

PARITY = 1e-4


# --- the published network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(data_folder):
    folder = data_folder.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="module")
def filled(reference):
    """Return a function from a part's name to its tensors, by the rule of the reference folder."""
    spec = importlib.util.spec_from_file_location("reference_fill", reference / "fill.py")
    assert spec is not None and spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    shapes = json.loads((reference / "fomm_vox-256.keys.json").read_text())
    return lambda part: rule.fill("fomm", part, shapes[part])


@pytest.fixture(scope="module")
def published(filled) -> FOMM:
    """The network under the published names; its fixed kernels are what the architecture gives them."""
    fixed = FOMM(FOMMConfig()).state_dict()
    state = {}
    for part in ("generator", "kp_detector"):
        for name, array in filled(part).items():
            name = f"{part}.{name}"
            state[name] = fixed[name] if array is None else torch.from_numpy(array)
    assert set(state) == set(fixed)
    assert (len(filled("generator")), len(filled("kp_detector"))) == (196, 75)
    return FOMM.from_state_dict(state)


@pytest.fixture(scope="module")
def golden(reference) -> dict[str, torch.Tensor]:
    with np.load(reference / "fomm_vox-256.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@torch.inference_mode()
def test_parity_with_the_published_network(published, golden, record_property):
    source, driving = golden["images"][:1], golden["images"][1:]
    found: dict[str, Any] = {}
    points = {"source": published.kp_detector(source), "driving": published.kp_detector(driving)}
    for name, keypoints in points.items():
        found[f"kp_{name}_value"], found[f"kp_{name}_jacobian"] = keypoints
    found["prediction"], motion = published.generator(source, points["driving"], points["source"])
    found |= motion._asdict()
    differences = {name: (found[name] - golden[name]).abs().max().item() for name in golden if name != "images"}
    shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    record_property("measured", f"FOMM vox-256 against the published network, max abs difference: {shown}")
    assert set(differences) == set(found)
    assert all(found[name].shape == golden[name].shape for name in differences)
    assert max(differences.values()) <= PARITY
    assert golden["prediction"].std() > 0.02, "a flat picture would agree with anything"


def test_the_cached_source_gives_the_published_picture(published, golden):
    source, driving = golden["images"][:1], golden["images"][1:]
    state = published.encode_source(source)
    found = published.animate(state, published.detect(source), published.detect(driving))
    assert (found - golden["prediction"]).abs().max() <= PARITY


def test_sizes_of_the_published_network_are_inferred(published):
    wanted = FOMMConfig().to_dict()
    wanted["generator"]["max_features"] = 256  # what the state dict shows of the published 512: nothing is that wide
    assert published.config.to_dict() == wanted
    assert published.motion_dim == 60
    assert published.frame_size == (256, 256)


def test_the_discriminator_loads_under_the_published_names(filled):
    state = {name: torch.from_numpy(array) for name, array in filled("discriminator").items()}
    network = MultiScaleDiscriminator.from_state_dict(state).eval()
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
        n: t.shape for n, t in state.items()
    }
    maps, judged = network(torch.rand(1, 3, 256, 256))[0]
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512]
    assert judged.shape == (1, 1, 26, 26)
    torch.testing.assert_close(network.state_dict(), state)
    missing = {name: tensor for name, tensor in state.items() if name != "discs.1.conv.bias"}
    with pytest.raises(RuntimeError, match="discs.1.conv.bias"):
        MultiScaleDiscriminator.from_state_dict(missing)


# --- sizes ----------------------------------------------------------------------------------------------------------

EXTRAS = ("frame_size", "temperature", "head_padding", "kp_variance", "align_corners")
GRID = {
    f"K={k} scale={scale:g} {jacobian}": {
        "num_keypoints": k,
        "detector": {"scale_factor": scale},
        "dense_motion": {"scale_factor": scale},
        "estimate_jacobian": jacobian != "no jacobian",
        "single_jacobian_map": jacobian == "one map",
    }
    for k in (2, 5)
    for scale in (1.0, 0.5, 0.25)
    for jacobian in ("jacobian", "one map", "no jacobian")
} | {
    "one keypoint": {"num_keypoints": 1},
    "wide frame": {"frame_size": (48, 80)},
    "tall frame": {"frame_size": (96, 64), "detector": {"scale_factor": 0.25}},
    "motion smaller than the features": {"detector": {"scale_factor": 0.25}, "dense_motion": {"scale_factor": 0.125}},
    "motion larger than the features": {"dense_motion": {"scale_factor": 1.0}},
    "a third": {"frame_size": (96, 48), "detector": {"scale_factor": 1 / 3}},
    "no occlusion": {"estimate_occlusion": False},
    "deep and wide": {"detector": {"num_blocks": 4, "block_expansion": 6, "max_features": 96}, "frame_size": (64, 128)},
    "shallow": {
        "dense_motion": {"num_blocks": 1, "max_features": 8},
        "detector": {"num_blocks": 3, "max_features": 32},
    },
    "capped widths": {
        "detector": {"max_features": 8},
        "dense_motion": {"max_features": 8},
        "generator": {"max_features": 8},
    },
    "caps below the first width": {"detector": {"block_expansion": 8, "max_features": 8}},
    "one down block": {"generator": {"num_down_blocks": 1, "max_features": 8}},
    "three down blocks": {"generator": {"num_down_blocks": 3, "max_features": 32, "num_bottleneck_blocks": 2}},
    "no bottleneck": {"generator": {"num_bottleneck_blocks": 0}},
    "compact": COMPACT,
    "what leaves no trace": {"temperature": 0.5, "head_padding": 3, "kp_variance": 0.1, "align_corners": True},
}


@pytest.mark.parametrize("corners", [True, False])
def test_standing_still_leaves_features_as_they_are_with_align_corners(corners):
    """The grid runs from corner to corner, so that only this reading of it makes the identity the identity."""
    model = tiny_fomm(align_corners=corners, estimate_occlusion=False)
    source = pictures(1)
    state = model.generator.encode(source)
    still = coordinate_grid(16, 16, source)[None]  # of the features' size
    rendered = model.generator.decode(state, DenseMotion(still, source.new_zeros(1, 5, 16, 16), None))
    difference = (rendered - model.generator.render(*state.features)).abs().max()
    assert difference < 1e-4 if corners else difference > 1e-3


def repeated(points: Keypoints, batch: int) -> Keypoints:
    """The keypoints of one picture for each of a batch."""
    value, jacobian = points
    return Keypoints(value.expand(batch, -1, -1), None if jacobian is None else jacobian.expand(batch, -1, -1, -1))


@pytest.mark.parametrize("changes", GRID.values(), ids=GRID)
def test_grid_of_sizes(changes):
    model = tiny_fomm(**changes)
    config = model.config
    state = model.state_dict()
    again = FOMM.from_state_dict(state, {name: getattr(config, name) for name in EXTRAS})
    assert again.config == config

    frames = pictures(3, config.frame_size)
    count = config.num_keypoints
    motion = model.detect(frames)
    assert motion.components["value"].shape == (3, count, 2)
    assert motion.components["value"].abs().max() <= 1
    assert ("jacobian" in motion.components) == config.estimate_jacobian
    assert model.motion_dim == count * (6 if config.estimate_jacobian else 2)
    if config.single_jacobian_map:
        assert len(state["kp_detector.jacobian.bias"]) == 4
        assert motion.components["jacobian"].shape == (3, count, 2, 2)
    vectors = model.flatten(motion)
    assert vectors.shape == (3, model.motion_dim)
    assert torch.equal(model.flatten(model.unflatten(vectors)), vectors)

    cached = model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    assert cached.shape == frames.shape
    assert cached.min() >= 0 and cached.max() <= 1
    with torch.inference_mode():
        points = Keypoints(motion.components["value"], motion.components.get("jacobian"))
        kp_source = repeated(model.kp_detector(frames[:1]), 3)
        plain, dense = model.generator(frames[:1].expand_as(frames), points, kp_source)
    torch.testing.assert_close(cached, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(dense.mask.sum(dim=1), torch.ones_like(dense.mask[:, 0]))
    assert (dense.occlusion_map is not None) == config.estimate_occlusion
    assert (cached[0] - cached[1]).abs().max() > 1e-4, "another driving frame gives another picture"

    found = again.detect(frames)
    assert torch.equal(found.vectors(), vectors)
    assert torch.equal(again.animate(again.encode_source(frames[:1]), found[:1], found), cached)


def still_flow(height: int, width: int) -> torch.Tensor:
    """The flow (1, 2, h, w) of no motion."""
    return coordinate_grid(height, width, torch.zeros(1)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("small", [(16, 16), (12, 28), (24, 56), (6, 7)])
def test_pixels_stay_what_they_are_without_motion(small):
    image = pictures(1, (24, 56))
    torch.testing.assert_close(warp_pixels(image, still_flow(*small)), image, atol=2e-5, rtol=0)


def test_pixels_move_by_as_many_as_the_flow_says_and_the_border_goes_on():
    image = pictures(2, (32, 64))
    shift = torch.tensor([3 * 2 / (16 - 1), -1 * 2 / (8 - 1)]).view(1, 2, 1, 1)  # places of a flow of 8x16
    flows = (still_flow(8, 16) + shift).expand(2, -1, -1, -1)
    moved = warp_pixels(image, flows)
    torch.testing.assert_close(moved[:, :, 4:, :-12], image[:, :, :-4, 12:], atol=2e-5, rtol=0)
    torch.testing.assert_close(moved[:, :, 4:, -12:], image[:, :, :-4, -1:].expand(-1, -1, -1, 12), atol=2e-5, rtol=0)
    assert torch.equal(moved[0], warp_pixels(image[:1], flows)[1]), "one source for all"


@pytest.mark.parametrize("engine", ["eager", "fast"])
def test_the_mask_says_what_is_passed_through(engine):
    model = tiny_fomm(generator=COMPACT["generator"])
    frames = pictures(3)
    final = model.generator.final
    drawn = 3 * model.config.generator.shuffle**2
    rendered = {}
    for bias in (-30.0, 30.0):
        with torch.no_grad():
            final.weight[drawn:].zero_()
            final.get_parameter("bias")[drawn:].fill_(bias)
        runs = accelerate(model, engine, "exact")
        motion = runs.detect(frames)
        rendered[bias] = runs.animate(runs.encode_source(frames[:1]), motion[:1], motion)
    with torch.inference_mode():
        source = model.encode_source(frames[:1])
        value, jacobian = motion.components["value"], motion.components["jacobian"]
        anchor = Keypoints(value[:1], jacobian[:1])
        dense = model.generator.dense_motion_network(source.small_image, Keypoints(value, jacobian), anchor)
        warped = warp_pixels(frames[:1], dense.deformation.permute(0, 3, 1, 2))
    torch.testing.assert_close(rendered[30.0], warped, atol=1e-4, rtol=0)
    assert (rendered[-30.0] - warped).abs().mean() > 0.05, "all is drawn"


def test_a_single_map_and_many_maps_of_one_keypoint_are_one_network():
    state = tiny_fomm(num_keypoints=1).state_dict()
    assert infer_config(state)["single_jacobian_map"] is False
    assert FOMM.from_state_dict(state).motion_dim == 6


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_keypoints": 0}, "FOMM config: expected num_keypoints above 0, found 0"),
        ({"temperature": 0.0}, "FOMM config: expected temperature above 0, found 0.0"),
        ({"detector": {"scale_factor": 0.3}}, "FOMM config: expected scale_factor 1/n, found 0.3"),
        ({"dense_motion": {"scale_factor": 2.0}}, "FOMM config: expected scale_factor 1/n, found 2.0"),
        ({"detector": {"scale_factor": 0.0}}, "FOMM config: expected scale_factor 1/n, found 0.0"),
    ],
)
def test_foreign_numbers_in_a_config(changes, message):
    with pytest.raises(KinecastError) as error:
        FOMMConfig.from_dict(tiny_settings(**changes))
    assert str(error.value) == message


@pytest.mark.parametrize("changes", [{"keypoints": 3}, {"generator": {"depth": 3}}, {"frame_size": (1, 2, 3)}])
def test_unknown_keys_of_a_config_are_named(changes):
    values = {**FOMMConfig().to_dict(), **changes}
    with pytest.raises(KinecastError, match="FOMM config: .*: see FOMMConfig for the keys"):
        FOMMConfig.from_dict(values)


def test_config_survives_plain_values():
    config = FOMMConfig.from_dict(tiny_settings(frame_size=[48, 80], single_jacobian_map=True))
    assert FOMMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> FOMM:
    return tiny_fomm()


@pytest.mark.parametrize(
    "scale, blocks, multiple", [(0.5, 2, 8), (0.25, 2, 16), (1.0, 3, 8), (1 / 3, 2, 24), (1.0, 0, 8)]
)
def test_frame_multiple(scale, blocks, multiple):
    """The other parts need multiples of 8 (dense motion) and 4 (generator)."""
    config = FOMMConfig.from_dict(tiny_settings(detector={"scale_factor": scale, "num_blocks": blocks}))
    assert config.frame_multiple == multiple


@pytest.mark.parametrize(
    "frames, message",
    [
        (
            torch.rand(1, 3, 60, 64),
            "frames: expected height and width in multiples of 8 for these weights, found 60x64: resize or crop them",
        ),
        (
            torch.rand(1, 3, 64, 65),
            "frames: expected height and width in multiples of 8 for these weights, found 64x65: resize or crop them",
        ),
        (
            torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
            "frames: expected a floating-point tensor (B, 3, H, W) in [0, 1], found uint8 (1, 3, 64, 64)",
        ),
        (
            torch.rand(3, 64, 64),
            "frames: expected a floating-point tensor (B, 3, H, W) in [0, 1], found float32 (3, 64, 64)",
        ),
        (
            torch.rand(1, 64, 64, 3),
            "frames: expected a floating-point tensor (B, 3, H, W) in [0, 1], found float32 (1, 64, 64, 3)",
        ),
    ],
)
def test_frames_that_do_not_fit(model, frames, message):
    for look in (model.detect, model.encode_source):
        with pytest.raises(KinecastError) as error:
            look(frames)
        assert str(error.value) == message


def test_one_source_at_a_time(model):
    with pytest.raises(KinecastError) as error:
        model.encode_source(pictures(2))
    assert str(error.value) == "source: expected one image (1, 3, H, W), found 2: animate one at a time"


def test_a_batch_equals_its_frames_one_at_a_time(model):
    frames = pictures(model.chunk + 3)  # more than one pass
    motion = model.detect(frames)
    assert len(motion) == len(frames)
    state = model.encode_source(frames[:1])
    video = model.animate(state, motion[:1], motion)
    for i in range(len(frames)):
        alone = model.detect(frames[i : i + 1])
        torch.testing.assert_close(alone.vectors()[0], motion.vectors()[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(model.animate(state, motion[0], motion[i])[0], video[i], atol=1e-5, rtol=0)


def test_detection_is_deterministic_and_without_gradient(model):
    frames = pictures(2).requires_grad_()
    first, second = model.detect(frames).vectors(), model.detect(frames).vectors()
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_motion_of_another_model_is_refused(model):
    other = tiny_fomm(num_keypoints=5).detect(pictures(1))
    with pytest.raises(KinecastError) as error:
        model.flatten(other)
    assert str(error.value) == (
        "expected motion of fomm with 24 numbers per frame, found fomm with 30: extract it with this model"
    )
    with pytest.raises(KinecastError, match=r"motion vectors: expected \(T, 24\), found \(2, 30\)"):
        model.unflatten(torch.zeros(2, 30))


@pytest.mark.parametrize("changes", [{}, {"single_jacobian_map": True}, {"estimate_occlusion": False}], ids=str)
def test_gradient_reaches_every_parameter(changes):
    model = tiny_fomm(**changes)  # in evaluation mode: batch statistics would cancel the biases before them
    source, driving = pictures(2, seed=1), pictures(2, seed=2)
    prediction, kp_driving, kp_source = model.reconstruct(source, driving)
    transform = RandomTransform(2, torch.Generator().manual_seed(0))
    value, jacobian = equivariance_losses(kp_driving, model.kp_detector(transform.transform(driving)), transform)
    assert jacobian is not None
    ((prediction - driving).abs().mean() + value + jacobian).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-9]
    # A constant on a whole heatmap changes nothing after the softmax over its pixels.
    assert set(silent) <= {"kp_detector.kp.bias"}
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    torch.testing.assert_close(kp_source.value, model.kp_detector(source).value, atol=1e-6, rtol=0)


def test_training_forward_is_the_inference_forward(model):
    source, driving = pictures(1, seed=1), pictures(1, seed=2)
    with torch.no_grad():
        trained, kp_driving, _ = model.reconstruct(source, driving)
    motion = model.detect(driving)
    found = model.animate(model.encode_source(source), model.detect(source), motion)
    torch.testing.assert_close(found, trained, atol=1e-5, rtol=0)
    torch.testing.assert_close(kp_driving.value, motion.components["value"], atol=1e-6, rtol=0)


# --- formulas -------------------------------------------------------------------------------------------------------


def random_points(batch: int, count: int, jacobian: bool, seed: int) -> Keypoints:
    random = torch.Generator().manual_seed(seed)
    value = torch.rand(batch, count, 2, generator=random) * 2 - 1
    if not jacobian:
        return Keypoints(value, None)
    return Keypoints(value, torch.eye(2) + 0.3 * torch.randn(batch, count, 2, 2, generator=random))


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("sources", [1, 3])
def test_sparse_motion_is_equation_4(model, jacobian, sources):
    driving, source = random_points(3, 4, jacobian, 1), random_points(sources, 4, jacobian, 2)
    found = model.generator.dense_motion_network._sparse_motions(driving, source, 5, 6)
    grid = coordinate_grid(5, 6, driving.value)
    assert found.shape == (3, 5, 5, 6, 2)
    for b in range(3):
        s = min(b, sources - 1)
        torch.testing.assert_close(found[b, 0], grid)  # the background stands still
        for k in range(4):
            matrix = torch.eye(2)
            if driving.jacobian is not None and source.jacobian is not None:
                matrix = source.jacobian[s, k] @ torch.linalg.inv(driving.jacobian[b, k])
            for y in range(5):
                for x in range(6):
                    wanted = matrix @ (grid[y, x] - driving.value[b, k]) + source.value[s, k]
                    torch.testing.assert_close(found[b, k + 1, y, x], wanted, atol=1e-4, rtol=1e-4)


def test_keypoints_are_means_of_their_heatmaps(model):
    """With one hot pixel in a heatmap, the keypoint is there, and its Jacobian is that pixel's."""
    detector = tiny_fomm(head_padding=3).kp_detector
    assert detector.jacobian is not None
    with torch.no_grad():
        for head in (detector.kp, detector.jacobian):
            head.weight.zero_()
        detector.kp.weight[0, -3, 3, 3] = 1e4  # the red channel of the reduced picture, at the pixel itself
    picture = torch.zeros(1, 3, 64, 64)
    picture[0, 0, 40, 16] = 1.0  # pixel (20, 8) of the 32x32 that the detector sees
    points = detector(picture)
    torch.testing.assert_close(points.value[0, 0], torch.tensor([2 * 8 / 31 - 1, 2 * 20 / 31 - 1]))
    torch.testing.assert_close(points.value[0, 1], torch.zeros(2), atol=1e-6, rtol=0)  # a flat heatmap: the middle
    assert points.jacobian is not None and detector.jacobian.bias is not None
    torch.testing.assert_close(points.jacobian[0, 0], detector.jacobian.bias[:4].view(2, 2))


def as_motion(points: Keypoints) -> Motion:
    components = {"value": points.value}
    if points.jacobian is not None:
        components["jacobian"] = points.jacobian
    return Motion("fomm", components, fps=25.0)


@pytest.mark.parametrize("jacobian", [True, False])
def test_relative_motion_without_change_is_the_source(model, jacobian):
    source, initial = random_points(1, 4, jacobian, 1), random_points(1, 4, jacobian, 2)
    driving = as_motion(repeated(initial, 3))
    found = model.relative_motion(as_motion(source), driving, as_motion(initial), adapt_scale=False)
    assert (len(found), found.fps) == (3, 25.0)
    wanted = as_motion(source).vectors().expand(3, -1)
    torch.testing.assert_close(found.vectors(), wanted, atol=1e-5, rtol=0)


def test_relative_motion_is_the_change_applied_to_the_source(model):
    source, driving, initial = (random_points(n, 4, True, seed) for seed, n in enumerate((1, 3, 1)))
    found = model.relative_motion(as_motion(source), as_motion(driving), as_motion(initial), adapt_scale=False)
    torch.testing.assert_close(found.components["value"], driving.value - initial.value + source.value)
    wanted = driving.jacobian @ torch.linalg.inv(initial.jacobian) @ source.jacobian
    torch.testing.assert_close(found.components["jacobian"], wanted, atol=1e-4, rtol=1e-4)


def square(side: float, x: float, y: float) -> torch.Tensor:
    """Corners of a square and a point inside it, which its hull does not see."""
    unit = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.4, 0.6]])
    return (unit * side + torch.tensor([x, y]))[None]


def test_adapted_scale_is_the_root_of_the_ratio_of_hull_areas(model):
    source, initial = Keypoints(square(0.9, -0.5, -0.5), None), Keypoints(square(0.3, 0, 0.2), None)
    driving = Keypoints(initial.value + torch.tensor([0.1, -0.2]), None)
    found = model.relative_motion(as_motion(source), as_motion(driving), as_motion(initial), adapt_scale=True)
    torch.testing.assert_close(found.components["value"], source.value + 3 * torch.tensor([0.1, -0.2]))


@pytest.mark.parametrize("count", [2, 4])
def test_scale_cannot_adapt_to_points_on_a_line(model, count):
    line = Keypoints(torch.linspace(-0.5, 0.5, count)[None, :, None].repeat(1, 1, 2), None)
    with pytest.raises(KinecastError) as error:
        model.relative_motion(as_motion(line), as_motion(line), as_motion(line), adapt_scale=True)
    assert str(error.value) == (
        "adapt scale: expected 3 or more keypoints that span an area, found fewer or all on one line: "
        "drop --adapt-scale"
    )


@pytest.mark.parametrize("side, words", [(0.0004, "that span an area"), (0.02, "by a factor of at most 10, found 45")])
def test_scale_cannot_adapt_to_points_that_nearly_coincide(model, side, words):
    """Their ratio would be of rounding alone, and throw points out of the frame."""
    source, initial = (as_motion(Keypoints(square(each, -0.5, -0.5), None)) for each in (0.9, side))
    assert not model.adapts_scale(source, initial)
    with pytest.raises(KinecastError, match=words):
        model.relative_motion(source, initial, initial, adapt_scale=True)
    smaller = as_motion(Keypoints(square(0.1, -0.5, -0.5), None))
    assert model.adapts_scale(source, smaller) and model.adapts_scale(smaller, source)


def test_a_cached_source_saves_its_share_of_the_work():
    """Not a benchmark: with a heavy encoder, animating must not run it again for every frame."""
    model = tiny_fomm(generator={"block_expansion": 32, "max_features": 32, "num_bottleneck_blocks": 0})
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    model.generator.first.register_forward_hook(count)
    frames = pictures(model.chunk + 1)
    motion = model.detect(frames)
    model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    assert calls == 1


def test_animate_refuses_motion_of_another_model():
    model, other = tiny_fomm(num_keypoints=4), tiny_fomm(num_keypoints=3)
    frames = pictures(2)
    state = model.encode_source(frames[:1])
    with pytest.raises(KinecastError, match="expected motion of fomm with 24 numbers per frame, found fomm with 18"):
        model.animate(state, model.detect(frames[:1]), other.detect(frames))
