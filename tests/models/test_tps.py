"""TPS: parity with the published network, the grid of sizes, and the formulas of the paper."""

import json

import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.models.blocks.layers import AntiAliasDownsample, coordinate_grid
from kinecast.models.checkpoints import import_published
from kinecast.models.tps import POINTS, TPS, TPSConfig, infer_config, spline_grids
from kinecast.models.tps.network import _contributions
from kinecast.motion import Motion
from reference_weights import filled, golden, reference_folder, rounding
from tiny import pictures
from tiny_backbones import TPS_SETTINGS, merged, tiny_tps

PARITY = 1e-4


# --- the published network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(data_folder):
    return reference_folder(data_folder)


@pytest.fixture(scope="module")
def published(reference, tmp_path_factory) -> TPS:
    """The network read from a checkpoint as the published ones are."""
    parts = filled(reference, "tps", {"down.weight": AntiAliasDownsample(3, 0.25).weight})
    sizes = {"inpainting_network": 78, "dense_motion_network": 59, "kp_detector": 122, "avd_network": 69}
    assert {name: len(part) for name, part in parts.items()} == sizes | {"bg_predictor": 122}
    path = tmp_path_factory.mktemp("published") / "vox.pth.tar"
    torch.save({**parts, "optimizer": {"state": {}, "param_groups": []}, "epoch": 99}, path)
    model = import_published(path)
    path.unlink()
    assert isinstance(model, TPS)
    return model


@torch.inference_mode()
def test_parity_with_the_published_network(published, reference, record_property):
    wanted = golden(reference, "tps")
    source, driving = wanted.pop("images").split(1)
    kp_source, kp_driving = published.kp_detector(source), published.kp_detector(driving)
    background = published.bg_predictor(source, driving)
    prediction, motion = published(source, kp_driving, kp_source, background)
    state, moved = published.encode_source(source), published.detect(driving)
    found = {
        "kp_source": kp_source,
        "kp_driving": kp_driving,
        "bg_param": background,
        "prediction": prediction,
        "prediction_without_bg": published.animate(state, published.detect(source), moved),
        "deformation": motion.deformation,
        "contribution_maps": motion.contribution_maps,
        "occlusion_0": motion.occlusion_maps[0],
        "occlusion_3": motion.occlusion_maps[3],
        "avd_kp": published.avd_motion(published.detect(source), moved).components["value"],
    }
    differences = {name: (found[name] - wanted[name]).abs().max().item() for name in wanted}
    shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    record_property("measured", f"TPS vox-256 against the published network, max abs difference: {shown}")
    assert set(found) == set(wanted)
    assert all(found[name].shape == wanted[name].shape for name in wanted)
    allowed = {name: PARITY * (rounding() if name.startswith("prediction") else 1) for name in differences}
    assert all(differences[name] <= allowed[name] for name in differences)
    assert wanted["prediction"].std() > 0.02, "a flat picture would agree with anything"
    assert published.config == TPSConfig()
    assert published.motion_dim == 100


# --- sizes ----------------------------------------------------------------------------------------------------------

GRID = {
    "as it is": {},
    "one spline": {"num_splines": 1},
    "no background": {"background": None},
    "no AVD": {"avd": None},
    "wide frame": {"frame_size": (32, 48)},
    "a quarter": {"dense_motion": {"scale_factor": 0.25}},
    "full size": {"dense_motion": {"scale_factor": 1.0, "num_blocks": 3}},
    "narrow": {"dense_motion": {"max_features": 4, "block_expansion": 4}, "inpainting": {"max_features": 4}},
    "three down blocks": {"inpainting": {"num_down_blocks": 3, "max_features": 32}, "dense_motion": {"num_blocks": 3}},
    "one down block": {"inpainting": {"num_down_blocks": 1, "max_features": 8}},
    "wide AVD": {"avd": {"hidden": (4,), "identity": 2, "pose": 7}},
    "what leaves no trace": {"kp_variance": 0.1},
}


