from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, layout_for_quality
from kinecast.codec import Header, StreamReader
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.video import read_frames
from tiny import pictures, tiny_fomm

MODEL = tiny_fomm()


@pytest.fixture(scope="module")
def stream(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "clip.kcm"
    report = encode_clip(MODEL, clip, path, EncodeOptions(model_name="tiny"))
    return path, report


def test_a_clip_is_encoded_and_drawn(stream, tmp_path):
    path, report = stream
    assert report["frames"] == 12 and report["fps"] == 25 and report["profile"] == "generic"
    parts = [report[f"{part}_bytes"] for part in ("header", "picture", "payload", "overhead")]
    assert sum(parts) == path.stat().st_size
    drawn = decode_clip(MODEL, path, tmp_path / "out.mp4")
    assert (drawn["frames"], drawn["fps"], drawn["concealed"], drawn["skipped_bytes"]) == (12, 25, 0, 0)
    assert np.stack(list(read_frames(tmp_path / "out.mp4"))).shape == (12, 64, 64, 3)


def test_another_model_is_refused(stream, tmp_path):
    with pytest.raises(
        KinecastError, match=r"expected the model tiny \(.{12}\.\.\.\) that encoded it, found one of"
    ) as caught:
        decode_clip(tiny_fomm(seed=1), stream[0], tmp_path / "out.mp4")
    assert "\n" not in str(caught.value) and not (tmp_path / "out.mp4").exists()


def test_a_damaged_stream_is_drawn_as_far_as_it_goes(stream, tmp_path):
    data = bytearray(stream[0].read_bytes())
    (tmp_path / "cut.kcm").write_bytes(data[:-3])
    with pytest.raises(KinecastError):  # its only motion packet is the a truncated one
        decode_clip(MODEL, tmp_path / "cut.kcm", tmp_path / "out.mp4")
    (tmp_path / "more.kcm").write_bytes(data + b"rubbish")
    with pytest.warns(KinecastWarning, match="7 damaged bytes were skipped, 0 frames concealed"):
        assert decode_clip(MODEL, tmp_path / "more.kcm", tmp_path / "out.mp4")["frames"] == 12


def test_other_files_are_refused_in_one_line(stream, clip, tmp_path):
    with pytest.raises(KinecastError, match=f"{clip}: motion stream header: .*: this is not a .kcm stream"):
        decode_clip(MODEL, clip, tmp_path / "out.mp4")
    header = stream[0].read_bytes()[: len(bytes(StreamReader(stream[0].open("rb")).header))]
    (tmp_path / "bare.kcm").write_bytes(header)
    with pytest.raises(KinecastError, match="expected a whole reference picture before the motion, found none"):
        decode_clip(MODEL, tmp_path / "bare.kcm", tmp_path / "out.mp4")


def test_quality_chooses_the_steps():
    motion = MODEL.detect(pictures(1))
    assert [part.step for part in layout_for_quality(motion, 7).components] == [256, 2048]
    assert [part.step for part in layout_for_quality(motion, 5).components] == [512, 4096]
    assert layout_for_quality(motion, 6).dim == motion.dim
    assert [part.step for part in layout_for_quality(motion, 4.5).components] == [609, 4871]
    with pytest.raises(KinecastError, match=r"quality: expected 1 \(smallest\) to 9 \(finest\), found 10"):
        layout_for_quality(motion, 10)


@pytest.mark.parametrize("interpolated", [False, True])
def test_a_budget_leaves_frames_out_and_the_receiver_fills_them(clip, tmp_path, interpolated):
    report = encode_clip(MODEL, clip, tmp_path / "low.kcm", EncodeOptions(kbps=0.5, model_name="tiny"))
    assert report["frames"] == 12 and 2 <= report["frames_sent"] < 12
    assert StreamReader((tmp_path / "low.kcm").open("rb")).header.filler == "damped"
    drawn = decode_clip(MODEL, tmp_path / "low.kcm", tmp_path / "out.mp4", interpolated=interpolated)
    assert (drawn["frames"], drawn["skipped"], drawn["concealed"]) == (12, 12 - report["frames_sent"], 0)


def with_filler(stream: Path, name: str, output: Path) -> Path:
    """Write a stream anew with another filler in its header."""
    header, rest = Header.parse(stream.read_bytes())
    output.write_bytes(bytes(replace(header, filler=name)) + rest)
    return output


def test_a_filler_that_is_not_known_is_advice(clip, tmp_path):
    encode_clip(MODEL, clip, tmp_path / "low.kcm", EncodeOptions(kbps=0.5))
    foreign = with_filler(tmp_path / "low.kcm", "crystal-ball", tmp_path / "foreign.kcm")
    with pytest.warns(KinecastWarning, match="expected a known filler, found 'crystal-ball'") as caught:
        drawn = decode_clip(MODEL, foreign, tmp_path / "foreign.mp4")
    assert len(caught) == 1 and str(caught[0].message).endswith("concealed by damped") and drawn["skipped"] > 0
    decode_clip(MODEL, tmp_path / "low.kcm", tmp_path / "low.mp4")
    assert (tmp_path / "foreign.mp4").read_bytes() == (tmp_path / "low.mp4").read_bytes()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"kbps": 0.0}, "rate: expected a budget above 0"),
        ({"kbps": float("nan")}, "rate: expected a budget above 0"),
        ({"picture_quality": 0}, "picture quality: expected 1 to 100, found 0"),
        ({"fps": 0.0}, "fps: expected a rate"),
    ],
)
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises(KinecastError, match=message):
        EncodeOptions(**option)


def test_a_budget_in_rendered_terms_is_coded(clip, tmp_path):
    options = EncodeOptions(kbps=1.0, terms="pictures")
    report = encode_clip(MODEL, clip, tmp_path / "clip.kcm", options)
    assert report["frames"] == 12 and 2 <= report["frames_sent"] <= 12
    assert decode_clip(MODEL, tmp_path / "clip.kcm", tmp_path / "out.mp4")["frames"] == 12
    with pytest.raises(KinecastError, match="expected distances of keypoints or pictures, found 'audio'"):
        EncodeOptions(terms="audio")
