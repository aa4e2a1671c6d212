"""What is saved under a checkpoint's name and is none is named, in one line, wherever weights are read."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from kinecast.errors import KinecastError
from kinecast.files.weights import read_tensors, read_torch, without_wrappers, write_tensors, write_torch
from kinecast.forecasting.storage import load_forecaster_file
from kinecast.models.checkpoints import import_published, load_backbone_file
from kinecast.training.perceptual import load_features

PAGE = "<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head><body>Sorry</body></html>\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 238041881\n"


def torch_file(zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2000)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def zip_file(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 100)
    return buffer.getvalue()


def tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("vox-cpk.pth"))
    return buffer.getvalue()


FOREIGN = {
    "page": (PAGE.encode(), r"a web page \(HTML\): download the file that the page offers"),
    "page after a comment": (f"\ufeff\n<!-- {'x' * 900} -->\n<HTML>".encode(), "a web page"),
    "page in Latin-1": (PAGE.replace("Sorry", "Größe überschritten").encode("latin-1"), "a web page"),
    "page in UTF-16": (PAGE.encode("utf-16"), "a web page"),
    "XHTML": (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>", "a web page"),
    "refusal of a store": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "text that begins with .<.xml"),
    "plain refusal": (b"Entry not found", "text that begins with 'Entry not found': download the file itself"),
    "JSON": (b'{"message": "Not Found"}', "text that begins with '{.message.: .Not Found.}'"),
    "git-LFS": (POINTER.encode(), "a git-LFS pointer of [0-9]+ bytes, not the file itself: run `git lfs pull`"),
    "zip": (zip_file("vox.pth.tar", "README", "a", "b"), r"a zip archive that holds 'vox.pth.tar, README, a, ...'"),
    "tar": (tar_file(), "a tar archive: unpack it"),
    "gzip": (gzip.compress(b"weights"), "a gzip archive: unpack it"),
    "cut zip": (torch_file()[:1500], "the first 1500 bytes of a torch checkpoint or zip archive, which is cut off"),
    "zeros": (bytes(5000), "5000 bytes that begin with 4096 zeros: download it again"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), r"a picture \(PNG\)"),
}
ONLY_NOT_TORCH = {
    "torch": (torch_file(), "a torch checkpoint: checkpoints end in .pth.tar"),
    "old torch": (torch_file(zipped=False), "a pickle, as old torch checkpoints are"),
}
ONLY_NOT_SAFETENSORS = {
    "safetensors": (save({"a": torch.zeros(2)}), "a safetensors file: give it the ending .safetensors"),
}
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "backbone": (load_backbone_file, "a.pth.tar"),
    "backbone's safetensors": (load_backbone_file, "a.safetensors"),
    "import": (import_published, "a.pth.tar"),
    "forecaster": (load_forecaster_file, "a.safetensors"),
    "forecaster under another ending": (load_forecaster_file, "a.pt"),
    "features": (lambda path: load_features("vgg19", path), "a.pth"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", [*FOREIGN, *ONLY_NOT_TORCH, *ONLY_NOT_SAFETENSORS])
def test_what_is_no_file_of_weights_is_named(tmp_path: Path, kind: str, reader: str) -> None:
    read, name = READERS[reader]
    safe = name.endswith(".safetensors") or read is load_forecaster_file
    if kind in (ONLY_NOT_SAFETENSORS if safe else ONLY_NOT_TORCH):
        return
    content, words = (FOREIGN | ONLY_NOT_TORCH | ONLY_NOT_SAFETENSORS)[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(KinecastError, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_what_needs_no_import_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(save({"a": torch.zeros(2)}))
    with pytest.raises(KinecastError, match="found a safetensors file: use it as it is, without an import"):
        import_published(tmp_path / "a.safetensors")


@pytest.mark.parametrize("length", [9, 40, 1000])
def test_safetensors_cut_short_say_how_much_there_is(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"a": torch.zeros(2000)})[:length])
    with pytest.raises(KinecastError, match=f"found {length} bytes of a safetensors file of [0-9]+: download it again"):
        read_tensors(path)


def test_whole_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for zipped in (True, False):
        path.write_bytes(torch_file(zipped))
        for mmap in (True, False):  # an old file cannot be mapped, and need not be
            assert torch.equal(read_torch(path, mmap=mmap)["a"], torch.zeros(2000))
    path.write_bytes(save({"a": torch.ones(3)}, {"kind": "song"}))
    metadata, tensors = read_tensors(path)
    assert metadata == {"kind": "song"} and torch.equal(tensors["a"], torch.ones(3))


def test_forecasters_of_a_compiled_model_are_read(tmp_path: Path) -> None:
    from kinecast.forecasting import build_forecaster

    model = build_forecaster("vrnn-released", 4, hidden=8, latent=3, fc=8)
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    (tmp_path / "a.safetensors").write_bytes(save(state))
    found = load_forecaster_file(tmp_path / "a.safetensors").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_only_whole_parts_of_a_name_are_wrappers() -> None:
    names = {"module_list.0.weight": 1, "a.module.b": 2, "my_module.c": 3, "module": 4}
    assert without_wrappers(names) == {"module_list.0.weight": 1, "a.b": 2, "my_module.c": 3, "module": 4}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("write", [lambda path, state: write_tensors(path, state, {}), write_torch])
def test_a_disk_without_room_is_told_in_one_line(tmp_path: Path, write: Callable[..., None]) -> None:
    import resource

    path = tmp_path / "a.safetensors"
    write(path, {"a": torch.zeros(10)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # to the writer it is a disk that is full
    try:
        with pytest.raises(KinecastError, match=f"cannot write {path}: File too large: choose a folder"):
            write(path, {"a": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("length", [640, 896, 1152, 1280])
def test_a_header_as_long_as_a_pickle_is_marked_is_no_pickle(tmp_path: Path, length: int) -> None:
    """The first two bytes of such a file, its header's length, are those of a pickle of protocol 2 to 5."""
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {"note": ""})
    size = int.from_bytes(path.read_bytes()[:8], "little")
    write_tensors(path, {"a": torch.ones(3)}, {"note": "x" * (length - size)})
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert read_tensors(path)[1]["a"].tolist() == [1, 1, 1]
