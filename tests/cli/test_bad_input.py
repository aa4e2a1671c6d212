"""A user's mistakes: one line, the right exit code, no traceback, and nothing half-written left behind."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import draw_frames, make_clip, write_clip
from kinecast.media.video import read_frames
from kinecast.models.checkpoints import save_backbone
from kinecast.motion import Motion
from tiny import tiny_fomm


def _audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def _missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def _empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def _text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no film")
    return folder / "text.mp4"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, ["missing.mp4", "expected", "found nothing"]),
        (lambda folder: "https://a.b/c.mp4", ["c.mp4", "expected", "found a URL: download it"]),
        (_empty, ["empty.mp4", "expected", "empty file"]),
        (lambda folder: _audio_only(folder / "audio.mp4"), ["audio.mp4", "expected", "audio"]),
        (_text, ["text.mp4", "expected"]),
    ],
    ids=["missing", "address", "empty", "audio-only", "text"],
)
@pytest.mark.parametrize("command", ["extract", "animate"])
def test_unreadable_clip(run, tiny, tmp_path, make, words, command):
    clip, out = make(tmp_path), tmp_path / ("out.npz" if command == "extract" else "out.mp4")
    arguments = [clip] if command == "extract" else ["--driving", clip]
    result = run(command, *arguments, "-o", out, "--model", tiny)
    assert result.code == 1
    (line,) = result.error_lines
    assert all(word in line for word in words), line
    assert "Traceback" not in result.err and not out.exists()


def test_truncated_clip_is_used_up_to_the_damage(run, tiny, tmp_path):
    whole = write_clip(tmp_path / "w.mp4", draw_frames(48), options={"movflags": "frag_keyframe+empty_moov"})
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    result = run("extract", tmp_path / "cut.mp4", "-o", tmp_path / "m.npz", "--model", tiny)
    assert result.code == 0
    (warning,) = [line for line in result.err.splitlines() if "warning" in line]
    frames = len(Motion.load(tmp_path / "m.npz"))
    assert 0 < frames < 48 and str(frames) in warning


def test_one_frame_clip(run, tiny, tmp_path):
    clip = make_clip(tmp_path / "one.mp4", frames=1)
    assert run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny).code == 0
    assert len(Motion.load(tmp_path / "m.npz")) == 1
    assert run("animate", "--driving", clip, "-o", tmp_path / "o.mp4", "--model", tiny).code == 0
    result = run("animate", "--driving", clip, "-o", tmp_path / "f.mp4", "--model", tiny, "--forecast", "repeat")
    assert result.code == 1
    assert result.error_lines == [
        "kinecast: driving has 1 frame; horizon 12-12 needs at least 24: choose a shorter horizon or a longer clip"
    ]
    assert not (tmp_path / "f.mp4").exists()


def test_clip_shorter_than_the_horizon(run, tiny, clip, tmp_path):
    result = run("animate", "--driving", clip, "-o", tmp_path / "f.mp4", "--model", tiny, "--forecast", "repeat")
    assert result.code == 1
    assert result.error_lines == [
        "kinecast: driving has 12 frames; horizon 12-12 needs at least 24: choose a shorter horizon or a longer clip"
    ]


@pytest.mark.parametrize("horizon", ["12", "a-b", "0-3", "6-0", "-6-6"])
def test_foreign_horizon(run, tiny, clip, tmp_path, horizon):
    arguments = ("animate", "--driving", clip, "-o", tmp_path / "f.mp4", "--model", tiny)
    result = run(*arguments, "--forecast", "repeat", f"--horizon={horizon}")
    assert result.code == 1
    (line,) = result.error_lines
    assert "expected" in line and horizon in line


@pytest.mark.parametrize("size", [(35, 51), (17, 90)])
def test_odd_sizes_are_fitted(run, tiny, tmp_path, size):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(draw_frames(3, size)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    assert run("animate", "--driving", folder, "-o", tmp_path / "o.mp4", "--model", tiny).code == 0
    assert [f.shape for f in read_frames(tmp_path / "o.mp4", crop="none")] == [(32, 32, 3)] * 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "I;16"])
def test_grey_and_alpha_sources(run, tiny, clip, tmp_path, mode):
    grey = draw_frames(1)[0].mean(axis=2)
    picture = (
        Image.fromarray((grey * 256).astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey.astype(np.uint8))
    )
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "source.png")
    arguments = ("animate", "--source", tmp_path / "source.png", "--driving", clip, "-o", tmp_path / "o.mp4")
    assert run(*arguments, "--model", tiny).code == 0


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def _pickle(folder: Path) -> Path:
    path = folder / "evil.pth.tar"
    torch.save({"generator": _Payload(folder / "owned"), "kp_detector": {}}, path)
    return path


def _plain_pickle(folder: Path) -> Path:
    path = folder / "plain.pth.tar"
    path.write_bytes(pickle.dumps({"generator": _Payload(folder / "owned")}))
    return path


def _other_model(folder: Path) -> Path:
    path = folder / "tps.pth.tar"
    torch.save({"inpainting_network": {}, "kp_detector": {}, "dense_motion_network": {}}, path)
    return path


def _nan(folder: Path) -> Path:
    model = tiny_fomm()
    model.state_dict()["generator.final.bias"][0] = float("nan")
    save_backbone(model, folder / "nan.safetensors", {})
    return folder / "nan.safetensors"


def _foreign_safetensors(folder: Path) -> Path:
    save_file({"x": torch.zeros(1)}, folder / "foreign.safetensors")
    return folder / "foreign.safetensors"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pickle, ["refused", "tensors only"]),
        (_plain_pickle, ["refused", "tensors only"]),
        (_other_model, ["expected the tensors of a TPS"]),
        (_nan, ["NaN", "generator.final.bias"]),
        (_foreign_safetensors, ["expected weights of kind"]),
        (_missing, ["found nothing"]),
        (_empty, ["empty file"]),
        (_text, ["text.mp4", "expected"]),
    ],
    ids=["pickle", "plain-pickle", "other-model", "nan", "foreign-safetensors", "missing", "empty", "text"],
)
def test_unusable_weights(run, clip, tmp_path, make, words):
    weights = make(tmp_path)
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", weights)
    assert result.code == 1
    (line,) = result.error_lines
    assert all(word in line for word in words), line
    assert not (tmp_path / "owned").exists() and not (tmp_path / "m.npz").exists()


def test_unknown_names_list_what_is_known(run, tiny, clip, tmp_path):
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", "face-9000")
    assert result.code == 1 and "face-128" in result.error_lines[0]
    result = run("animate", "--driving", clip, "-o", tmp_path / "o.mp4", "--model", tiny, "--forecast", "oracle")
    assert result.code == 1 and "vrnn" in result.error_lines[0]
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny, "--device", "tpu")
    assert result.code == 1 and "expected one of auto, cpu, cuda, mps" in result.error_lines[0]


def test_forecaster_of_another_motion(run, tiny, tmp_path):
    clip = make_clip(tmp_path / "c.mp4", frames=24)
    result = run("animate", "--driving", clip, "-o", tmp_path / "o.mp4", "--model", tiny, "--forecast", "gru")
    assert result.code == 1
    assert "expected a forecaster of 18 numbers per frame, found one of 60" in result.error_lines[0]


@pytest.mark.parametrize(
    ("output", "words"),
    [("no/such/folder/out.mp4", ["cannot write"]), (".", ["mp4"]), ("out.xyz", [".mp4", "'.xyz'"])],
)
def test_unwritable_output(run, tiny, clip, tmp_path, output, words):
    result = run("animate", "--driving", clip, "-o", tmp_path / output, "--model", tiny)
    assert result.code == 1
    (line,) = result.error_lines
    assert all(word in line for word in words), line


def test_full_disk(tiny, tmp_path):
    """A limit on file size stands for a full disk: the system refuses to write on in both."""
    clip = make_clip(tmp_path / "long.mp4", frames=60, size=(96, 96))
    (tmp_path / "out").mkdir()
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "from kinecast.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for arguments in (["animate", "--driving", clip, "-o", "out/o.mp4"], ["extract", clip, "-o", "out/m.npz"]):
        command = [sys.executable, "-c", program, *map(str, arguments), "--model", str(tiny)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("kinecast: ")]
        assert "cannot write out/" in line and "Traceback" not in done.stderr
        assert list((tmp_path / "out").iterdir()) == []


def test_a_device_is_not_replaced_by_a_file(run, tiny, clip):
    result = run("extract", clip, "-o", "/dev/null", "--model", tiny)
    assert result.code == 1 and "found a device" in result.error_lines[0]
    assert Path("/dev/null").is_char_device()


def test_a_good_file_survives_a_failure(run, tiny, clip, tmp_path):
    out = tmp_path / "out.mp4"
    assert run("animate", "--driving", clip, "-o", out, "--model", tiny).code == 0
    good = out.read_bytes()
    assert run("animate", "--driving", _text(tmp_path), "-o", out, "--model", tiny).code == 1
    assert out.read_bytes() == good


def test_ctrl_c_leaves_no_half_file(tiny, tmp_path):
    clip = make_clip(tmp_path / "long.mp4", frames=600)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "film.mp4"
    command = [sys.executable, "-m", "kinecast", "animate", "--driving", clip, "-o", out, "--model", tiny]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.parent.iterdir()):  # the temporary file appears when rendering starts
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "kinecast: interrupted; no partial files remain"
    assert "Traceback" not in err and list(out.parent.iterdir()) == []
