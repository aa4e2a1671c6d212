"""Weight files: our own and the published ones come back whole, and everything else is refused in one line."""

import copy
import datetime
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.files.weights import read_torch
from kinecast.models.base import Backbone
from kinecast.models.checkpoints import import_published, load_backbone_file, save_backbone
from kinecast.models.fomm import FOMM
from kinecast.training.discriminator import MultiScaleDiscriminator
from tiny import pictures, tiny_fomm
from tiny_backbones import tiny_tps


def published(model: FOMM, prefix: str = "") -> dict:
    """Return a checkpoint as the published ones are: state dicts of parts and optimisers, and the epoch."""
    discriminator = MultiScaleDiscriminator(block_expansion=2, num_blocks=2)
    modules = {"generator": model.generator, "kp_detector": model.kp_detector, "discriminator": discriminator}
    checkpoint: dict = {}
    for name, module in modules.items():
        checkpoint[name] = {f"{prefix}{key}": tensor for key, tensor in module.state_dict().items()}
        optimizer = torch.optim.Adam(module.parameters())
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        optimizer.step()  # so that it has moments to save
        module.load_state_dict(state)
        checkpoint[f"optimizer_{name}"] = optimizer.state_dict()
    return checkpoint | {"epoch": 99}


def outputs(model: Backbone) -> list[Tensor]:
    frames = pictures(3, (64, 96))
    motion = model.detect(frames)
    return [motion.vectors(), model.animate(model.encode_source(frames[:1]), motion[:1], motion)]


def assert_same_outputs(found: Backbone, wanted: Backbone) -> None:
    for a, b in zip(outputs(found), outputs(wanted), strict=True):
        assert torch.equal(a, b)


# --- our own files --------------------------------------------------------------------------------------------------

LEAVES_NO_TRACE = {
    **{"frame_size": (64, 96), "temperature": 0.3, "head_padding": 3},
    **{"kp_variance": 0.05, "align_corners": True},
}


@pytest.mark.parametrize(
    "changes",
    [{}, LEAVES_NO_TRACE, {"single_jacobian_map": True, "num_keypoints": 7}, {"estimate_jacobian": False}],
    ids=str,
)
def test_float32_comes_back_bit_for_bit(tmp_path, changes):
    model = tiny_fomm(**changes)
    path = tmp_path / "model.safetensors"
    save_backbone(model, path, {"licence": "CC0-1.0"})
    again = load_backbone_file(path)
    assert again.config == model.config
    assert not again.training
    state, wanted = again.state_dict(), model.state_dict()
    assert list(state) == list(wanted)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert_same_outputs(again, model)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert (metadata["licence"], metadata["backbone"], metadata["kind"]) == ("CC0-1.0", "fomm", "kinecast-backbone-1")
    assert os.listdir(tmp_path) == [path.name]


def test_info_cannot_pass_for_another_kind(tmp_path):
    save_backbone(tiny_fomm(), tmp_path / "a.safetensors", {"kind": "song", "backbone": "violin"})
    assert load_backbone_file(tmp_path / "a.safetensors").name == "fomm"


def test_half_precision_halves_the_file_and_rounds_once(tmp_path):
    model = tiny_fomm(generator={"block_expansion": 16, "max_features": 64})
    for half in (False, True):
        save_backbone(model, tmp_path / f"{half}.safetensors", {}, half=half)
    numbers = sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())
    full, small = ((tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True))
    assert abs(full - small - 2 * numbers) < 2048  # the headers differ by a few digits
    assert small < 0.62 * full
    again = load_backbone_file(tmp_path / "True.safetensors").state_dict()
    for name, tensor in model.state_dict().items():
        wanted = tensor.half().float() if tensor.is_floating_point() else tensor
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], wanted), name


def test_saving_leaves_the_model_as_it_is(tmp_path):
    model = tiny_fomm()
    before = [t.clone() for t in model.state_dict().values()]
    save_backbone(model.to(memory_format=torch.channels_last), tmp_path / "a.safetensors", {}, half=True)  # type: ignore[call-overload]
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


# --- published files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "changes",
    [
        {"num_keypoints": 7, "detector": {"block_expansion": 6, "max_features": 24}, "frame_size": (256, 256)},
        {
            "single_jacobian_map": True,
            "generator": {"block_expansion": 8, "max_features": 32},
            "frame_size": (256, 256),
        },
    ],
    ids=["another width and K", "single map"],
)
def test_published_checkpoints_give_identical_outputs(tmp_path, prefix, zipped, changes):
    model = tiny_fomm(**changes, align_corners=True)  # as the published ones were trained
    path = tmp_path / "vox-cpk.pth.tar"
    torch.save(published(model, prefix), path, _use_new_zipfile_serialization=zipped)
    for found in (import_published(path), load_backbone_file(path)):
        assert found.config == model.config
        assert_same_outputs(found, model)
    assert import_published(path, frame_size=128).frame_size == (128, 128)


