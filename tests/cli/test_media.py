"""Clips as users have them, through the commands."""

import subprocess
import sys

import numpy as np
from PIL import Image

from helpers import draw_frames, make_clip
from kinecast import Motion
from kinecast.media.video import read_frames
from media_files import PQ, SKIN, hdr_clip, hdr_of


def test_a_banner_is_one_picture_and_a_strip_is_asked_for(run, tiny, tmp_path):
    Image.fromarray(np.concatenate(list(draw_frames(4, (32, 32))), axis=1)).save(tmp_path / "a.png")
    for options, frames in (((), 1), (("--strip",), 4)):
        result = run("extract", tmp_path / "a.png", "-o", tmp_path / "m.npz", "--model", tiny, *options)
        assert result.code == 0, result.err
        assert len(Motion.load(tmp_path / "m.npz")) == frames
        result = run("animate", "--driving", tmp_path / "a.png", "-o", tmp_path / "a.mp4", "--model", tiny, *options)
        assert result.code == 0, result.err
        assert len(list(read_frames(tmp_path / "a.mp4"))) == frames
        result = run("encode", tmp_path / "a.png", "-o", tmp_path / "a.kcm", "--model", tiny, *options, "--json")
        assert result.code == 0 and f'"frames": {frames}' in result.out, result.err


def test_what_is_no_strip(run, tiny, clip, tmp_path):
    Image.fromarray(draw_frames(1, (32, 48))[0]).save(tmp_path / "a.png")
    result = run("extract", tmp_path / "a.png", "-o", tmp_path / "m.npz", "--model", tiny, "--strip")
    assert result.code == 1
    assert "expected a strip of square frames, k times as wide as high, found 48x32" in result.err
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny, "--strip")
    assert result.code == 1
    assert "expected a picture that is a strip of frames, found something else: drop --strip" in result.err


def animated(tiny, clip, output, stdin=b""):
    """Animate in a process of its own: pytest would show a warning each time that it is given."""
    command = [sys.executable, "-m", "kinecast", "animate", "--driving", str(clip), "-o", str(output)]
    done = subprocess.run([*command, "--model", str(tiny)], input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


def test_hdr_is_said_once(tiny, tmp_path):
    path = hdr_clip(tmp_path / "a.mp4", np.tile(hdr_of(SKIN, PQ), (64, 64, 1)), PQ)
    said = animated(tiny, path, tmp_path / "b.mp4")
    assert said.count("HDR") == 1
    assert f"kinecast: warning: {path}: HDR (PQ) was tone mapped to SDR" in said


def test_a_clip_from_a_pipe(tiny, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=5)
    for name in ("-", "/dev/stdin"):
        animated(tiny, name, tmp_path / "b.mp4", clip.read_bytes())
        assert len(list(read_frames(tmp_path / "b.mp4"))) == 5
