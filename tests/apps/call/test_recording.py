"""What is shown, into a clip: also where it cannot be written to its end."""

import threading

import pytest

from apps.call.ends import FPS, camera_frames
from kinecast.apps.call.recording import Recorder
from kinecast.errors import KinecastError
from kinecast.media.video import probe
from kinecast.media.writer import VideoWriter


def closed(recorder: Recorder) -> str | None:
    """Close it in a thread, as a call does; it must end."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(recorder.close()), daemon=True)
    thread.start()
    thread.join(20)
    assert found, "the recording never ends"
    return found[0]


def test_frames_stand_until_the_next_one(tmp_path):
    recorder = Recorder(tmp_path / "seen.mp4", FPS)
    for n in (0, 1, 4, 5):
        recorder.add(camera_frames()[n], 100 + n / FPS)
    assert closed(recorder) is None and probe(tmp_path / "seen.mp4").frames == 6


@pytest.mark.parametrize("error", [KinecastError("expected room"), OSError("no space"), MemoryError()])
@pytest.mark.parametrize("at", ["first", "last", "end"])
def test_a_recording_that_fails_at_any_moment_ends_with_a_line(tmp_path, monkeypatch, error, at):
    real, written = VideoWriter.write, []

    def failing(self, frames):
        written.append(frames)
        if at == "first" or (at == "last" and len(written) == 4):
            raise error
        real(self, frames)

    def unfinished(self, *args, **named):
        raise error

    monkeypatch.setattr(VideoWriter, "write", failing)
    if at == "end":
        monkeypatch.setattr(VideoWriter, "__exit__", unfinished)
    recorder = Recorder(tmp_path / "seen.mp4", FPS)
    for n in range(4):
        recorder.add(camera_frames()[n], 100 + n / FPS)
    line = closed(recorder)
    assert line is not None and line.startswith("recording: ") and "\n" not in line
