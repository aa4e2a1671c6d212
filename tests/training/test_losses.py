"""The random warp and its derivative, the equivariance and adversarial losses, and the augmentation."""

from dataclasses import fields

import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.models.blocks.layers import coordinate_grid
from kinecast.models.fomm import Keypoints
from kinecast.training.augment import Augmentation
from kinecast.training.discriminator import MultiScaleDiscriminator, adversarial_losses, discriminator_loss
from kinecast.training.losses import RandomTransform, equivariance_losses, thin_plate_kernel
from tiny import pictures


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double_transform(batch: int, **options) -> RandomTransform:
    """A transform in double precision, for finite differences."""
    transform = RandomTransform(batch, seeded(), **options)
    for name in ("affine", "control", "weights"):
        setattr(transform, name, getattr(transform, name).double())
    return transform


# --- the warp -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"sigma_affine": 0.3, "sigma_tps": 0.1}, {"points": 3}, {"kernel": thin_plate_kernel, "sigma_tps": 0.1}],
    ids=["published", "wide", "few points", "thin plate"],
)
def test_jacobian_against_finite_differences(options):
    transform = double_transform(3, **options)
    points = torch.rand(3, 20, 2, dtype=torch.float64) * 1.8 - 0.9
    step = 1e-6
    columns = []
    for axis in torch.eye(2, dtype=torch.float64):
        forward, backward = transform.warp_points(points + step * axis), transform.warp_points(points - step * axis)
        columns.append((forward - backward) / (2 * step))
    found = transform.jacobian(points)
    assert found.shape == (3, 20, 2, 2)
    torch.testing.assert_close(found, torch.stack(columns, dim=-1), atol=1e-6, rtol=1e-6)


def test_warp_is_the_published_formula_at_one_point():
    """Affine part plus the sum over controls of w r^2 log(r + 1e-6), r in the L1 norm, on both coordinates."""
    transform = double_transform(1)
    point = torch.tensor([0.3, -0.7], dtype=torch.float64)
    bend = torch.zeros((), dtype=torch.float64)
    for row in range(5):
        for column in range(5):
            control = torch.tensor([column / 2 - 1, row / 2 - 1])
            r = (point - control).abs().sum()
            bend = bend + transform.weights[0, 5 * row + column] * r**2 * torch.log(r + 1e-6)
    wanted = transform.affine[0, :, :2] @ point + transform.affine[0, :, 2] + bend
    torch.testing.assert_close(transform.warp_points(point[None, None])[0, 0], wanted)


def test_without_spread_the_warp_is_the_identity():
    transform = RandomTransform(2, seeded(), sigma_affine=0, sigma_tps=0)
    points = torch.rand(2, 7, 2)
    torch.testing.assert_close(transform.warp_points(points), points)
    torch.testing.assert_close(transform.jacobian(points), torch.eye(2).expand(2, 7, 2, 2))


def test_the_same_generator_gives_the_same_warp_and_each_picture_its_own():
    first, second = RandomTransform(2, seeded(3)), RandomTransform(2, seeded(3))
    assert torch.equal(first.affine, second.affine) and torch.equal(first.weights, second.weights)
    assert not torch.equal(first.affine[0], first.affine[1])
    assert not torch.equal(first.weights[0], first.weights[1])


@pytest.mark.parametrize(
    "options", [{}, {"kernel": thin_plate_kernel, "align_corners": True}], ids=["of FOMM", "of TPS"]
)
@pytest.mark.parametrize("size", [(96, 96), (64, 96)], ids=str)
@pytest.mark.parametrize("place", [(0.0, 0.0), (0.3, -0.2), (-0.2, 0.3)], ids=str)
def test_a_transformed_picture_agrees_with_warped_points(size, place, options):
    """A blob at p in the picture is found, in the transformed picture, where `warp_points` leads to p."""
    height, width = size
    transform = RandomTransform(4, seeded(), **options)  # small enough that no reflection of the blob comes in
    grid = coordinate_grid(height, width, torch.zeros(()))
    centre = torch.tensor(place)
    blob = torch.exp(-0.5 * (grid - centre).square().sum(-1) / 0.05**2)
    warped = transform.transform(blob.expand(4, 3, height, width))
    assert warped.shape == (4, 3, height, width)
    weights = warped[:, :1].square().unsqueeze(-1)  # the square has no far tails
    found = (weights * grid).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
    pixel = 2 / min(size)
    assert (found[:, 0] - centre).norm(dim=1).max() > 2 * pixel, "the warp must move the blob for this to say anything"
    # Read from edge to edge, a grid from corner to corner moves what is far from the middle by up to half a pixel.
    nearest = 0.1 if transform.align_corners else 0.5
    assert (transform.warp_points(found)[:, 0] - centre).abs().max() < nearest * pixel


