"""Messages between the page and the local server: bounded, parsed into values or refused in one line.

Binary messages begin with a type byte; numbers are little-endian.

| type | to | body |
|---|---|---|
| 1 camera frame | server | uint32 number, float64 captured (ms since 1970), uint16 width, uint16 height, RGBA pixels |
| 2 avatar | server | the same head, number and time unused |
| 3 shown | server | uint32 number of frames drawn so far: the server never has more than `WINDOW` on the way |
| 4 picture | page | as 1, but captured may be NaN (unknown), and a uint8 state (`STATES`) stands before the width |
| 5 head | page | as 4 up to the state; then float32: a weight for each of `SHAPES`, 3 of rotation, 2 of place, size |

Text messages are JSON objects with a `type`; `COMMANDS` lists those that the page may send, and their fields.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinecast.apps.heads.expression import HeadPose
from kinecast.errors import KinecastError

CAMERA, AVATAR, SHOWN, PICTURE, HEAD = 1, 2, 3, 4, 5
MIN_SIDE, MAX_SIDE = 16, 640  # pixels; the page scales its camera down before it sends
MAX_TEXT = 64 * 1024  # characters of a command: the longest is a session description or a hand-copied text
WINDOW = 2  # pictures on the way to the page: one that it draws, one that travels
STATES = ("received", "forecast", "idle", "frozen")

_HEAD = struct.Struct("<BIdHH")
_SHOWN = struct.Struct("<BI")
_PICTURE = struct.Struct("<BIdBHH")
_HEAD_OF_HEAD = struct.Struct("<BIdB")
MAX_BINARY = _HEAD.size + MAX_SIDE * MAX_SIDE * 4

# The fields of each command: the most characters of a text, or None for a yes or no.
COMMANDS: Mapping[str, Mapping[str, int | None]] = {
    "hello": {"token": 128},
    "host": {"server": 512},
    "join": {"invitation": 4096},
    "make-offer": {},
    "accept-offer": {"text": MAX_TEXT},
    "accept-answer": {"text": MAX_TEXT},
    "mute": {"video": None, "audio": None},
    "avatar-off": {},
    "avatar-head": {},
    "heads": {"drawn": None},
    "sound": {"sdp": MAX_TEXT},
    "sound-off": {},
    "reconnect": {},
    "hang-up": {},
}


@dataclass(frozen=True)
class Pixels:
    """A picture from the page: `picture` (H, W, 3) uint8, `captured` in seconds since 1970."""

    number: int
    captured: float
    picture: np.ndarray


@dataclass(frozen=True)
class Camera(Pixels):
    """One frame of the camera."""


@dataclass(frozen=True)
class Avatar(Pixels):
    """The picture that the other side is to see instead of the camera's."""


@dataclass(frozen=True)
class Shown:
    """How many pictures the page has drawn since it connected."""

    count: int


def parse_binary(data: bytes) -> Camera | Avatar | Shown:
    """Read a binary message of the page.

    Raises:
        KinecastError: an unknown type, a size out of bounds, pixels missing or too many, a time that is none.
    """
    kind = data[0] if data else 0
    if kind == SHOWN:
        if len(data) != _SHOWN.size:
            raise KinecastError(f"page message: expected {_SHOWN.size} bytes, found {len(data)}: reload the page")
        return Shown(_SHOWN.unpack(data)[1])
    if kind not in (CAMERA, AVATAR):
        raise KinecastError(f"page message: expected type 1 to 3, found {kind}: reload the page")
    if len(data) < _HEAD.size:
        raise KinecastError(f"page message: expected a head of {_HEAD.size} bytes, found {len(data)}: reload the page")
    _, number, captured, width, height = _HEAD.unpack_from(data)
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise KinecastError(
            f"page picture: expected sides of {MIN_SIDE} to {MAX_SIDE} pixels, found {width}x{height}: reload the page"
        )
    if len(data) != _HEAD.size + width * height * 4:
        raise KinecastError(
            f"page picture: expected {width * height * 4} bytes of pixels, found {len(data) - _HEAD.size}: "
            "reload the page"
        )
    if not 0 <= captured < 1e14:  # also refuses NaN
        raise KinecastError("page picture: expected a time in milliseconds, found none: reload the page")
    pixels = np.frombuffer(data, np.uint8, offset=_HEAD.size).reshape(height, width, 4)
    made = Camera if kind == CAMERA else Avatar
    return made(number, captured / 1000, np.ascontiguousarray(pixels[..., :3]))


def pack_picture(number: int, captured: float | None, state: str, picture: np.ndarray) -> bytes:
    """Return the message that shows `picture` (H, W, 3) uint8; `captured` is in seconds."""
    height, width = picture.shape[:2]
    rgba = np.full((height, width, 4), 255, np.uint8)
    rgba[..., :3] = picture
    time_ms = float("nan") if captured is None else captured * 1000
    head = _PICTURE.pack(PICTURE, number & 0xFFFFFFFF, time_ms, STATES.index(state), width, height)
    return head + rgba.tobytes()


def pack_head(number: int, captured: float | None, state: str, head: HeadPose) -> bytes:
    """Return the message by which the page moves a 3-D head; `captured` is in seconds."""
    time_ms = float("nan") if captured is None else captured * 1000
    values = np.concatenate([head.shapes, head.rotation, head.move, [head.size]]).astype("<f4")
    return _HEAD_OF_HEAD.pack(HEAD, number & 0xFFFFFFFF, time_ms, STATES.index(state)) + values.tobytes()


def parse_command(text: str) -> dict[str, Any]:
    """Read a text message of the page: an object of `COMMANDS` with exactly its fields.

    Raises:
        KinecastError: no JSON object, an unknown type, a field missing, too many, of another type or too long.
    """
    if len(text) > MAX_TEXT + 1024:
        raise KinecastError(f"page command: expected at most {MAX_TEXT} characters, found {len(text)}: shorten it")
    try:
        command = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KinecastError("page command: expected a JSON object, found other text: reload the page") from error
    kind = command.get("type") if isinstance(command, dict) else None
    if not isinstance(kind, str) or kind not in COMMANDS:
        raise KinecastError("page command: expected a known type, found another: reload the page")
    fields = COMMANDS[kind]
    if command.keys() - {"type"} != fields.keys():
        raise KinecastError(f"page command {kind}: expected fields {sorted(fields)}, found others: reload the page")
    for name, longest in fields.items():
        value = command[name]
        if longest is None:
            if not isinstance(value, bool):
                raise KinecastError(f"page command {kind}: expected {name} to be true or false: reload the page")
        elif not isinstance(value, str) or len(value) > longest:
            raise KinecastError(f"page command {kind}: expected {name} of at most {longest} characters: shorten it")
    return command