def test_published_to_ours_and_back(tmp_path):
    model = tiny_fomm(frame_size=(256, 256), align_corners=True)
    torch.save({k: v for k, v in published(model).items() if k in ("generator", "kp_detector")}, tmp_path / "a.pth.tar")
    save_backbone(import_published(tmp_path / "a.pth.tar"), tmp_path / "a.safetensors", {})
    assert_same_outputs(load_backbone_file(tmp_path / "a.safetensors"), model)


def test_what_numpy_left_in_a_checkpoint_is_passed_over(tmp_path):
    """One's own training leaves epochs and losses as numpy numbers and arrays: torch alone refuses the file."""
    model = tiny_fomm(frame_size=(256, 256))
    left = {
        "epoch": np.int64(5),
        "best": np.float64(0.1),
        "done": np.bool_(True),
        "losses": np.zeros((3, 2), np.float32),
        "names": np.array(["l1", "kp"]),
        "objects": np.array([None, 3], dtype=object),
        "kind": np.dtype("float32"),
        "random": np.random.RandomState(0).get_state(),
        "history": [{"step": np.int32(1), "loss": np.float32(2)}],
    }
    for zipped in (True, False):
        found = import_published(saved(published(model) | left, tmp_path / "a.pth.tar", zipped), align_corners=False)
        assert_same_outputs(found, model)


@pytest.mark.parametrize("name", ["state_dict", "model"])
@pytest.mark.parametrize("flat", [True, False])
def test_a_network_within_a_checkpoint_is_found(tmp_path, name, flat):
    """Lightning keeps the one state dict of the whole network beside the state of the run; others its parts."""
    model = tiny_fomm(frame_size=(256, 256))
    parts = {part: state for part, state in published(model).items() if part in ("generator", "kp_detector")}
    inner = {f"{part}.{key}": t for part, state in parts.items() for key, t in state.items()} if flat else parts
    path = saved({name: inner, "epoch": 3, "optimizer_states": [{}]}, tmp_path / "a.ckpt", zipped=True)
    assert_same_outputs(import_published(path, align_corners=False), model)


def test_files_of_numpy_1_and_2_are_read(tmp_path):
    """Functions of numpy have one home before version 2 and another since: files name the one of their day."""
    path = saved({"epoch": np.int64(5), "losses": np.zeros(3)}, tmp_path / "a.pth", zipped=False)
    content = path.read_bytes()
    here, there = (b"numpy._core.", b"numpy.core.") if b"numpy._core." in content else (b"numpy.core.", b"numpy._core.")
    assert content.count(here) >= 2
    for data in (content, content.replace(here, there)):
        path.write_bytes(data)
        assert set(read_torch(path)) == {"epoch", "losses"}


def test_nothing_of_numpy_is_called(tmp_path):
    """An array over bytes of the file would be an array of pointers into memory."""

    class Pointers:
        def __reduce__(self):
            return np.ndarray, ((1,), "O", b"\1" * 8)

    found = read_torch(saved({"a": Pointers()}, tmp_path / "a.pth"))
    assert not isinstance(found["a"], np.ndarray)


def test_numpy_lets_nothing_else_in(tmp_path):
    for name, value in {"path": Path("x"), "function": np.load, "time": datetime.timedelta(1)}.items():
        path = saved(published(tiny_fomm()) | {name: value, "epoch": np.int64(5)}, tmp_path / "a.pth.tar")
        with pytest.raises(KinecastError, match="refused: expected tensors only"):
            import_published(path)


def compiled(module: Any) -> Any:
    return torch.compile(module)


@pytest.mark.parametrize("deep", [True, False], ids=["a part of a part", "the whole network"])
def test_prefixes_of_wrappers_at_any_level(tmp_path, deep):
    """torch.compile and DataParallel name what they wrapped, be it the network, a part, or a part of a part."""
    model = tiny_fomm(frame_size=(256, 256))
    wanted = copy.deepcopy(model)
    if deep:
        model.kp_detector.predictor = compiled(torch.nn.DataParallel(model.kp_detector.predictor))
        model.generator.bottleneck = torch.nn.DataParallel(model.generator.bottleneck)  # type: ignore[assignment]
        modules = {"generator": model.generator, "kp_detector": model.kp_detector}
        checkpoint = {name: compiled(module).state_dict() for name, module in modules.items()}
        assert "_orig_mod.predictor._orig_mod.module.encoder.down_blocks.0.conv.weight" in checkpoint["kp_detector"]
    else:
        checkpoint = dict(compiled(model).state_dict())
        assert all(name.startswith("_orig_mod.") for name in checkpoint)
    found = import_published(saved(checkpoint, tmp_path / "a.pth.tar"), align_corners=False)
    assert_same_outputs(found, wanted)