# --- equivariance ---------------------------------------------------------------------------------------------------


def equivariant(transform: RandomTransform, jacobian: bool) -> tuple[Keypoints, Keypoints]:
    """What a perfect detector finds in a picture and in its warped copy."""
    value = torch.rand(3, 5, 2, generator=seeded(1)) - 0.5
    frames = torch.eye(2) + 0.2 * torch.randn(3, 5, 2, 2, generator=seeded(2))
    original = transform.jacobian(value) @ frames
    return (
        Keypoints(transform.warp_points(value), original if jacobian else None),
        Keypoints(value, frames if jacobian else None),
    )


@pytest.mark.parametrize("jacobian", [True, False])
def test_a_perfectly_equivariant_detector_has_no_loss(jacobian):
    transform = RandomTransform(3, seeded(), sigma_affine=0.2, sigma_tps=0.05)
    value, frames = equivariance_losses(*equivariant(transform, jacobian), transform)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert (frames is not None) == jacobian
    assert frames is None or frames.item() == pytest.approx(0, abs=1e-5)


def test_equivariance_losses_measure_the_error():
    transform = RandomTransform(3, seeded())
    original, transformed = equivariant(transform, True)
    assert original.jacobian is not None
    wrong = Keypoints(original.value + torch.tensor([0.1, -0.3]), original.jacobian / 1.5)
    value, jacobian = equivariance_losses(wrong, transformed, transform)
    assert jacobian is not None
    assert value.item() == pytest.approx(0.2, abs=1e-5)  # the mean of 0.1 and 0.3
    assert jacobian.item() == pytest.approx(0.25, abs=1e-4)  # 0.5 on the diagonal, a half of the entries


def test_equivariance_losses_pull_both_pictures_keypoints():
    transform = RandomTransform(3, seeded())
    tensors = [part.detach() + 0.05 for pair in equivariant(transform, True) for part in pair if part is not None]
    for tensor in tensors:
        tensor.requires_grad_()
    value, jacobian = equivariance_losses(Keypoints(*tensors[:2]), Keypoints(*tensors[2:]), transform)
    assert jacobian is not None
    (value + jacobian).backward()
    assert all(tensor.grad is not None and tensor.grad.abs().max() > 0 for tensor in tensors)


# --- adversarial ----------------------------------------------------------------------------------------------------


def small_discriminator() -> MultiScaleDiscriminator:
    return MultiScaleDiscriminator((1, 0.5), block_expansion=4, num_blocks=2)


def test_adversarial_losses_reach_both_networks():
    network = small_discriminator()
    prediction, target = pictures(2).requires_grad_(), pictures(2, seed=1).requires_grad_()
    gan, matching = adversarial_losses(network, prediction, target)
    (gan + matching).backward()
    assert prediction.grad is not None and prediction.grad.abs().max() > 0
    assert target.grad is None
    network.zero_grad()
    prediction.grad = None
    discriminator_loss(network, prediction, target).backward()
    assert prediction.grad is None
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    # Instance normalisation takes the mean away, and with it the bias before it.
    silent = {n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8}
    assert all(name.endswith("down_blocks.1.conv.bias") for name in silent)


def test_least_squares_losses_are_what_they_say():
    network = small_discriminator().eval()
    prediction, target = pictures(2), pictures(2, seed=1)
    with torch.no_grad():
        real, fake = network(target), network(prediction)
        gan, matching = adversarial_losses(network, prediction, target)
        loss = discriminator_loss(network, prediction, target)
        assert adversarial_losses(network, target, target)[1] == 0
    wanted_gan = sum((1 - judged).square().mean() for _, judged in fake)
    wanted_loss = sum((1 - r).square().mean() + f.square().mean() for (_, r), (_, f) in zip(real, fake, strict=True))
    wanted_matching = sum(
        (a - b).abs().mean() for (r, _), (f, _) in zip(real, fake, strict=True) for a, b in zip(r, f, strict=True)
    )
    torch.testing.assert_close(gan, wanted_gan)
    torch.testing.assert_close(loss, wanted_loss)
    torch.testing.assert_close(matching, wanted_matching)


def test_scales_of_the_discriminator_survive_a_state_dict():
    network = small_discriminator().eval()
    state = network.state_dict()
    assert {name.split(".")[1] for name in state} == {"1", "0-5"}
    again = MultiScaleDiscriminator.from_state_dict(state).eval()
    for (_, wanted), (_, found) in zip(network(pictures(1)), again(pictures(1)), strict=True):
        assert torch.equal(wanted, found)


