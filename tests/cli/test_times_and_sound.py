"""What the commands say and do about time and sound."""

import json

import numpy as np
import pytest

from clips_with_sound import lengths_of, sound_codec, write_timed
from kinecast.cli.anomaly.inputs import Extractor
from kinecast.data.keypoint_store import load_series
from kinecast.errors import KinecastWarning
from kinecast.media.video import probe
from kinecast.motion import Motion

TIMES = np.concatenate([np.arange(15) / 25, 0.6 + np.arange(7) / 5])
END = 2.0


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    return write_timed(tmp_path_factory.mktemp("varied") / "in.mp4", TIMES, END, 1.0, "aac")


def test_extract_says_that_frames_have_times(run, tiny, varied, tmp_path):
    result = run("extract", varied, "-o", tmp_path / "m.npz", "--model", tiny, "--json", "--device", "cpu")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert (facts["frames"], facts["constant_rate"], facts["seconds"]) == (22, False, pytest.approx(END))
    assert "22 frames of 18 numbers at original times, 11 fps on average" in result.err
    assert Motion.load(tmp_path / "m.npz").times is not None


def test_forecast_and_windows_resample_and_say_so(run, tiny, varied, tmp_path):
    run("extract", varied, "-o", tmp_path / "m.npz", "--model", tiny)
    result = run("forecast", tmp_path / "m.npz", "-o", tmp_path / "f.npz", "--model", "repeat", "--horizon", "4-4")
    assert result.code == 0, result.err
    assert "in.mp4: its frame rate varies; it is resampled to a constant 25 fps" in result.err
    found = Motion.load(tmp_path / "f.npz")
    assert (found.times, found.fps, len(found)) == (None, 25, 50)
    with pytest.warns(KinecastWarning, match="its frame rate varies"):
        assert len(load_series(tmp_path / "m.npz")["m"]) == 50


def test_anomalies_are_looked_for_at_a_constant_rate(tiny, varied, clip):
    extractor = Extractor(str(tiny), "center", "cpu", "auto", "exact")
    with pytest.warns(KinecastWarning, match="in.mp4: its frame rate varies"):
        assert len(extractor.series(varied)["in"]) == 50
    with pytest.warns(KinecastWarning, match="in.mp4: its frame rate varies"):
        assert len(list(extractor.frames(str(varied)))) == 50
    assert len(list(extractor.frames(str(clip)))) == len(extractor.series(clip)["blob"]) == 12


def test_sound_is_kept_left_out_or_sent_as_asked(run, tiny, varied, tmp_path):
    animate = ("animate", "--driving", varied, "--model", tiny)
    assert run(*animate, "-o", tmp_path / "a.mp4", "--limit", 15).code == 0
    assert sound_codec(tmp_path / "a.mp4") == "aac"
    assert np.allclose(lengths_of(tmp_path / "a.mp4"), 0.6, atol=0.04)
    assert run(*animate, "-o", tmp_path / "b.mp4", "--no-sound", "--fps", 10).code == 0
    assert sound_codec(tmp_path / "b.mp4") is None
    assert (probe(tmp_path / "b.mp4").fps, probe(tmp_path / "b.mp4").frames) == (10, 20)
    assert "gif has no sound: it is omitted" in run(*animate, "-o", tmp_path / "c.gif").err

    encoded = run("encode", varied, "-o", tmp_path / "a.kcm", "--model", tiny, "--sound", "--sound-kbps", 16, "--json")
    assert encoded.code == 0 and " sound " in encoded.err and "times of frames" in encoded.err
    assert json.loads(encoded.out)["sound_bytes"] > 1000
    assert run("decode", tmp_path / "a.kcm", "-o", tmp_path / "d.mp4", "--model", tiny).code == 0
    assert sound_codec(tmp_path / "d.mp4") == "opus" and probe(tmp_path / "d.mp4").duration == pytest.approx(END)
    assert run("decode", tmp_path / "a.kcm", "-o", tmp_path / "e.mp4", "--model", tiny, "--no-sound").code == 0
    assert sound_codec(tmp_path / "e.mp4") is None
    moved = run("animate", "--driving", tmp_path / "a.kcm", "-o", tmp_path / "f.webm", "--model", tiny)
    assert moved.code == 0 and sound_codec(tmp_path / "f.webm") == "opus"
    wrong = run("encode", varied, "-o", tmp_path / "g.kcm", "--model", tiny, "--sound", "--sound-kbps", 1000)
    assert wrong.code == 1 and "expected 6 to 96 kbps, found 1000" in wrong.err
