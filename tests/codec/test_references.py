"""Pictures after the first: what says which one is drawn from, and what a receiver keeps."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinecast.codec.packets import parse_unit
from kinecast.codec.references import KEPT, ROOM, ChoiceUnit, Gallery
from kinecast.codec.stream import code_picture, open_picture
from kinecast.codec.wire import checksum
from kinecast.errors import KinecastError

PICTURE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, (1 << 35) - 1), st.integers(0, 255), st.binary(max_size=9))
def test_a_choice_comes_back_and_leaves_what_follows(first, picture, rest):
    unit = ChoiceUnit(first, picture)
    assert parse_unit(bytes(unit) + rest) == (unit, rest) and len(bytes(unit)) <= 11


@pytest.mark.parametrize("body", [b"P\x80\x00\x01", b"P\xff\xff\xff\xff\xff\x01", b"P\x05"])
def test_a_foreign_choice_is_refused_though_its_sum_is_right(body):
    with pytest.raises(KinecastError, match="choice of a picture: expected"):
        ChoiceUnit.parse(body + checksum(body))


@pytest.mark.parametrize(("first", "picture"), [(-1, 0), (0, 256), (1 << 35, 0)])
def test_a_choice_out_of_range_is_not_made(first, picture):
    with pytest.raises(KinecastError, match="expected a frame from 0 on and a picture from 0 to 255"):
        ChoiceUnit(first, picture)


def test_frames_are_drawn_from_the_picture_that_was_chosen_last():
    gallery = Gallery()
    assert gallery.of(0) is None
    gallery.came(3, b"first")
    gallery.came(4, b"second")
    for unit in (ChoiceUnit(10, 4), ChoiceUnit(20, 9), ChoiceUnit(30, 3)):
        gallery.choose(unit)
    assert [gallery.of(frame) for frame in (0, 9, 10, 19, 20, 29, 30, 99)] == [3, 3, 4, 4, 4, 4, 3, 3]
    assert gallery.missed == 1 and gallery.data(9) is None and gallery.data(4) == b"second"


def test_a_picture_that_comes_again_replaces_the_one_of_its_number():
    gallery = Gallery()
    gallery.came(0, b"old")
    gallery.came(0, b"new")
    assert gallery.of(0) == 0 and gallery.data(0) == b"new"


def test_no_stream_fills_more_than_the_room_and_the_picture_in_use_stays():
    gallery = Gallery()
    for number in range(256):
        gallery.came(number, bytes(10))
    kept = [number for number in range(256) if gallery.data(number) is not None]
    assert len(kept) == KEPT and kept[0] == 0 == gallery.of(0) and kept[1:] == list(range(257 - KEPT, 256))
    for number in range(1, 20):
        gallery.came(number, bytes(ROOM // 4))
    held = [data for number in range(256) if (data := gallery.data(number)) is not None]
    assert sum(map(len, held)) <= ROOM and gallery.data(0) is not None and gallery.data(19) is not None
    for frame in range(100_000):
        gallery.choose(ChoiceUnit(frame, 7))
    assert gallery.of(0) == 0  # of so many choices only the last are remembered


def test_a_smaller_picture_is_enlarged_where_it_may_be_one():
    small, _ = code_picture(PICTURE[::2, ::2], 90)
    assert open_picture(small, (32, 48), smaller=True).shape == (32, 48, 3)
    for data, size, smaller in ((small, (32, 48), False), (small, (64, 32), True), (small, (33, 50), True)):
        with pytest.raises(KinecastError, match="expected .* as in the header"):
            open_picture(data, size, smaller)
    with pytest.raises(KinecastError, match="send it again"):
        open_picture(small[: len(small) // 2], (32, 48), smaller=True)
    assert io.BytesIO(small).read(4) == b"RIFF"