# --- augmentation ---------------------------------------------------------------------------------------------------

ALL = Augmentation(zoom=0.2, shift=0.1, turn=0.2, hue=0.2, saturation=0.5)
NONE = Augmentation(**{f.name: 0.0 if f.name != "flip" else False for f in fields(Augmentation)})  # type: ignore[arg-type]


@pytest.mark.parametrize("augmentation", [ALL, Augmentation()], ids=["all", "default"])
def test_both_frames_of_a_pair_change_alike(augmentation):
    frames = pictures(6)
    source, driving, target = augmentation.apply(frames, frames, seeded())
    assert torch.equal(source, driving)
    assert torch.equal(driving, target)
    assert source.shape == frames.shape
    assert source.min() >= 0 and source.max() <= 1
    assert (source - frames).abs().mean(dim=(1, 2, 3)).min() > 0.005, "every pair changes"


def test_pairs_of_a_batch_change_differently_and_a_seed_repeats_them():
    frames = pictures(1).expand(8, -1, -1, -1)
    first, _, _ = ALL.apply(frames, frames, seeded(1))
    again, _, _ = ALL.apply(frames, frames, seeded(1))
    other, _, _ = ALL.apply(frames, frames, seeded(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)
    distances = torch.cdist(first.flatten(1), first.flatten(1)) + torch.eye(8)
    assert distances.min() > 0.1


def test_without_ranges_nothing_changes():
    frames, others = pictures(3), pictures(3, seed=1)
    source, driving, target = NONE.apply(frames, others, seeded())
    torch.testing.assert_close(source, frames)
    torch.testing.assert_close(driving, others)
    assert torch.equal(driving, target)


def test_flips_mirror_half_of_the_pairs():
    frames = pictures(40)
    flipped = Augmentation(flip=True, brightness=0, contrast=0, saturation=0, hue=0)
    source, _, _ = flipped.apply(frames, frames, seeded())
    mirrored = [torch.allclose(s, f.flip(-1), atol=1e-5) for s, f in zip(source, frames, strict=True)]
    kept = [torch.allclose(s, f, atol=1e-5) for s, f in zip(source, frames, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


@pytest.mark.parametrize("name, widest", [("brightness", 0.02), ("contrast", 0.03)])
def test_light_changes_stay_in_their_range(name, widest):
    """At a grey of 0.2 brightness changes it by a tenth of 0.2, contrast by a tenth of its distance from 0.5."""
    grey = torch.full((50, 3, 8, 8), 0.2)
    only = Augmentation(**{f.name: 0.0 for f in fields(Augmentation)} | {"flip": False, name: 0.1})
    changed, _, _ = only.apply(grey, grey, seeded())
    spread = (changed - 0.2).abs().amax(dim=(1, 2, 3))
    assert 0.7 * widest < spread.max() <= widest + 1e-6


def test_hue_and_saturation_leave_greys_and_brightness_alone():
    only = Augmentation(flip=False, brightness=0, contrast=0, saturation=0.5, hue=0.3)
    grey = torch.rand(8, 1, 8, 8).expand(-1, 3, -1, -1)
    torch.testing.assert_close(only.apply(grey, grey, seeded())[0], grey)
    colours = 0.4 + 0.2 * pictures(8)  # far from the limits that clip
    changed, _, _ = only.apply(colours, colours, seeded())
    torch.testing.assert_close(changed.mean(dim=1), colours.mean(dim=1))
    assert (changed - colours).abs().max() > 0.02


def test_moves_keep_inside_their_range():
    """A square in the middle moves by at most the shift, along both axes."""
    still = torch.zeros(20, 3, 64, 64)
    still[:, :, 28:36, 28:36] = 1
    only = Augmentation(flip=False, brightness=0, contrast=0, saturation=0, hue=0, shift=0.1)
    moved, _, _ = only.apply(still, still, seeded())
    pixels = torch.arange(64.0)
    for axis in (2, 3):
        mass = moved[:, 0].sum(dim=axis - 1)
        centre = (mass * pixels).sum(dim=1) / mass.sum(dim=1)
        assert 3 < (centre - 31.5).abs().max() <= 6.4 + 0.1


@pytest.mark.parametrize("name", ["brightness", "hue", "shift"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_ranges_that_make_no_sense(name, value):
    with pytest.raises(KinecastError) as error:
        Augmentation(**{name: value})
    assert str(error.value) == f"augmentation: expected {name} in [0, 1), found {value}"
