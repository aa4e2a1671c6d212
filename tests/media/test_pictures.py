import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import draw_frames
from kinecast.errors import KinecastError
from kinecast.media.pictures import border, caption, grid, side_by_side, to_tensor, to_uint8, write_image
from kinecast.media.video import read_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def rgba() -> Image.Image:
    """Return a picture 16x8, opaque blue on its left, half transparent black in the middle, clear on its right."""
    pixels = np.zeros((8, 16, 4), np.uint8)
    pixels[:, :5] = (0, 0, 255, 255)
    pixels[:, 5:11] = (0, 0, 0, 128)
    return Image.fromarray(pixels)


def grey16() -> Image.Image:
    ramp = np.linspace(0, 65535, 16).astype(np.uint16)
    return Image.fromarray(np.repeat(ramp[None], 8, axis=0))


def ramp8() -> Image.Image:
    return Image.fromarray(np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[None], 8, axis=0))


def drawing() -> Image.Image:
    return Image.fromarray(draw_frames(1, (8, 17))[0])


def clear_palette() -> Image.Image:
    picture = Image.new("P", (12, 8), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.paste(1, (6, 0, 12, 8))
    picture.info["transparency"] = 0
    return picture


GREY = np.repeat(np.repeat(np.linspace(0, 255, 16)[None], 8, axis=0)[..., None], 3, axis=2)
ON_WHITE = np.concatenate(
    [np.tile(c, (8, n, 1)) for c, n in (((0, 0, 255), 5), ((127, 127, 127), 6), (WHITE, 5))], axis=1
)
CLEAR = np.concatenate([np.tile(WHITE, (8, 6, 1)), np.tile((200, 0, 0), (8, 6, 1))], axis=1)


NEARLY_LOSSLESS: dict[str, dict[str, int]] = {".jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}


@pytest.mark.parametrize(
    "picture, name, expected, tolerance",
    [
        (drawing(), "rgb.png", np.asarray(drawing()), 0),
        (drawing(), "rgb.jpg", np.asarray(drawing()), 12),
        (drawing(), "rgb.webp", np.asarray(drawing()), 0),
        (drawing(), "rgb.bmp", np.asarray(drawing()), 0),
        (drawing().convert("CMYK"), "cmyk.jpg", np.asarray(drawing()), 12),
        (drawing().quantize(64), "palette.png", np.asarray(drawing()), 20),
        (ramp8(), "grey.png", GREY, 1),
        (ramp8(), "grey.jpg", GREY, 8),
        (ramp8().convert("LA"), "grey-alpha.png", GREY, 1),
        (grey16(), "grey16.png", GREY, 1),
        (grey16(), "grey16.tif", GREY, 1),
        (rgba(), "alpha.png", ON_WHITE, 1),
        (rgba(), "alpha.webp", ON_WHITE, 1),
        (clear_palette(), "clear-palette.png", CLEAR, 0),
        (ramp8().point(lambda v: 255 * (v > 127)).convert("1"), "bits.png", np.where(GREY > 127, 255, 0), 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_picture(tmp_path, picture, name, expected, tolerance):
    picture.save(tmp_path / name, **NEARLY_LOSSLESS.get(name[-4:], {}))
    found = read_image(tmp_path / name, expected.shape[:2], "none")
    assert found.dtype == torch.float32
    assert np.abs(to_uint8(found)[0].astype(float) - expected).max() <= tolerance


def test_exif_rotation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise
    drawing().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(to_uint8(read_image(tmp_path / "a.png", crop="none"))[0], np.rot90(np.asarray(drawing()), 3))


def test_tensor_and_array_are_inverse():
    array = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    tensor = to_tensor(array)
    assert tensor.shape == (3, 3, 5, 7) and tensor.dtype == torch.float32
    assert tensor[1, 2, 3, 4].item() == pytest.approx(array[1, 3, 4, 2] / 255)
    assert np.array_equal(to_uint8(tensor), array)
    assert torch.equal(to_tensor(array[0]), tensor[:1])
    assert to_uint8(torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)).tolist() == [[[[0, 128, 255]]]]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_pictures_are_written_whole(tmp_path, name):
    frame = draw_frames(1, (20, 30))[0]
    for form in (frame, to_tensor(frame), to_tensor(frame)[0]):
        write_image(tmp_path / name, form)
        found = to_uint8(read_image(tmp_path / name, crop="none"))[0]
        assert np.abs(found.astype(int) - frame).mean() < (1 if name == "a.png" else 4)
    assert os.listdir(tmp_path) == [name]


def test_pictures_that_cannot_be_written(tmp_path):
    frame = draw_frames(2, (8, 8))
    cases: list[tuple[Path, np.ndarray, str]] = [
        (tmp_path / "a.xyz", frame[0], "expected a picture name ending in .png, .jpg, .jpeg: rename the output"),
        (tmp_path / "a.png", frame, "expected one frame, found 2: write a clip, or choose a frame"),
    ]
    for path, picture, message in cases:
        with pytest.raises(KinecastError) as error:
            write_image(path, picture)
        assert str(error.value) == f"{path}: {message}"
    assert os.listdir(tmp_path) == []


def test_border_is_drawn_inside():
    frame = draw_frames(1, (20, 30))[0]
    before = frame.copy()
    framed = border(frame, RED, width=4)
    assert framed.shape == frame.shape
    assert np.array_equal(framed[4:-4, 4:-4], frame[4:-4, 4:-4])
    mask = np.ones((20, 30), bool)
    mask[4:-4, 4:-4] = False
    assert (framed[mask] == RED).all()
    assert np.array_equal(frame, before)
    assert (border(frame, RED, width=15) == RED).all()


@pytest.mark.parametrize("text", ["", "observed", "a text that is far too long for the width of this frame"])
@pytest.mark.parametrize("size", [(32, 32), (128, 128), (64, 256)])
def test_caption_stands_above_and_keeps_the_width(text, size):
    frame = draw_frames(1, size)[0]
    labelled = caption(frame, text, RED)
    height = labelled.shape[0] - size[0]
    assert labelled.shape == caption(frame, "other").shape
    assert labelled.shape[1] == size[1]
    assert np.array_equal(labelled[height:], frame)
    strip = labelled[:height]
    assert (strip[:2] == RED).all() and (strip[-2:] == RED).all()
    assert (strip[:, 0] == RED).all() and (strip[:, -1] == RED).all()  # the text does not touch the edge
    assert bool((strip[..., 1] > 120).sum() > 5) == bool(text)


def test_caption_can_be_read_on_any_colour():
    frame = draw_frames(1, (64, 128))[0]
    for color in [(0, 0, 0), WHITE, (250, 200, 0), (20, 30, 120)]:
        strip = caption(frame, "forecast", color)[:-64].astype(int).sum(axis=2)
        assert np.ptp(strip) > 350


def test_grid_places_every_frame():
    frames = draw_frames(6, (10, 14))
    rows = [list(frames[:3]), list(frames[3:])]
    page = grid(rows, gap=2)
    assert page.shape == (22, 46, 3)
    for index in range(6):
        top, left = index // 3 * 12, index % 3 * 16
        assert np.array_equal(page[top : top + 10, left : left + 14], frames[index])
    assert (page[10:12] == 255).all() and (page[:, 14:16] == 255).all()
    titled = grid(rows, gap=2, titles=["a", "b", "c"])
    assert np.array_equal(titled[-22:], page)
    assert titled.shape[0] == 22 + caption(frames[0], "").shape[0] - 10
    assert np.array_equal(side_by_side(rows[0], gap=0), np.concatenate(rows[0], axis=1))


def test_grids_that_do_not_fit():
    frames = list(draw_frames(3, (10, 14)))
    other = draw_frames(1, (12, 14))[0]
    cases = [
        (lambda: grid([frames, frames[:2]]), "grid: expected rows of one length, found lengths [2, 3]: fill the short"),
        (lambda: grid([]), "grid: expected rows of one length, found lengths []: fill the short ones"),
        (lambda: grid([frames], titles=["a"]), "grid: expected 3 titles, one per column, found 1"),
        (
            lambda: side_by_side([frames[0], other]),
            "pictures side by side: expected one or more of one size, found heights [10, 12]: resize",
        ),
        (lambda: side_by_side([]), "pictures side by side: expected one or more of one size, found heights []: resize"),
    ]
    for attempt, message in cases:
        with pytest.raises(KinecastError) as error:
            attempt()
        assert str(error.value).startswith(message)
