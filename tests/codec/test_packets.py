from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinecast.codec import Header, Layout, MotionPacket, ReferenceChunk, SoundUnit, TimesUnit, parse_unit, split_picture
from kinecast.codec.packets import (
    CHUNK,
    DATAGRAM,
    EXTENDED,
    LAYERED,
    MAX_FRAMES,
    MAX_PICTURE,
    REFERENCES,
    VERSION,
    Unit,
)
from kinecast.codec.references import ChoiceUnit, PictureLayerUnit
from kinecast.codec.wire import checksum, put_varint, take_varint
from kinecast.errors import KinecastError

GOLDEN = Path(__file__).parents[1] / "golden"
HEADER = Header(Layout.fomm(), (30000, 1001), (128, 128), bytes(range(32)), "face-128", "generic", b"finger!!")
PACKET = MotionPacket(65535, 258, 30, b"payload of a packet", 0, True)
LIVE = MotionPacket(7, 7, 1, b"one", 1, False)
CHUNK_OF_PICTURE = next(split_picture(b"not really webp", "image/webp", 3))
UNITS: dict[str, Unit] = {
    "header": HEADER,
    "key_packet": PACKET,
    "live_packet": LIVE,
    "picture_chunk": CHUNK_OF_PICTURE,
    "extended_header": replace(HEADER, version=EXTENDED),
    "references_header": replace(HEADER, version=REFERENCES),
    "layered_header": replace(
        HEADER, version=LAYERED, layers=(Layout.fomm(value=1 / 512), Layout.fomm(value=1 / 1024, jacobian=1 / 256))
    ),
    "layer_packet": MotionPacket(3, 258, 30, b"payload of a packet", 1, True, True, 2, 65535),
    "picture_layer": PictureLayerUnit(7, 1),
    "choice": ChoiceUnit(300, 7),
    "times": TimesUnit(120, 4000, (33, 33, 34, 100, 0, 33)),
    "sound": SoundUnit(7, (b"not really opus", b"", b"packets")),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_the_golden_bytes(name):
    golden = bytes.fromhex((GOLDEN / f"codec_{name}.hex").read_text())
    assert bytes(UNITS[name]) == golden, f"format {VERSION} is published: a change of it needs a new version"
    assert parse_unit(golden) == (UNITS[name], b"")


@pytest.mark.parametrize("name", UNITS)
def test_every_cut_and_every_flipped_bit_is_an_error(name):
    data = bytes(UNITS[name])
    for size in range(len(data)):
        with pytest.raises(KinecastError):
            parse_unit(data[:size])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(KinecastError) as caught:
            parse_unit(bytes(damaged))
        assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_live_packet_of_one_frame_costs_eight_bytes_beside_its_payload():
    assert len(bytes(LIVE)) - len(LIVE.payload) == 8


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.integers(1, MAX_FRAMES),
    st.binary(max_size=1100),
    st.integers(0, 255),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=9),
)
def test_packets_survive_and_leave_what_follows(sequence, frame, count, payload, back, wide, skips, rest):
    packet = MotionPacket(sequence, frame, count, payload, back, wide, skips)
    assert MotionPacket.parse(bytes(packet) + rest) == (packet, rest)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, (1 << 35) - 1), st.binary(max_size=3))
def test_varints_survive(value, rest):
    assert take_varint(put_varint(value) + rest, "test", 1 << 35) == (value, rest)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_an_error_or_a_unit(data):
    try:
        unit, rest = parse_unit(data)
    except KinecastError:
        return
    assert bytes(unit) + rest == data


def test_a_later_version_is_refused():
    data = bytearray(bytes(HEADER))
    data[3] = LAYERED + 1
    wanted = f"expected format version {VERSION} to {LAYERED}, found {LAYERED + 1}: update kinecast"
    with pytest.raises(KinecastError, match=wanted):
        Header.parse(bytes(data))


def test_another_file_is_named():
    with pytest.raises(KinecastError, match="this is not a .kcm stream"):
        Header.parse(b"RIFF....")


def test_bytes_after_the_fields_of_a_header_are_refused():
    body = bytes(HEADER)[5:-4] if bytes(HEADER)[4] < 128 else bytes(HEADER)[6:-4]
    data = b"KCM\x01" + put_varint(len(body) + 1) + body + b"\0"
    with pytest.raises(KinecastError, match="no bytes after its fields, found 1"):
        Header.parse(data + checksum(data))


def test_a_varint_in_a_longer_form_is_refused():
    with pytest.raises(KinecastError, match="shortest form"):
        take_varint(b"\x80\x00", "test", 10)
    with pytest.raises(KinecastError, match="at most 5 bytes"):
        take_varint(b"\xff" * 9, "test", 10)
    with pytest.raises(KinecastError, match="expected at most 10, found 11"):
        take_varint(b"\x0b", "test", 10)


def test_a_packet_above_the_datagram_is_refused_on_both_sides():
    with pytest.raises(KinecastError, match=f"expected at most {DATAGRAM} bytes"):
        bytes(MotionPacket(0, 0, 1, bytes(1199)))
    data = b"\x80\0\0\0\0" + put_varint(1198) + bytes(1198)
    with pytest.raises(KinecastError, match=f"expected at most {DATAGRAM} bytes"):
        MotionPacket.parse(data + checksum(data, wide=False))


def test_pictures_are_split_into_datagrams():
    picture = bytes(range(256)) * 20
    chunks = list(split_picture(picture, "image/jpeg"))
    assert b"".join(chunk.data for chunk in chunks) == picture
    assert all(len(bytes(chunk)) <= DATAGRAM for chunk in chunks)
    assert all(ReferenceChunk.parse(bytes(chunk)) == (chunk, b"") for chunk in chunks)


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(split_picture(b"", "image/webp")),
        lambda: list(split_picture(bytes(MAX_PICTURE + 1), "image/webp")),
        lambda: list(split_picture(b"abc", "image/tiff")),
        lambda: ReferenceChunk(0, "image/webp", 5000, 9, bytes(CHUNK)),
        lambda: MotionPacket(0, 0, 0, b""),
        lambda: MotionPacket(0, 0, MAX_FRAMES + 1, b""),
        lambda: MotionPacket(65536, 0, 1, b""),
        lambda: Header(Layout.fomm(), (0, 1), (64, 64)),
        lambda: Header(Layout.fomm(), (30, 1), (64, 0)),
        lambda: Header(Layout.fomm(), (30, 1), (64, 64), b"short"),
    ],
)
def test_units_beyond_the_limits_cannot_be_made(make):
    with pytest.raises(KinecastError, match="expected"):
        make()
