"""Pictures as phones and editors make them."""

import numpy as np
import pytest
from PIL import Image

from helpers import draw_frames
from kinecast.errors import ConversionWarning, KinecastError, KinecastWarning
from kinecast.media import stills
from kinecast.media.video import probe, read_frames, read_image
from media_files import PQ, SKIN, grey_profile, hdr_of, heic, icc_profile

P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))


def shown(path):
    return next(read_frames(path, crop="none")).astype(int)


def quarters(side=64):
    """Red, green, blue and white quarters."""
    picture = np.zeros((2 * side, 2 * side, 3), np.uint8)
    picture[:side, :side] = (220, 30, 30)
    picture[:side, side:] = (30, 200, 30)
    picture[side:, :side] = (30, 30, 220)
    picture[side:, side:] = 240
    return picture


@pytest.mark.parametrize("turns", range(4))
def test_heic_is_the_whole_picture_turned_as_it_says(tmp_path, turns):
    path = heic(tmp_path / "photo.heic", quarters(), tile=64, quarters=turns)
    assert np.abs(shown(path) - np.rot90(quarters(), turns)).mean() < 6
    assert probe(path).frames == 1
    assert read_image(path, 32).shape == (1, 3, 32, 32)


def test_hdr_heic_is_tone_mapped(tmp_path):
    signal = np.tile(np.rint(hdr_of(SKIN, PQ) * 65535), (64, 64, 1)).astype(np.uint16)
    path = heic(tmp_path / "photo.heic", signal, tile=64, nclx=(9, PQ, 9))
    with pytest.warns(ConversionWarning, match="HDR .PQ. was tone mapped"):
        found = shown(path)
    assert np.abs(found[32, 32] - SKIN).max() <= 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_hdr_avif_is_tone_mapped(tmp_path, mode):
    signal = np.tile(np.rint(hdr_of(SKIN, PQ) * 255), (64, 64, 1)).astype(np.uint8)
    path = tmp_path / "a.avif"
    Image.fromarray(signal).convert(mode).save(path, quality=95)
    data = bytearray(path.read_bytes())
    start = data.index(b"nclx") + 4
    data[start : start + 4] = bytes([0, 9, 0, PQ])  # primaries and transfer; Pillow writes sRGB's
    path.write_bytes(data)
    with pytest.warns(ConversionWarning, match="HDR .PQ. was tone mapped"):
        found = shown(path)
    assert np.abs(found[32, 32] - SKIN).max() <= 8


def test_avif_is_a_picture(tmp_path):
    picture = draw_frames(1, (40, 56))[0]
    Image.fromarray(picture).save(tmp_path / "a.avif", quality=90)
    assert np.abs(shown(tmp_path / "a.avif") - picture).mean() < 4


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".heic", ".avif", ".webp", ".jpg", ".jp2"])
def test_cut_off_pictures_are_named_in_one_line(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    if suffix == ".heic":
        heic(path, quarters(), tile=64)
    else:
        Image.fromarray(draw_frames(1, (128, 128))[0]).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(KinecastError) as error:
        shown(path)
    assert str(error.value).startswith(f"{path}: expected a ") and "\n" not in str(error.value)


# What an EXIF orientation asks for.
EXIF = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, 3),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", EXIF)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_every_exif_orientation(tmp_path, orientation, suffix):
    picture = draw_frames(1, (24, 36))[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / f"a{suffix}", exif=exif, lossless=True)  # which only webp heeds
    assert np.array_equal(shown(tmp_path / f"a{suffix}"), EXIF[orientation](picture))


@pytest.mark.parametrize(
    "primaries, gamma, colour, expected",
    [
        # sRGB's red, as Display P3 and Adobe RGB have it
        (P3, 2.2, (234, 51, 35), (255, 0, 0)),
        (ADOBE, 563 / 256, (219, 0, 0), (255, 0, 0)),
        (P3, 2.2, (128, 128, 128), (128, 128, 128)),
        (P3, 1.0, (55, 55, 55), (128, 128, 128)),
    ],
)
@pytest.mark.parametrize("mode, name", [("RGB", "a.png"), ("RGB", "a.webp"), ("RGBA", "alpha.png"), ("P", "p.png")])
def test_colour_profiles_are_applied(tmp_path, primaries, gamma, colour, expected, mode, name):
    picture = Image.new("RGB", (16, 16), colour)
    picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / name, icc_profile=icc_profile(primaries, gamma), lossless=True)  # png ignores it
    assert np.abs(shown(tmp_path / name)[8, 8] - expected).max() <= 6


