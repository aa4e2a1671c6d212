"""Clips in layers: what a receiver of some of them sees, and a relay that drops the rest."""

import numpy as np
import pytest

from helpers import write_clip
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, read_motion
from kinecast.apps.stream.layered import thin_stream
from kinecast.cli import main
from kinecast.codec import MotionPacket, StreamReader
from kinecast.codec.packets import LAYERED, REFERENCES
from kinecast.errors import KinecastError
from kinecast.media.video import read_frames
from tiny import pictures, tiny_fomm

MODEL = tiny_fomm()


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layered")
    frames = (pictures(24, (64, 64)).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    clip = write_clip(folder / "clip.mp4", frames, 25)
    report = encode_clip(MODEL, clip, folder / "clip.kcm", EncodeOptions(model_name="tiny", layers=3))
    return folder / "clip.kcm", report


def test_the_layers_are_in_the_file_and_its_report(stream):
    path, report = stream
    with path.open("rb") as file:
        reader = StreamReader(file)
        units = list(reader.units())
    assert (
        reader.header.version == LAYERED
        and len(reader.header.layers) == 2
        and report["frames"] == report["frames_sent"] == 24
    )
    motion = [0, 0, 0]
    for unit in units:
        if isinstance(unit, MotionPacket):
            motion[unit.layer] += len(bytes(unit))
    assert [layer["motion_bytes"] for layer in report["layers"]] == motion
    assert report["payload_bytes"] + report["overhead_bytes"] == sum(motion)
    sizes = [layer["picture_bytes"] for layer in report["layers"]]
    assert sizes == sorted(sizes)


def test_more_layers_are_nearer_and_a_relay_gives_what_the_receiver_would_take(stream, tmp_path):
    path, _ = stream
    truth, off = read_motion(MODEL, path)[1].vectors().numpy(), []
    for count in (1, 2, 3):
        thin = tmp_path / f"{count}.kcm"
        assert main(["encode", str(path), "-o", str(thin), "--layers", str(count)]) == 0
        found = decode_clip(MODEL, path, tmp_path / "a.mp4", layers=count)
        again = decode_clip(MODEL, thin, tmp_path / "b.mp4")
        assert found == again and found["frames"] == 24 and found["layers"] == count
        drawn = [np.stack(list(read_frames(tmp_path / name))) for name in ("a.mp4", "b.mp4")]
        assert np.array_equal(drawn[0], drawn[1])
        off.append(float(np.abs(read_motion(MODEL, thin)[1].vectors().numpy() - truth).mean()))
        with thin.open("rb") as file:
            assert StreamReader(file).header.version == (REFERENCES if count == 1 else LAYERED)
    assert off[0] > 2 * off[1] > 0 == off[2]
    assert (tmp_path / "3.kcm").read_bytes() == path.read_bytes()


def test_what_cannot_be_layered_is_refused_in_a_line(stream, tmp_path):
    path, _ = stream
    for make, message in (
        (lambda: EncodeOptions(layers=5), "layers: expected 2 to 4, found 5"),
        (lambda: EncodeOptions(layers=2, kbps=3), "layers: expected no budget"),
        (
            lambda: encode_clip(MODEL, path, tmp_path / "x.kcm", EncodeOptions(layers=2, quality=4)),
            "expected",
        ),
        (lambda: thin_stream(path, tmp_path / "x.kcm", 4), "expected 1 to 3 layers to keep, as it has 3, found 4"),
        (lambda: thin_stream(path, path, 1), "expected"),
    ):
        with pytest.raises(KinecastError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert main(["encode", str(path), "-o", str(tmp_path / "x.mp4"), "--gfv", "--layers", "2"]) == 1
    assert main(["encode", str(path), "-o", str(tmp_path / "x.kcm"), "--layers", "1", "--quality", "3"]) == 1
    assert not (tmp_path / "x.kcm").exists()
