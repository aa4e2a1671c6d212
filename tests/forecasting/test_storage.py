from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.storage import load_forecaster_file, open_forecaster, save_forecaster
from kinecast.forecasting.vrnn_released import ReleasedVRNN


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "gru.safetensors"
    save_forecaster(build_forecaster("gru", 4, hidden=4, read_out=4), path)
    return path


def metadata(**changes: str) -> dict[str, str]:
    known = {"kinecast": "forecaster", "format": "1", "name": "gru", "motion_dim": "4", "about": "{}"}
    return known | {"config": '{"hidden": 4, "read_out": 4}'} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinecast": "backbone"}, "expected a forecaster .* found one of kind 'backbone'"),
        ({"format": "9"}, "expected format 1, found 9: update kinecast"),
        ({"name": "oracle"}, "forecaster 'oracle': expected one of"),
        ({"config": '{"hidden": 5, "read_out": 4}'}, "size mismatch"),
        ({"config": '{"wings": 5}'}, "found wings"),
        ({"config": "{"}, "expected tensors that fit the config"),
        ({"motion_dim": "many"}, "expected tensors that fit the config"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(saved: Path, changes: dict[str, str], message: str) -> None:
    save_file(load_file(saved), saved, metadata(**changes))
    with pytest.raises(KinecastError, match=message) as caught:
        load_forecaster_file(saved)
    assert "\n" not in str(caught.value)


def test_missing_tensors_are_named(saved: Path) -> None:
    tensors = load_file(saved)
    del tensors["damping"]
    save_file(tensors, saved, metadata())
    with pytest.raises(KinecastError, match="damping"):
        load_forecaster_file(saved)


def test_nan_weights_are_refused(saved: Path) -> None:
    tensors = load_file(saved)
    tensors["damping"][1] = torch.nan
    save_file(tensors, saved, metadata())
    with pytest.raises(
        KinecastError, match="expected finite weights, found NaN or infinity in damping: train it again"
    ):
        load_forecaster_file(saved)


def test_foreign_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"conv.weight": torch.zeros(2)}, foreign)
    with pytest.raises(KinecastError, match=r"found foreign tensors \(conv.weight\)"):
        load_forecaster_file(foreign)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(foreign.read_bytes()[:20])
    with pytest.raises(KinecastError, match="expected safetensors"):
        load_forecaster_file(damaged)
    with pytest.raises(KinecastError, match="found nothing there"):
        load_forecaster_file(tmp_path / "none.safetensors")


def test_the_released_format_is_known_by_its_tensors(tmp_path: Path) -> None:
    model = build_forecaster("vrnn-released", 4, hidden=8, latent=3, fc=8)
    save_file(model.state_dict(), tmp_path / "released.safetensors")
    assert isinstance(load_forecaster_file(tmp_path / "released.safetensors"), ReleasedVRNN)


def test_open_by_name_or_path(saved: Path) -> None:
    observed = ar_windows(1, 3)
    assert torch.equal(open_forecaster("repeat", 4).forecast(observed, 2)[0, :, 0], observed[:, -1])
    assert open_forecaster(str(saved), 4).name == "gru"
    with pytest.raises(KinecastError, match="expected a forecaster of 60 numbers per frame, found one of 4"):
        open_forecaster(str(saved), 60)
    with pytest.raises(KinecastError, match="train it: kinecast train forecaster"):
        open_forecaster("damped", 4)
    with pytest.raises(KinecastError, match="found neither: check the path"):
        open_forecaster("nowhere.safetensors", 4)
