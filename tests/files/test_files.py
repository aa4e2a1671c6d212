import errno
import os
import stat
from pathlib import Path

import pytest

from helpers import as_plain_user
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_folder, check_output, existing_file, kept, make_folder

FIX = "choose a folder that exists, is writable and has free space"


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
    with as_plain_user(open_folder):
        for check in (check_output, lambda name: atomic_path(name).__enter__()):
            with pytest.raises(KinecastError) as error:
                check(path)
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


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path, old):
    (tmp_path / "there").mkdir()
    link = tmp_path / "there" / "link.npz"
    link.symlink_to(old)
    with atomic_path(link) as temporary:
        assert temporary.parent == old.parent  # a rename works within one file system
        temporary.write_bytes(b"new")
    assert link.is_symlink() and old.read_bytes() == b"new"


def test_a_write_protected_file_is_not_replaced(old, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(KinecastError, match="write-protected"), atomic_path(old):
        pytest.fail("the block must not run")
    with pytest.raises(KinecastError, match="write-protected"):
        check_output(old)


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("é" * 125 + ".npz")  # 254 bytes of at most 255
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    too_long = tmp_path / ("e" * 300 + ".npz")
    for check in (check_output, lambda name: atomic_path(name).__enter__()):
        with pytest.raises(KinecastError, match="File name too long"):
            check(too_long)


@pytest.mark.parametrize("name", ["new.npz", "motion.npz"])
def test_checking_an_output_leaves_everything_as_it_was(tmp_path, old, name):
    before = old.stat().st_mtime_ns
    assert check_output(tmp_path / name, (".npz",), "motion file", [tmp_path / "other.npz"]) == tmp_path / name
    assert os.listdir(tmp_path) == [old.name] and (old.read_bytes(), old.stat().st_mtime_ns) == (b"old", before)


@pytest.mark.parametrize("make", [missing_folder, file_for_folder, folder_for_file, device])
def test_an_output_that_cannot_be_written_is_found_by_checking(tmp_path, make):
    path, message = make(tmp_path)
    with pytest.raises(KinecastError) as error:
        check_output(path)
    assert str(error.value) == f"cannot write {path}: {message}"


def test_a_folder_for_outputs_is_made_later(tmp_path, old):
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b" and os.listdir(tmp_path) == [old.name]
    assert check_output(tmp_path / "a" / "x.npz", folder_is_made=True) and os.listdir(tmp_path) == [old.name]
    for path in (old, old / "a", old / "a" / "b"):
        with pytest.raises(KinecastError, match="expected a folder, found a file"):
            check_folder(path)
    with pytest.raises(KinecastError, match="found an input"):
        check_folder(tmp_path, [tmp_path.parent / "." / tmp_path.name])


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_is_kept_cannot_be_replaced_under_another_name(tmp_path, old, link):
    link(old, tmp_path / "other.npz")
    with kept([old, tmp_path / "gone.npz"]):
        for path in (old, tmp_path / "other.npz"):
            with pytest.raises(KinecastError, match="found an input"), atomic_path(path):
                pytest.fail("the block must not run")
        with atomic_path(tmp_path / "gone.npz") as temporary:
            temporary.write_bytes(b"new")
    with atomic_path(old) as temporary:
        temporary.write_bytes(b"new")
    assert old.read_bytes() == b"new"