def test_grey_pictures_keep_their_grey_under_a_profile_of_colours(tmp_path):
    Image.new("L", (16, 16), 128).save(tmp_path / "a.png", icc_profile=icc_profile(P3, 2.2))
    with pytest.warns(KinecastWarning, match="the colour profile does not fit the picture"):
        found = shown(tmp_path / "a.png")
    assert np.abs(found[8, 8] - 128).max() <= 2


@pytest.mark.parametrize(
    "mode, shade, expected", [("L", 128, 128), ("LA", 128, 128), ("1", 1, 255), ("I;16", 128 * 257, 128)]
)
def test_grey_profiles_are_applied_to_grey_of_every_kind(tmp_path, mode, shade, expected):
    picture = Image.new(mode, (16, 16), (shade, 255) if mode == "LA" else shade)
    picture.save(tmp_path / "plain.png")
    assert shown(tmp_path / "plain.png")[8, 8].tolist() == [expected] * 3
    picture.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))  # linear light
    linear = 255 * (1.055 * (expected / 255) ** (1 / 2.4) - 0.055)
    assert np.abs(shown(tmp_path / "a.png")[8, 8] - linear).max() <= 2


def test_transparency_stays_under_a_profile(tmp_path):
    picture = Image.new("LA", (16, 16), (128, 0))
    picture.save(tmp_path / "a.png", icc_profile=grey_profile(1.8))
    assert shown(tmp_path / "a.png")[8, 8].tolist() == [255] * 3


def test_a_profile_that_is_none_is_said(tmp_path):
    Image.new("RGB", (16, 16), (9, 99, 200)).save(tmp_path / "a.png", icc_profile=b"rubbish" * 40)
    with pytest.warns(KinecastWarning, match="colours are used unchanged"):
        assert shown(tmp_path / "a.png")[8, 8].tolist() == [9, 99, 200]


def test_transparent_animation_shows_white(tmp_path):
    pictures = [Image.new("RGBA", (16, 16), (0, 0, 40 * i, 0)) for i in range(3)]
    for picture in pictures:
        picture.paste((200, 0, 0, 255), (4, 4, 12, 12))
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=40, lossless=True)
    frames = list(read_frames(tmp_path / "a.webp"))
    assert len(frames) == 3
    assert all(f[0, 0].tolist() == [255] * 3 and f[8, 8].tolist() == [200, 0, 0] for f in frames)


def test_a_cut_off_animation_is_used_up_to_the_cut(tmp_path):
    pictures = [Image.fromarray(frame) for frame in draw_frames(8, (64, 64))]
    path = tmp_path / "a.png"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(KinecastWarning) as caught:
        frames = list(read_frames(path))
    assert 1 <= len(frames) < 8
    assert str(caught[0].message) == f"{path}: the file is cut off or damaged: the first {len(frames)} frames are used"


# --- pictures of many megapixels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, size", [(240 * 320, (240, 320)), (240 * 320 - 1, (120, 160)), (9000, (60, 80))])
def test_a_large_jpeg_is_read_at_a_part_of_its_size(tmp_path, monkeypatch, limit, size):
    monkeypatch.setattr(stills, "_MOST_PIXELS", limit)
    picture = draw_frames(1, (240, 320))[0]
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    found = shown(tmp_path / "a.jpg")
    assert found.shape[:2] == size
    small = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(found - small).mean() < 4


def test_what_pillow_takes_for_a_bomb(tmp_path, monkeypatch):
    Image.fromarray(draw_frames(1, (240, 320))[0]).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(draw_frames(1, (240, 320))[0]).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 240 * 320 // 2 - 1)  # Pillow refuses twice as many
    monkeypatch.setattr(stills, "_MOST_PIXELS", 240 * 320 // 4)
    assert shown(tmp_path / "a.jpg").shape == (120, 160, 3)
    with pytest.raises(KinecastError) as error:
        shown(tmp_path / "a.png")
    assert str(error.value) == (
        f"{tmp_path / 'a.png'}: expected a picture of at most 178 megapixels, found a larger one: "
        "save it smaller, or as JPEG, which can be read at reduced size"
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 240 * 320 - 1)  # here it warns, which would print a traceback's line
    assert shown(tmp_path / "a.png").shape == (240, 320, 3)
