"""`kinecast encode` and `decode` with a budget and forecasts."""

import json
from dataclasses import replace

import pytest

from kinecast.codec import Header


@pytest.fixture
def low(run, tiny, clip, tmp_path):
    path = tmp_path / "low.kcm"
    result = run("encode", clip, "-o", path, "--model", tiny, "--kbps", 0.4, "--forecast", "hold", "--json")
    assert result.code == 0, result.err
    return path, json.loads(result.out)


@pytest.mark.parametrize("forecast", ["auto", "interpolate", "damped"])
def test_a_stream_with_frames_left_out_is_drawn_whole(run, tiny, low, tmp_path, forecast):
    path, report = low
    assert report["frames_sent"] < report["frames"] == 12
    result = run("decode", path, "-o", tmp_path / "out.mp4", "--model", tiny, "--forecast", forecast, "--json")
    assert result.code == 0, result.err
    drawn = json.loads(result.out)
    assert drawn["frames"] == 12 and drawn["skipped"] == 12 - report["frames_sent"]
    assert "left out by the sender" in result.err


@pytest.mark.parametrize("name", ["crystal-ball", "gru", "../low.kcm", ".", "low.kcm"])
def test_a_filler_that_a_stream_names_in_vain_is_one_warning(run, tiny, low, tmp_path, monkeypatch, name):
    """Unknown, of another D, a path, a folder, a file that is no forecaster: it is advice."""
    monkeypatch.chdir(tmp_path)
    header, rest = Header.parse(low[0].read_bytes())
    (tmp_path / "foreign.kcm").write_bytes(bytes(replace(header, filler=name)) + rest)
    result = run("decode", "foreign.kcm", "-o", "out.mp4", "--model", tiny, "--json")
    assert result.code == 0 and json.loads(result.out)["frames"] == 12
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and f"found {name!r}" in warnings[0] and "concealed by damped" in warnings[0]
    result = run("decode", "foreign.kcm", "-o", "out.mp4", "--model", tiny, "--forecast", "hold")
    assert result.code == 0 and "warning" not in result.err  # the user's choice replaces the advice


def test_users_mistakes_are_one_line(run, tiny, clip, low, tmp_path):
    for arguments, message in (
        (("encode", clip, "-o", tmp_path / "x.kcm", "--kbps", -1), "rate: expected a budget above 0"),
        (
            ("encode", clip, "-o", tmp_path / "x.kcm", "--forecast", "nobody"),
            "forecast 'nobody': expected hold, damped",
        ),
        (
            ("encode", clip, "-o", tmp_path / "x.kcm", "--forecast", "gru"),
            "expected a forecaster of 18 numbers per frame, found one of 60",
        ),
        (("decode", low[0], "-o", tmp_path / "x.mp4", "--forecast", "nobody"), "forecast 'nobody': expected hold"),
    ):
        result = run(*arguments, "--model", tiny)
        assert result.code == 1 and message in result.err and len(result.error_lines) == 1
        assert not (tmp_path / "x.kcm").exists() and not (tmp_path / "x.mp4").exists()
