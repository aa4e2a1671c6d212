import errno
import os
import stat
from pathlib import Path

import pytest

from helpers import as_plain_user
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, existing_file, make_folder

FIX = "choose a folder that exists, is writable and has room"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "motion.npz"
    path.write_bytes(b"old")
    return path


def test_the_file_appears_when_the_block_ends(old):
    with atomic_path(old) as temporary:
        assert (temporary.parent, temporary.suffix) == (old.parent, ".npz")
        temporary.write_bytes(b"new")
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"
    assert os.listdir(old.parent) == [old.name]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_new_file_has_the_permissions_that_any_program_would_give_it(tmp_path, mode):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_path(tmp_path / "ours") as temporary:
        temporary.unlink()
        temporary.touch(mode)  # safetensors makes private files
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)], ids=type)
def test_a_failure_in_the_block_leaves_what_was_there(old, there, error):
    if not there:
        old.unlink()
    with pytest.raises(type(error)) as raised, atomic_path(old) as temporary:
        temporary.write_bytes(b"half a f")
        raise error
    assert raised.value is error
    assert os.listdir(old.parent) == ([old.name] if there else [])
    assert not there or old.read_bytes() == b"old"


def test_a_full_disk_is_one_line_and_leaves_what_was_there(old):
    with pytest.raises(KinecastError) as error, atomic_path(old) as temporary:
        temporary.write_bytes(b"half a f")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(error.value) == f"cannot write {old}: No space left on device: {FIX}"
    assert old.read_bytes() == b"old"
    assert os.listdir(old.parent) == [old.name]


def missing_folder(tmp_path):
    return tmp_path / "nowhere" / "a.npz", "No such file or directory: " + FIX


def file_for_folder(tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file" / "a.npz", "Not a directory: " + FIX


def folder_for_file(tmp_path):
    return tmp_path, "expected a file name, found a folder: name a file in it"


def device(tmp_path):
    return Path(os.devnull), "expected a file name, found a device or pipe: name a file"


@pytest.mark.parametrize("make", [missing_folder, file_for_folder, folder_for_file, device])
def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path, make):
    path, message = make(tmp_path)
    with pytest.raises(KinecastError) as error, atomic_path(path):
        pytest.fail("the block must not run")
    assert str(error.value) == f"cannot write {path}: {message}"


def test_a_folder_that_may_not_be_written_is_found_before_the_work(open_folder):
    open_folder.chmod(0o555)
    path = open_folder / "a.npz"
    with as_plain_user(open_folder), pytest.raises(KinecastError) as error, atomic_path(path):
        pytest.fail("the block must not run")
    assert str(error.value) == f"cannot write {path}: Permission denied: {FIX}"


def test_make_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == make_folder(folder) == folder
    assert folder.is_dir()
    (folder / "file").touch()
    with pytest.raises(KinecastError) as error:
        make_folder(folder / "file" / "c")
    assert str(error.value) == f"cannot write {folder / 'file' / 'c'}: Not a directory: {FIX}"


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing", "found nothing there: check the path"),
        ("folder", "found a folder: name a file"),
        ("empty", "found an empty file (0 bytes): copy or download it again"),
    ],
)
def test_existing_file(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "good").write_text("x")
    assert existing_file(tmp_path / "good") == tmp_path / "good"
    with pytest.raises(KinecastError) as error:
        existing_file(tmp_path / name, "motion file")
    assert str(error.value) == f"{tmp_path / name}: expected a motion file, {message}"
