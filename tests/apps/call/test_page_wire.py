"""Messages of the page: what is well formed is read exactly, everything else is refused in one line."""

import json
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinecast.apps.call.figures import Allowance
from kinecast.apps.call.page_wire import (
    AVATAR,
    CAMERA,
    COMMANDS,
    MAX_BINARY,
    MAX_SIDE,
    MAX_TEXT,
    SHOWN,
    Avatar,
    Camera,
    Shown,
    pack_picture,
    parse_binary,
    parse_command,
)
from kinecast.errors import KinecastError

HEAD = struct.Struct("<BIdHH")


def camera(width=32, height=24, number=7, captured=1_790_000_000_000.5, kind=CAMERA):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    return HEAD.pack(kind, number, captured, width, height) + pixels.tobytes(), pixels


def test_a_camera_frame_is_read():
    data, pixels = camera()
    frame = parse_binary(data)
    assert isinstance(frame, Camera) and (frame.number, frame.captured) == (7, 1_790_000_000.0005)
    np.testing.assert_array_equal(frame.picture, pixels[..., :3])
    assert frame.picture.flags.c_contiguous


def test_an_avatar_and_a_count_are_read():
    data, pixels = camera(kind=AVATAR)
    avatar = parse_binary(data)
    assert isinstance(avatar, Avatar)
    np.testing.assert_array_equal(avatar.picture, pixels[..., :3])
    assert parse_binary(struct.pack("<BI", SHOWN, 70_000)) == Shown(70_000)


def test_the_largest_picture_fits_the_bound_and_no_larger_one_is_taken():
    data, _ = camera(MAX_SIDE, MAX_SIDE)
    frame = parse_binary(data)
    assert isinstance(frame, Camera)
    assert len(data) == MAX_BINARY and frame.picture.shape == (MAX_SIDE, MAX_SIDE, 3)
    with pytest.raises(KinecastError, match="expected sides of 16 to 640 pixels, found 641x640"):
        parse_binary(HEAD.pack(CAMERA, 0, 0.0, MAX_SIDE + 1, MAX_SIDE))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected type 1 to 3, found 0"),
        (b"\x09abc", "expected type 1 to 3, found 9"),
        (b"\x03abc", "expected 5 bytes, found 4"),
        (b"\x01abc", "expected a head of 17 bytes, found 4"),
        (camera(15, 24)[0], "expected sides of 16 to 640 pixels, found 15x24"),
        (camera()[0][:-1], "expected 3072 bytes of pixels, found 3071"),
        (camera()[0] + b"x", "expected 3072 bytes of pixels, found 3073"),
        (camera(captured=float("nan"))[0], "expected a time in milliseconds"),
        (camera(captured=float("inf"))[0], "expected a time in milliseconds"),
        (camera(captured=-1.0)[0], "expected a time in milliseconds"),
    ],
)
def test_damaged_pictures_are_refused(data, message):
    with pytest.raises(KinecastError, match=message):
        parse_binary(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a JSON object"),
        ("[" * 60_000, "expected a JSON object"),
        ("[1]", "expected a known type"),
        ('{"type": ["host"]}', "expected a known type"),
        ('{"type": "shutdown"}', "expected a known type"),
        ('{"type": "host"}', r"host: expected fields \['server'\]"),
        ('{"type": "host", "server": "x", "more": 1}', "expected fields"),
        ('{"type": "host", "server": 5}', "expected server of at most 512 characters"),
        (json.dumps({"type": "host", "server": "x" * 513}), "expected server of at most 512 characters"),
        ('{"type": "mute", "video": 1, "audio": false}', "expected video to be true or false"),
        ("x" * (MAX_TEXT + 1025), "expected at most 65536 characters"),
    ],
)
def test_damaged_commands_are_refused(text, message):
    with pytest.raises(KinecastError, match=message) as caught:
        parse_command(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_is_read(kind):
    command = {"type": kind, **{name: False if longest is None else "x" for name, longest in COMMANDS[kind].items()}}
    assert parse_command(json.dumps(command)) == command


def test_generated_bad_messages_are_refused_and_nothing_else_happens():
    """20 000: random bytes, and good messages with bytes changed, cut or added."""
    draw = random.Random(0)
    good = [camera()[0], camera(16, 16, kind=AVATAR)[0], struct.pack("<BI", SHOWN, 5)]
    texts = [json.dumps({"type": "host", "server": "http://x"}), '{"type": "mute", "video": true, "audio": false}']
    refused = 0
    for _ in range(10_000):
        data = bytearray(draw.choice([*good, draw.randbytes(draw.randrange(40))]))
        for _ in range(draw.randrange(1, 4)):
            if data:
                data[draw.randrange(min(len(data), 24))] = draw.randrange(256)
        data = data[: draw.randrange(len(data) + 1)] if draw.random() < 0.5 else data + draw.randbytes(3)
        refused += _is_refused(parse_binary, bytes(data))
        text = list(draw.choice(texts))
        for _ in range(draw.randrange(1, 4)):
            text[draw.randrange(len(text))] = chr(draw.choice([0, 34, 44, 58, 91, 123, 125, 0x2028, 0xD800]))
        refused += _is_refused(parse_command, "".join(text))
    assert refused > 18_000


def _is_refused(parse, message):
    try:
        parse(message)
    except KinecastError as error:
        assert "\n" not in str(error) and len(str(error)) < 200
        return True
    return False


_PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(_PLAIN, lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["type", "server"]), x), max_leaves=4)
)
def test_any_json_is_a_command_or_refused(value):
    _is_refused(parse_command, json.dumps(value))


def test_a_packed_picture_is_what_the_page_unpacks():
    picture = np.random.default_rng(1).integers(0, 256, (8, 6, 3), np.uint8)
    data = pack_picture(2**32 + 3, None, "idle", picture)
    kind, number, captured, state, width, height = struct.unpack_from("<BIdBHH", data)
    assert (kind, number, state, width, height) == (4, 3, 2, 6, 8) and np.isnan(captured)
    pixels = np.frombuffer(data, np.uint8, offset=18).reshape(8, 6, 4)
    np.testing.assert_array_equal(pixels[..., :3], picture)
    assert (pixels[..., 3] == 255).all()


def test_a_rate_allows_a_burst_and_then_so_many_a_second():
    now = [100.0]
    rate = Allowance(10, 3, lambda: now[0])

    def allowed(at: float) -> bool:
        now[0] = at
        return rate.take()

    assert [allowed(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert sum(allowed(100 + i / 100) for i in range(1, 201)) in (20, 21)
    assert [allowed(200.0) for _ in range(4)] == [True, True, True, False]
