import io

import numpy as np
import pytest

from codec.tracks import profile_of, smooth_levels
from kinecast.codec import (
    FILE,
    Header,
    Layout,
    MotionPacket,
    PictureAssembler,
    StreamReader,
    encode_levels,
    split_picture,
)
from kinecast.codec.identity import model_identity
from kinecast.codec.stream import code_picture, open_picture, write_stream
from kinecast.errors import KinecastError

LAYOUT = Layout.plain(6)
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def stream():
    file = io.BytesIO()
    data, mime = code_picture(PICTURE)
    packets = encode_levels(smooth_levels(LAYOUT, 150), LAYOUT, profile_of(LAYOUT), FILE)
    header = Header(LAYOUT, (30, 1), (64, 64), profile="generic")
    sizes = write_stream(file, header, data, mime, packets)
    assert sum(sizes.values()) == file.tell()
    return file.getvalue(), header, data


def units(data):
    reader = StreamReader(io.BytesIO(data))
    return reader, list(reader.units())


def test_a_stream_is_read_as_it_was_written(stream):
    data, header, picture = stream
    reader, found = units(data)
    assert reader.header == header and reader.skipped == 0
    assembler, pictures = PictureAssembler(), []
    for unit in found:
        if not isinstance(unit, MotionPacket):
            pictures.append(assembler.push(unit))
    assert [p for p in pictures if p] == [(0, "image/webp", picture)]
    assert sum(unit.count for unit in found if isinstance(unit, MotionPacket)) == 150


def test_damage_is_skipped_to_the_next_unit(stream):
    data, _, _ = stream
    whole = [bytes(unit) for unit in units(data)[1]]
    place = data.index(whole[-2]) + 20
    reader, found = units(data[:place] + b"\x80R" + data[place + 2 :])
    assert [bytes(unit) for unit in found] == whole[:-2] + whole[-1:]
    assert reader.skipped == len(whole[-2])
    reader, found = units(data[:-3])
    assert len(found) == len(whole) - 1 and reader.skipped == len(whole[-1]) - 3


def test_pictures_come_back_and_damaged_ones_are_refused():
    data, mime = code_picture(PICTURE, 90)
    assert mime == "image/webp" and open_picture(data, (64, 64)).shape == (64, 64, 3)
    with pytest.raises(KinecastError, match="expected 32x32 as the header says"):
        open_picture(data, (32, 32))
    with pytest.raises(KinecastError, match="expected a whole WebP"):
        open_picture(data[:40], (64, 64))


def test_chunks_of_two_pictures_are_told_apart():
    assembler = PictureAssembler()
    one, two = list(split_picture(bytes(3000), "image/webp")), list(split_picture(bytes(3001), "image/webp"))
    assert assembler.push(one[0]) is None
    with pytest.raises(KinecastError, match="expected chunks of one picture"):
        assembler.push(two[1])
    assert [assembler.push(chunk) is not None for chunk in reversed(one)] == [False, False, True]


def test_identity_follows_values_names_and_shapes_only():
    state = {
        "a.weight": np.ones((2, 3), np.float32),
        "b.bias": np.zeros(2, np.float32),
        "n.num_batches_tracked": np.array(3),
    }
    same = {"b.bias": np.zeros(2), "a.weight": np.ones((2, 3))}
    assert model_identity(state) == model_identity(same) and len(model_identity(state)) == 32
    for other in (
        {**same, "b.bias": np.array([0, 1e-7])},
        {**same, "a.weight": np.ones((3, 2))},
        {"b.bias": np.zeros(2)},
    ):
        assert model_identity(other) != model_identity(state)
