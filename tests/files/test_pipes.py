"""Clips through a pipe: looked at more than once, though a pipe can be read once."""

import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import make_clip
from kinecast.errors import KinecastError
from kinecast.files import pipes
from kinecast.media.video import probe, read_frames


@pytest.fixture(autouse=True)
def _no_pipes_of_others(monkeypatch):
    monkeypatch.setattr(pipes, "_kept", {})


def feed(file, data):
    def write():
        with open(file, "wb") as pipe:
            try:
                pipe.write(data)
            except BrokenPipeError:
                pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def standard_input(monkeypatch):
    """Return a function that puts bytes on standard input through a pipe."""
    opened = []

    def give(data):
        reading, writing = os.pipe()
        source = os.fdopen(reading, "rb")
        opened.append(source)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(fileno=lambda: reading, buffer=source))
        return feed(writing, data)

    yield give
    for source in opened:
        source.close()


def test_a_clip_on_standard_input(clip, standard_input):
    expected = list(read_frames(clip, crop="none"))
    standard_input(clip.read_bytes())
    assert probe("-").frames == 12
    for _ in range(2):
        assert np.array_equal(list(read_frames("-", crop="none")), expected)


def test_a_named_pipe(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=6)
    os.mkfifo(tmp_path / "pipe")
    thread = feed(tmp_path / "pipe", clip.read_bytes())
    assert len(list(read_frames(tmp_path / "pipe"))) == 6
    assert probe(tmp_path / "pipe").frames == 6
    thread.join(10)


def test_nothing_comes(standard_input):
    standard_input(b"")
    with pytest.raises(KinecastError) as error:
        probe("-")
    assert (
        str(error.value) == "-: expected a clip or picture through the pipe, found nothing: check the command before it"
    )


def test_a_stream_without_end_does_not_fill_the_disk(clip, standard_input, monkeypatch, tmp_path):
    monkeypatch.setattr(pipes, "MOST_BYTES", 3 << 20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    standard_input(bytes(5 << 20))
    with pytest.raises(
        KinecastError, match="-: expected a clip or picture of at most 0 GB through a pipe, found more: save it"
    ):
        probe("-")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("stdin", [None, SimpleNamespace(fileno=lambda: -1)])
def test_no_standard_input(monkeypatch, stdin):
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(KinecastError, match="-: expected a clip or picture on standard input, found none"):
        probe("-")


def test_a_device_is_no_clip():
    with pytest.raises(KinecastError) as error:
        probe("/dev/null")
    assert str(error.value) == (
        "/dev/null: expected a clip or picture, found a terminal or device: pipe it in, or name a file"
    )
