"""Film is shown as players show it."""

import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from helpers import draw_frames, write_clip
from kinecast.errors import ConversionWarning, KinecastError
from kinecast.media.display import Display
from kinecast.media.video import probe, read_frames
from media_files import HLG, PQ, SKIN, encode, hdr_clip, hdr_of, hdr_signal, of_fields, with_matrix, yuv


def first(path):
    return next(read_frames(path, crop="none")).astype(int)


def flat(colour, size=(32, 32)):
    return np.tile(np.array(colour, np.uint8), (*size, 1))


# What a display matrix (a, b, c, d) does to a picture: x' = a x + c y, y' = b x + d y.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half-turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, 3)),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transverse": ((0, -1, -1, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_display_matrix(tmp_path, name):
    matrix, show = ORIENTATIONS[name]
    plain = write_clip(tmp_path / "a.mp4", draw_frames(2, (48, 64)))
    path = with_matrix(plain, tmp_path / "b.mp4", matrix)
    expected = show(first(plain))
    assert np.array_equal(first(path), expected)
    assert (probe(path).height, probe(path).width) == expected.shape[:2]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("aspect, width", [(Fraction(16, 11), 93), (Fraction(1, 2), 32), (Fraction(1), 64)])
def test_pixels_are_shown_square(tmp_path, suffix, aspect, width):
    frames = [yuv(frame) for frame in draw_frames(2, (48, 64))]
    path = encode(tmp_path / f"a{suffix}", frames, context={"sample_aspect_ratio": aspect})
    assert first(path).shape == (48, width, 3)
    assert (probe(path).height, probe(path).width) == (48, width)


def test_pixel_aspect_is_of_the_frame_before_it_is_turned(tmp_path):
    frames = [yuv(frame) for frame in draw_frames(1, (48, 64))]
    plain = encode(tmp_path / "a.mp4", frames, context={"sample_aspect_ratio": Fraction(2)})
    assert first(with_matrix(plain, tmp_path / "b.mp4", (0, 1, -1, 0))).shape == (128, 48, 3)