def test_a_tensor_with_and_without_a_prefix_is_refused(tmp_path):
    checkpoint = published(tiny_fomm())
    checkpoint["generator"]["module.final.bias"] = torch.zeros(3)
    with pytest.raises(
        KinecastError, match="expected one tensor final.bias, found it with and without a wrapper's prefix"
    ):
        import_published(saved(checkpoint, tmp_path / "a.pth.tar"))


def test_how_a_published_fomm_reads_its_grid_is_chosen_on_import_and_kept(tmp_path):
    model = tiny_fomm()
    path = tmp_path / "a.pth.tar"
    torch.save(published(model), path)
    found = {corners: import_published(path, 64, corners) for corners in (None, True, False)}
    settings = {corners: each.config.to_dict()["align_corners"] for corners, each in found.items()}
    assert settings == {None: True, True: True, False: False}
    assert_same_outputs(found[False], model)
    assert_same_outputs(found[None], found[True])
    assert (outputs(found[True])[1] - outputs(found[False])[1]).abs().max() > 0.01, "the setting must matter"
    for corners in (True, False):
        save_backbone(found[corners], tmp_path / "a.safetensors", {})
        assert_same_outputs(load_backbone_file(tmp_path / "a.safetensors"), found[corners])


@pytest.mark.parametrize("corners", [True, False])
def test_other_backbones_have_one_way_to_read_their_grid(tmp_path, corners):
    parts: dict = {}
    for name, tensor in tiny_tps().state_dict().items():
        part, name = name.split(".", 1)
        parts.setdefault(part, {})[name] = tensor
    torch.save(parts, tmp_path / "a.pth.tar")
    with pytest.raises(KinecastError, match=r"a\.pth\.tar: expected align_corners for a FOMM only, found a TPS"):
        import_published(tmp_path / "a.pth.tar", 32, corners)


def test_half_precision_checkpoints_are_read_as_float32(tmp_path):
    checkpoint = published(tiny_fomm().half())
    torch.save(checkpoint, tmp_path / "a.pth.tar")
    found = import_published(tmp_path / "a.pth.tar")
    assert {t.dtype for t in found.parameters()} == {torch.float32}


# --- refusals -------------------------------------------------------------------------------------------------------


