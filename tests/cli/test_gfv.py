"""`kinecast encode --gfv`, and what reads such video."""

import json

import pytest


@pytest.fixture
def video(run, tiny, clip, tmp_path):
    path = tmp_path / "clip.mp4"
    result = run("encode", clip, "-o", path, "--gfv", "--model", tiny, "--json")
    assert result.code == 0, result.err
    assert "of it messages, the rest skipped pictures" in result.err
    return path, json.loads(result.out)


def test_a_clip_is_encoded_drawn_and_animates_another(run, tiny, video, clip, tmp_path):
    path, report = video
    assert report["frames"] == 12 and report["message_kbps"] > 0
    result = run("decode", path, "-o", tmp_path / "out.mp4", "--model", tiny, "--json")
    assert result.code == 0 and json.loads(result.out) == {"frames": 12, "fps": 25}
    assert "12 frames at 25 fps" in result.err
    for source in ((), ("--source", clip)):
        result = run("animate", "--driving", path, *source, "-o", tmp_path / "moved.mp4", "--model", tiny, "--json")
        assert result.code == 0, result.err
        assert json.loads(result.out)["frames"] == 12


def test_streams_are_converted_without_a_model(run, video, tmp_path, monkeypatch):
    monkeypatch.setattr("kinecast.zoo.load_backbone", None)
    for given, flags, made in ((video[0], (), "a.kcm"), ("a.kcm", ("--gfv",), "b.h265"), ("b.h265", (), "c.kcm")):
        result = run("encode", tmp_path / given, *flags, "-o", tmp_path / made, "--json")
        assert result.code == 0 and json.loads(result.out)["frames"] == 12, result.err
        assert "12 frames at 25 fps, motion" in result.err
    assert (tmp_path / "a.kcm").stat().st_size > 0


def test_users_mistakes_are_one_line(run, tiny, video, clip, tmp_path):
    path, _ = video
    run("encode", path, "-o", tmp_path / "a.kcm")
    gfv, kcm = ("-o", tmp_path / "x.mp4", "--gfv"), ("-o", tmp_path / "x.kcm")
    for arguments, message in (
        (
            ("encode", clip, "-o", tmp_path / "x.mp4"),
            "expected .kcm without --gfv, found '.mp4': rename the output, or add",
        ),
        (("encode", clip, *kcm, "--gfv"), "expected .mp4 or .h264 or .h265 with --gfv, found '.kcm'"),
        (("encode", clip, *gfv, "--kbps", 3), "expected no budget with --gfv"),
        (("encode", clip, *gfv, "--profile", "generic"), "expected none with --gfv"),
        (("encode", path, *gfv), "found GFV messages: drop --gfv to convert it"),
        (("encode", tmp_path / "a.kcm", "-o", tmp_path / "y.kcm"), "found a .kcm: add --gfv to convert it"),
        (("encode", path, *kcm, "--quality", 3), "expected no --quality, since a stream is converted unchanged"),
        (("encode", tmp_path / "a.kcm", *gfv, "--fps", 10), "expected no --fps, since a stream is converted unchanged"),
        (("decode", path, "-o", tmp_path / "x.mp4", "--forecast", "hold"), "expected none with GFV messages"),
        (("decode", clip, "-o", tmp_path / "x.mp4"), "this is not a .kcm stream"),
        (("animate", "--driving", path, "-o", tmp_path / "x.mp4", "--mode", "transfer"), "expected a --source"),
    ):
        result = run(*arguments, "--model", tiny)
        assert result.code == 1 and len(result.error_lines) == 1 and message in result.err, result.err
        assert not (tmp_path / "x.kcm").exists() and not (tmp_path / "x.mp4").exists()


def test_an_input_is_not_replaced(run, video):
    result = run("encode", video[0], "-o", video[0].with_suffix(".kcm"))
    assert result.code == 0
    before = video[0].read_bytes()
    result = run("decode", video[0], "-o", video[0])
    assert result.code == 1 and "found an input" in result.err and video[0].read_bytes() == before