@pytest.mark.parametrize("changes", GRID.values(), ids=GRID)
def test_grid_of_sizes(changes):
    model = tiny_tps(**changes)
    config = model.config
    state = model.state_dict()
    extras = {name: getattr(config, name) for name in ("frame_size", "kp_variance")}
    assert TPSConfig.from_dict({**infer_config(state), **extras}) == config
    frames = pictures(2, config.frame_size)
    motion = model.detect(frames)
    assert motion.components["value"].shape == (2, config.num_splines * POINTS, 2)
    assert motion.components["value"].abs().max() <= 1
    cached = model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    assert cached.shape == frames.shape
    assert cached.min() >= 0 and cached.max() <= 1
    with torch.inference_mode():
        points = motion.components["value"]
        plain, dense = model(frames[:1].expand_as(frames), points, points[:1])
    torch.testing.assert_close(cached, plain, atol=1e-5, rtol=0)
    sides = [tuple(occlusion.shape[2:]) for occlusion in dense.occlusion_maps]
    height, width = config.frame_size
    downs = config.inpainting.num_down_blocks
    assert sides == [(height >> i, width >> i) for i in reversed(range(downs + 1))]
    torch.testing.assert_close(dense.contribution_maps.sum(dim=1), torch.ones_like(dense.deformation[..., 0]))
    assert (cached[0] - cached[1]).abs().max() > 1e-4, "another driving frame gives another picture"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_splines": 0}, "TPS config: expected num_splines above 0, found 0"),
        ({"dense_motion": {"scale_factor": 1 / 3}}, "TPS config: expected scale_factor 1, 1/2, 1/4, ..., found 0.333"),
        ({"inpainting": {"num_down_blocks": 0}}, "TPS config: expected 1 to 2 down blocks of the inpainting network"),
        ({"inpainting": {"num_down_blocks": 3}}, "TPS config: expected 1 to 2 down blocks of the inpainting network"),
    ],
)
def test_foreign_numbers_in_a_config(changes, message):
    with pytest.raises(KinecastError) as error:
        TPSConfig.from_dict(merged(TPS_SETTINGS, changes))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("changes", [{"splines": 3}, {"avd": {"depth": 3}}, {"frame_size": (1, 2, 3)}])
def test_unknown_keys_of_a_config_are_named(changes):
    with pytest.raises(KinecastError, match="TPS config: .*: see TPSConfig for the keys"):
        TPSConfig.from_dict({**TPSConfig().to_dict(), **changes})


def test_config_survives_plain_values():
    config = TPSConfig.from_dict(TPS_SETTINGS)
    assert TPSConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


# --- formulas -------------------------------------------------------------------------------------------------------


