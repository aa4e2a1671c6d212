"""The weights that come with the package: whole, small, described, and of use."""

import pytest
import torch

from kinecast import load_backbone, load_forecaster
from kinecast.errors import KinecastError
from kinecast.media.video import read_batches
from kinecast.metrics.pixel import mae
from kinecast.zoo import FORECASTERS, TABLE, default_forecaster, forecaster_for, names

MOST_BYTES = {"tiny": 2_000_000}
BYTES = 12_000_000


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_a_bundled_file_is_whole_small_and_described(entry):
    entry.verify()
    assert entry.path.stat().st_size < MOST_BYTES.get(entry.name, BYTES)
    card = entry.card.read_text()
    assert card.startswith(f"# {entry.name}\n")
    for needed in ("Licence", "Trained on", "Kept out", "Recipe", "Limits"):
        assert needed in card


@pytest.mark.parametrize("name", names("forecaster"))
def test_bundled_forecasters_forecast(name):
    model = load_forecaster(name, "cpu")
    future = model.forecast(torch.randn(1, 12, model.motion_dim).cumsum(dim=1) * 0.01, 12, 2, seed=0)
    assert future.shape == (2, 1, 12, model.motion_dim)
    assert future.isfinite().all()


@pytest.mark.parametrize("name", names("backbone"))
def test_bundled_backbones_beat_copying_on_a_person_they_have_not_seen(name, data_folder):
    clip = data_folder / "voxceleb" / "id10291_aQ6uxeakacs_001405_001583.mp4"
    model = load_backbone(name, "cpu", engine="fast")
    frames = torch.cat(list(read_batches(clip, model.frame_size, "center", 32)))[::20]
    anchor = model.detect(frames[:1])
    rebuilt = model.animate(model.encode_source(frames[:1]), anchor, model.detect(frames))
    error, copying = float(mae(rebuilt, frames).mean()), float(mae(frames[:1].expand_as(frames), frames).mean())
    assert error < 0.7 * copying


@pytest.mark.parametrize("backbone", FORECASTERS)
def test_forecasters_are_of_the_motion_of_the_backbone_they_are_listed_under(backbone):
    dim = load_backbone(backbone, "cpu").motion_dim
    for name in FORECASTERS[backbone]:
        assert forecaster_for(name, dim, "cpu").motion_dim == dim


def test_where_none_is_named_the_mesh_has_a_forecaster_of_its_own():
    from kinecast.apps.call.models import _sampler

    assert default_forecaster("mesh") == "transformer-mesh"
    sampler = _sampler("mesh", 38)
    assert sampler is not None and sampler.name == "transformer"
    assert _sampler("mesh-of-mine.safetensors", 38) is None  # whose numbers may mean something else
    with_scene = _sampler("mesh", 42)
    assert with_scene is not None and with_scene.motion_dim == 42
    with pytest.raises(KinecastError, match="of 40 numbers per frame"):
        forecaster_for("transformer-mesh", 40)