@pytest.mark.parametrize("size, matrix", [((576, 720), 5), ((720, 1280), 1), ((1280, 720), 1)])
def test_large_film_without_a_matrix_is_bt709(tmp_path, size, matrix):
    path = encode(tmp_path / "a.mp4", [yuv(flat((200, 30, 40), size), matrix)], options={"crf": "4"})
    assert np.abs(first(path)[size[0] // 2, size[1] // 2] - [200, 30, 40]).max() <= 4


@pytest.mark.parametrize("tag, matrix", [(1, 1), (6, 5), (5, 5)])
def test_a_named_matrix_counts_at_every_size(tmp_path, tag, matrix):
    path = encode(tmp_path / "a.mp4", [yuv(flat((200, 30, 40), (720, 1280)), matrix)], context={"colorspace": tag})
    assert np.abs(first(path)[99, 99] - [200, 30, 40]).max() <= 5


@pytest.mark.parametrize("matrix", range(18))
def test_no_matrix_ends_in_libavs_error(matrix):
    frame = yuv(flat((200, 30, 40)))
    frame.colorspace = matrix
    display = Display(Path("a.mp4"), None)
    if matrix in (8, 11, 14, 15, 16, 17):
        with pytest.raises(KinecastError, match="a.mp4: expected colours in RGB or Y'CbCr, found .*: export it as"):
            display(frame)
    else:
        assert np.abs(display(frame)[9, 9].astype(int) - [200, 30, 40]).max() <= 30


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p", "yuv422p"])
def test_depths_and_subsamplings(tmp_path, pixels):
    picture = draw_frames(1, (48, 64))[0]
    path = encode(tmp_path / "a.mkv", [yuv(picture, pixels=pixels)], pixels=pixels, options={"crf": "4"})
    assert np.abs(first(path) - picture).mean() < 5


def test_full_range(tmp_path):
    frame = av.VideoFrame.from_ndarray(flat((250, 128, 3)), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace=5, dst_color_range="JPEG")
    path = encode(tmp_path / "a.mp4", [frame], context={"color_range": 2}, options={"crf": "4"})
    assert np.abs(first(path)[9, 9] - [250, 128, 3]).max() <= 4


@pytest.mark.parametrize("size", [(61, 97), (60, 97), (1, 3)])
def test_odd_sizes(tmp_path, size):
    drawn = draw_frames(2, size)
    frames = [yuv(frame, pixels="yuv444p") for frame in drawn]
    path = encode(tmp_path / "a.mkv", frames, "ffv1", "yuv444p")
    assert np.abs(first(path) - drawn[0]).mean() < 3


# --- HDR and wide colours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer, name", [(HLG, "HLG"), (PQ, "PQ")])
def test_hdr_is_tone_mapped_and_said(tmp_path, transfer, name):
    path = hdr_clip(tmp_path / "a.mp4", np.tile(hdr_of(SKIN, transfer), (64, 64, 1)), transfer)
    with pytest.warns(ConversionWarning) as said:
        found = first(path)[32, 32]
        assert probe(path).frames == 2
    assert np.abs(found - SKIN).max() <= 6
    assert str(said[0].message) == f"{path}: HDR ({name}) was tone mapped to SDR, white at 203 nits"


def test_hdr_film_is_turned_too(tmp_path):
    # As a phone held upright records it.
    picture = np.tile(hdr_of(SKIN, HLG), (48, 64, 1))
    picture[:24] = hdr_of(SKIN / 4, HLG)
    plain = hdr_clip(tmp_path / "a.mp4", picture, HLG)
    with pytest.warns(ConversionWarning):
        found = first(with_matrix(plain, tmp_path / "b.mp4", (0, 1, -1, 0)))
        assert np.array_equal(found, np.rot90(first(plain), 3))


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_highlights_are_kept_apart(tmp_path, transfer):
    nits = np.array([0.0, 20, 100, 203, 400, 700, 1000])
    bars = np.repeat(hdr_signal(np.repeat(nits[:, None], 3, 1), transfer), 16, axis=0)
    path = hdr_clip(tmp_path / "a.mp4", np.tile(bars, (32, 1, 1)), transfer)
    with pytest.warns(ConversionWarning):
        grey = first(path)[16, 8::16]
    assert np.ptp(grey, axis=1).max() <= 4  # grey stays grey
    level = grey.mean(axis=1)
    assert level[0] <= 3 and level[1] == pytest.approx(89, abs=5) and level[2] == pytest.approx(186, abs=4)
    assert 235 <= level[3] <= 250  # SDR's white is nearly white
    assert level[3] + 6 < level[4] < level[5] <= level[6] and level[6] >= 253


def test_wide_colours_of_sdr_film(tmp_path):
    # BT.709's red in BT.2020's primaries, by the curve of a screen.
    linear = np.array([0.6274, 0.0691, 0.0164])
    signal = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    picture = yuv(flat(np.rint(signal * 255)), 9)
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 14}
    path = encode(tmp_path / "a.mp4", [picture], options={"crf": "4"}, context=tags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(first(path)[16, 16] - [255, 0, 0]).max() <= 12


# --- fields, transparency, sizes ------------------------------------------------------------------------------------


def bars(step):
    """A white bar that moves by `step` pixels."""
    picture = flat((20, 20, 20), (64, 96))
    picture[:, 10 + step : 26 + step] = 230
    return picture


def combing(frame):
    """How much lines differ from those beside them, but not from the next but one."""
    grey = frame.mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_interlaced_film_is_made_whole(tmp_path, order):
    frames = []
    for t in range(8):
        early, late = bars(6 * t), bars(6 * t + 3)
        woven = (early if order == "tff" else late).copy()
        woven[1::2] = (late if order == "tff" else early)[1::2]
        frames.append(of_fields(yuv(woven, pixels="yuv422p"), order))
    options = {"flags": "+ilme+ildct", "crf": "8"}
    path = encode(tmp_path / "a.mp4", frames, pixels="yuv422p", options=options)
    with av.open(str(path)) as container:
        raw = [frame for frame in container.decode(video=0)]
        assert raw[2].interlaced_frame
        assert combing(raw[2].to_ndarray(format="rgb24")) > 3
    shown = list(read_frames(path, crop="none"))
    assert len(shown) == 8
    assert max(map(combing, shown[1:-1])) < 1.5
    turned = list(read_frames(with_matrix(path, tmp_path / "b.mp4", (0, 1, -1, 0)), crop="none"))
    assert np.array_equal(turned, np.rot90(shown, 3, axes=(1, 2)))
    # Each frame is that of its earlier field.
    middle = [float(np.flatnonzero(frame[20].mean(axis=1) > 120).mean()) for frame in shown]
    assert middle == pytest.approx([17.5 + 6 * t for t in range(8)], abs=1.5)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_transparent_webm_shows_white(tmp_path, codec):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[..., 0] = 255
    picture[16:48, 16:48, 3] = 255
    frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p", dst_colorspace=5)
    options = {"auto-alt-ref": "0", "crf": "4", "b": "1M"}
    path = encode(tmp_path / "a.webm", [frame] * 3, codec, "yuva420p", options=options, metadata={"alpha_mode": "1"})
    frames = list(read_frames(path))
    assert len(frames) == 3
    for shown in frames:
        assert shown[4, 4].min() > 250
        assert np.abs(shown[32, 32].astype(int) - [255, 0, 0]).max() < 12


def test_frames_keep_the_first_ones_size(tmp_path):
    # A call that is recorded gets smaller when the line is poor.
    for name, size in (("a", (48, 64)), ("b", (24, 32))):
        encode(tmp_path / f"{name}.h264", [yuv(flat((200, 90, 40), size))] * 3)
    path = tmp_path / "both.h264"
    path.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    frames = list(read_frames(path, crop="none"))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 6
    assert np.abs(frames[3].astype(int) - frames[0]).mean() < 4
