"""Files that a page sends: bounded, and known by their content."""

import asyncio
import shutil

import pytest

from kinecast.apps.studio import uploads
from kinecast.apps.studio.uploads import TooLarge, check_length, receive
from kinecast.errors import KinecastError
from kinecast.media.pictures import write_image


async def pieces(data, size=1000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


def take(folder, data, limit=100_000, size=1000):
    return asyncio.run(receive(pieces(data, size), folder / "file", limit))


def test_a_clip_and_pictures_are_known_by_their_content(tmp_path, clip):
    from helpers import draw_frames

    (frame,) = draw_frames(1)
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / name, frame)
    for given in (clip, tmp_path / "a.png", tmp_path / "a.jpg"):
        data = given.read_bytes()
        for size in (1, 7, 100_000):  # however it arrives
            assert take(tmp_path, data[:3000], size=size).read_bytes() == data[:3000]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD/>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0\n",
        b"GIF",
        b"\0" * 500,
        b"PK\3\4" + b"\0" * 500,
    ],
)
def test_playlists_and_other_kinds_are_refused_and_removed(tmp_path, data):
    with pytest.raises(KinecastError, match="expected a picture or a clip|expected a picture .jpg") as error:
        take(tmp_path, data)
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_is_larger_than_it_said_is_refused_while_it_arrives(tmp_path):
    arrived = 0

    async def endless():
        nonlocal arrived
        while True:
            arrived += 1000
            yield b"\xff\xd8\xff" + b"x" * 997

    with pytest.raises(TooLarge, match="at most 100 kB, found more"):
        asyncio.run(receive(endless(), tmp_path / "file", 100_000))
    assert arrived <= 101_000 and not list(tmp_path.iterdir())


def test_two_gigabytes_and_a_full_disk_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    with pytest.raises(TooLarge, match="at most 500 MB, found 2147 MB"):
        check_length(2**31, 500_000_000, tmp_path)
    check_length(None, 500_000_000, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: usage._replace(free=uploads._LEFT_FREE + 1000))
    with pytest.raises(TooLarge, match="expected free space for 2 kB .* found 1 kB"):
        check_length(2000, 500_000_000, tmp_path)