def published_spline(points: torch.Tensor, values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """One thin-plate spline in double precision, by the inverse of the system that the paper gives."""
    points, values, where = points.double(), values.double(), where.double()

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = ((a[:, None] - b[None]) ** 2).sum(2)
        return squared * (squared + 1e-9).log()

    count = len(points)
    line = torch.cat([points, torch.ones(count, 1)], 1)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = kernel(points, points)
    system[:count, count:], system[count:, :count] = line, line.T
    system += 0.01 * torch.eye(count + 3)
    weights = torch.linalg.inv(system) @ torch.cat([values, torch.zeros(3, 2)])
    return kernel(where, points) @ weights[:count] + torch.cat([where, torch.ones(len(where), 1)], 1) @ weights[count:]


def test_splines_are_those_of_the_paper():
    points, values = torch.rand(2, 3, POINTS, 2) * 2 - 1, torch.rand(2, 3, POINTS, 2) * 2 - 1
    found = spline_grids(points, values, 4, 6)
    where = coordinate_grid(4, 6, points).view(-1, 2)
    for b in range(2):
        for k in range(3):
            wanted = published_spline(points[b, k], values[b, k], where)
            torch.testing.assert_close(found[b, k].view(-1, 2).double(), wanted, atol=1e-3, rtol=1e-3)


def test_points_that_coincide_have_a_spline():
    points = torch.zeros(1, 1, POINTS, 2)
    assert torch.isfinite(spline_grids(points, points, 4, 4)).all()


def test_an_affine_background_moves_the_first_candidate():
    network = tiny_tps().dense_motion_network
    points = torch.rand(2, 2 * POINTS, 2) * 2 - 1
    matrix = torch.eye(3) + 0.2 * torch.randn(2, 3, 3)
    found = network.candidates(points, points, matrix, 3, 5)
    still = network.candidates(points, points, None, 3, 5)
    grid = coordinate_grid(3, 5, points)
    torch.testing.assert_close(still[0, 0], grid)
    assert torch.equal(still[:, 1:], found[:, 1:])
    for b in range(2):
        for y in range(3):
            for x in range(5):
                moved = matrix[b] @ torch.cat([grid[y, x], torch.ones(1)])
                torch.testing.assert_close(found[b, 0, y, x], moved[:2] / moved[2], atol=1e-4, rtol=1e-4)


def test_dropout_leaves_splines_out_and_the_background_in():
    logits = torch.randn(200, 5, 1, 1)
    found = _contributions(logits, 0.4)
    dropped = found[:, :, 0, 0] == 0
    assert not dropped[:, 0].any()
    assert 0.3 < dropped[:, 1:].float().mean() < 0.5
    torch.testing.assert_close(found.sum(dim=1), torch.ones(200, 1, 1), atol=1e-4, rtol=0)
    weights = logits[:, :, 0, 0].exp() * (~dropped) / torch.tensor([1, 0.6, 0.6, 0.6, 0.6])
    torch.testing.assert_close(found[:, :, 0, 0], weights / weights.sum(dim=1, keepdim=True), atol=1e-4, rtol=0)
    assert torch.equal(_contributions(logits, 0.0), logits.softmax(dim=1))


# --- modes ----------------------------------------------------------------------------------------------------------


def test_avd_motion_has_one_shape_and_each_pose():
    model = tiny_tps()
    motion = model.detect(pictures(3, (32, 32)))
    found = model.avd_motion(motion[0], motion)
    assert found.components["value"].shape == motion.components["value"].shape
    alone = model.avd_motion(motion[0], motion[2])
    torch.testing.assert_close(found[2].vectors(), alone.vectors())
    assert not torch.allclose(model.avd_motion(motion[1], motion[2]).vectors(), alone.vectors(), atol=1e-4)
    with pytest.raises(KinecastError, match="AVD mode: expected weights with avd_network, found none"):
        tiny_tps(avd=None).avd_motion(motion[0], motion)


def test_background_of_both_pictures_changes_the_frame():
    model = tiny_tps()
    frames = pictures(model.chunk + 1, (32, 32))
    state, motion = model.encode_source(frames[:1]), model.detect(frames)
    affine = model.background(frames[:1], frames)
    assert torch.equal(affine[:, 2], torch.tensor([0.0, 0, 1]).expand(len(frames), 3))
    with_it = model.animate(state, motion[0], motion, affine)
    for i in (0, len(frames) - 1):
        torch.testing.assert_close(model.animate(state, motion[0], motion[i], affine[i : i + 1])[0], with_it[i])
    assert (with_it - model.animate(state, motion[0], motion)).abs().max() > 1e-4
    with pytest.raises(KinecastError, match="expected weights with bg_predictor, found none"):
        tiny_tps(background=None).background(frames[:1], frames)


def test_relative_motion_is_the_change_scaled_by_hulls():
    model = tiny_tps(num_splines=1)
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1], [0.4, 0.6]])
    source, initial = (Motion("tps", {"value": side * corners[None]}) for side in (0.9, 0.3))
    driving = Motion("tps", {"value": initial.components["value"] + torch.tensor([0.1, -0.2])})
    plain = model.relative_motion(source, driving, initial, adapt_scale=False).components["value"]
    torch.testing.assert_close(plain, source.components["value"] + torch.tensor([0.1, -0.2]))
    scaled = model.relative_motion(source, driving, initial, adapt_scale=True).components["value"]
    torch.testing.assert_close(scaled, source.components["value"] + 3 * torch.tensor([0.1, -0.2]))