class Payload:
    """What a malicious checkpoint holds: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def saved(checkpoint, path: Path, zipped: bool = True) -> Path:
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    return path


def without(checkpoint: dict, part: str, name: str) -> dict:
    return checkpoint | {part: {key: tensor for key, tensor in checkpoint[part].items() if key != name}}


def extra(checkpoint: dict, part: str, **tensors) -> dict:
    return checkpoint | {part: checkpoint[part] | {name.replace("__", "."): t for name, t in tensors.items()}}


def code(folder: Path, zipped: bool) -> Path:
    evil = published(tiny_fomm()) | {"epoch": Payload(folder / "marker")}
    return saved(evil, folder / "evil.pth.tar", zipped)


def plain_pickle(folder: Path, protocol: int) -> Path:
    path = folder / "evil.pkl"
    path.write_bytes(pickle.dumps(Payload(folder / "marker"), protocol=protocol))
    return path


def disguised(folder: Path) -> Path:
    return plain_pickle(folder, 2).rename(folder / "evil.safetensors")


def tps(folder: Path) -> Path:
    parts = ("kp_detector", "dense_motion_network", "inpainting_network", "optimizer")
    return saved({part: {"conv1.weight": torch.zeros(3)} for part in parts} | {"epoch": 3}, folder / "tps.pth.tar")


def face_vid2vid(folder: Path) -> Path:
    parts = ("generator", "kp_detector", "he_estimator")
    return saved({part: {"conv1.weight": torch.zeros(3)} for part in parts}, folder / "fv.pth.tar")


def tps_part(folder: Path) -> Path:
    return saved({"inpainting_network": {"conv1.weight": torch.zeros(3)}, "epoch": 3}, folder / "tps.pth.tar")


def face_part(folder: Path) -> Path:
    return saved({"he_estimator": {"conv1.weight": torch.zeros(3)}}, folder / "fv.pth.tar")


def missing(folder: Path, name: str) -> Path:
    return saved(without(published(tiny_fomm()), "generator", name), folder / "a.pth.tar")


def foreign(folder: Path) -> Path:
    return saved(extra(published(tiny_fomm()), "kp_detector", attention__weight=torch.zeros(3)), folder / "a.pth.tar")


def misshapen(folder: Path) -> Path:
    return saved(
        extra(published(tiny_fomm()), "generator", final__weight=torch.zeros(3, 5, 7, 7)), folder / "a.pth.tar"
    )


def another_network(folder: Path) -> Path:
    return saved(
        {part: {"layer.weight": torch.zeros(3)} for part in ("generator", "kp_detector")}, folder / "a.pth.tar"
    )


def scalars(folder: Path) -> Path:
    return saved(extra(published(tiny_fomm()), "kp_detector", kp__bias=torch.zeros(())), folder / "a.pth.tar")


def no_state_dict(folder: Path) -> Path:
    return saved({"generator": torch.zeros(3), "kp_detector": [1, 2]}, folder / "a.pth.tar")


def no_tensors(folder: Path) -> Path:
    return saved({"generator": {"a": 3}, "kp_detector": {}}, folder / "a.pth.tar")


def numbered(folder: Path) -> Path:
    return saved({"generator": {1: torch.zeros(1)}, "kp_detector": {}}, folder / "a.pth.tar")


def one_tensor(folder: Path) -> Path:
    return saved(torch.zeros(3), folder / "a.pth.tar")


def not_finite(folder: Path, value: float) -> Path:
    model = tiny_fomm()
    model.state_dict()["generator.final.bias"][1] = value
    return saved(published(model), folder / "a.pth.tar")


def truncated(folder: Path, zipped: bool) -> Path:
    path = saved(published(tiny_fomm()), folder / "a.pth.tar", zipped)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def empty(folder: Path, name: str) -> Path:
    (folder / name).touch()
    return folder / name


def text(folder: Path, name: str) -> Path:
    (folder / name).write_text("keypoints\n" * 30)
    return folder / name


def nothing(folder: Path) -> Path:
    return folder / "gone.safetensors"


def a_folder(folder: Path) -> Path:
    return folder


def ours(folder: Path, edit=lambda state, metadata: None) -> Path:
    """One of our files, changed by `edit`."""
    path = folder / "a.safetensors"
    save_backbone(tiny_fomm(), path, {})
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    edit(state, metadata)
    save_file(state, path, metadata)
    return path


def plain_safetensors(folder: Path) -> Path:
    save_file({"weight": torch.zeros(3)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def cut_safetensors(folder: Path) -> Path:
    path = ours(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def with_metadata(folder: Path, **changes) -> Path:
    def edit(state, metadata):
        metadata |= changes
        for name in [name for name, value in metadata.items() if value is None]:
            del metadata[name]

    return ours(folder, edit)


def without_tensor(folder: Path) -> Path:
    return ours(folder, lambda state, metadata: state.pop("generator.final.bias"))


def nan_in_ours(folder: Path) -> Path:
    return ours(folder, lambda state, metadata: state["kp_detector.kp.weight"].fill_(torch.nan))


RUN = "refused: expected tensors only, found a pickle that would run code (posix.system)"
UNKNOWN = "refused: expected tensors only, found a pickle that is damaged or of another kind"
FOMM_PARTS = "expected a FOMM checkpoint with generator and kp_detector, found "
CUT = "expected a torch checkpoint, found the first "
TEXT = "found text that begins with 'keypoints': download the file itself"
DAMAGED = "expected a torch checkpoint, found a damaged or foreign file ("
REFUSED = [
    (code, {"zipped": True}, [RUN]),
    (code, {"zipped": False}, [RUN]),
    (plain_pickle, {"protocol": 2}, [RUN]),
    (plain_pickle, {"protocol": 4}, [UNKNOWN]),
    (disguised, {}, ["expected safetensors, found a pickle, as old torch checkpoints are: "]),
    (tps, {}, ["expected the tensors of a TPS", "is this another model?"]),
    (tps_part, {}, ["expected a TPS checkpoint with kp_detector, dense_motion_network and inpainting_network, found "]),
    (face_vid2vid, {}, ["expected the tensors of a face-vid2vid", "is this another model?"]),
    (
        face_part,
        {},
        ["expected a face-vid2vid checkpoint with generator, kp_detector and he_estimator, found he_estimator"],
    ),
    (missing, {"name": "final.weight"}, ["Missing key(s)", '"generator.final.weight"']),
    (missing, {"name": "down_blocks.0.conv.bias"}, ["generator.down_blocks.0.conv.bias", "is this another model?"]),
    (foreign, {}, ["Unexpected key(s)", '"kp_detector.attention.weight"']),
    (misshapen, {}, ["size mismatch for generator.final.weight"]),
    (another_network, {}, ["expected the tensors of a FOMM", "kp_detector.kp.bias"]),
    (scalars, {}, ["expected the tensors of a FOMM"]),
    (no_state_dict, {}, ["expected generator to be a state dict of tensors, found other values in it"]),
    (no_tensors, {}, ["expected generator to be a state dict of tensors, found other values in it"]),
    (numbered, {}, ["expected generator to be a state dict of tensors, found other values in it"]),
    (one_tensor, {}, [FOMM_PARTS + "Tensor"]),
    (not_finite, {"value": torch.nan}, ["expected finite weights, found NaN or infinity in generator.final.bias"]),
    (not_finite, {"value": -torch.inf}, ["expected finite weights, found NaN or infinity in generator.final.bias"]),
    (truncated, {"zipped": True}, [CUT, "which is cut off: download it again"]),
    (truncated, {"zipped": False}, [DAMAGED]),
    (empty, {"name": "a.pth.tar"}, ["expected a weights file, found an empty file (0 bytes)"]),
    (empty, {"name": "a.safetensors"}, ["expected a weights file, found an empty file (0 bytes)"]),
    (text, {"name": "a.pth.tar"}, ["expected a torch checkpoint, " + TEXT]),
    (text, {"name": "a.safetensors"}, ["expected safetensors, " + TEXT]),
    (nothing, {}, ["expected a weights file, found nothing there: check the path"]),
    (a_folder, {}, ["expected a weights file, found a folder: name a file"]),
    (
        plain_safetensors,
        {},
        ["expected weights of kind kinecast-backbone-1, found none named: use a file that `kinecast zoo import` wrote"],
    ),
    (with_metadata, {"kind": "kinecast-forecaster-1"}, ["kind kinecast-backbone-1, found kinecast-forecaster-1"]),
    (
        with_metadata,
        {"backbone": "eigenface"},
        ["expected a backbone of fomm, tps, face-vid2vid, mesh, found 'eigenface'"],
    ),
    (with_metadata, {"config": None}, ["expected a config in the metadata, found KeyError: 'config'"]),
    (with_metadata, {"config": "{"}, ["expected a config in the metadata, found JSONDecodeError"]),
    (with_metadata, {"config": "3"}, ["expected a config in the metadata, found TypeError"]),
    (with_metadata, {"config": '{"wings": 2}'}, ["FOMM config:", "wings"]),
    (with_metadata, {"config": '{"num_keypoints": 9}'}, ["size mismatch for kp_detector.kp.weight"]),
    (cut_safetensors, {}, ["expected safetensors, found ", " bytes of a safetensors file of "]),
    (without_tensor, {}, ["Missing key(s)", '"generator.final.bias"']),
    (nan_in_ours, {}, ["expected finite weights, found NaN or infinity in kp_detector.kp.weight"]),
]


@pytest.mark.parametrize("make, options, words", REFUSED, ids=[f"{m.__name__} {o or ''}" for m, o, _ in REFUSED])
def test_what_is_refused(tmp_path, recwarn, make, options, words):
    path = make(tmp_path, **options)
    with pytest.raises(KinecastError) as error:
        load_backbone_file(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 900
    for word in words:
        assert word in message
    assert not (tmp_path / "marker").exists(), "the payload has run"
    assert not recwarn.list


def test_the_payload_of_these_tests_does_run(tmp_path):
    """Without this, the refusals above would prove nothing."""
    with plain_pickle(tmp_path, 2).open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), near_head=st.booleans(), value=st.integers(0, 255), cut=st.booleans())
def test_no_damage_is_a_traceback(tmp_path, kind, place, near_head, value, cut):
    whole = tmp_path / f"whole.{kind}"
    if not whole.exists():
        model = tiny_fomm()
        if kind == "safetensors":
            save_backbone(model, whole, {})
        else:
            saved(
                {"generator": model.generator.state_dict(), "kp_detector": model.kp_detector.state_dict()},
                whole,
                kind == "zip",
            )
    content = bytearray(whole.read_bytes())
    index = int(place * (min(4096, len(content)) if near_head else len(content)))
    if cut:
        del content[index:]
    else:
        content[index] = value
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth.tar")
    path.write_bytes(content)
    try:
        found = load_backbone_file(path)
    except KinecastError as error:
        assert "\n" not in str(error)
    else:  # a changed number is no damage that a file without a checksum could show
        assert not cut
        assert set(found.state_dict()) == set(tiny_fomm().state_dict())
