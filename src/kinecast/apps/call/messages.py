"""Small control messages between the two ends, beside the units of docs/protocol.md.

On the reliable channel they are JSON objects, whose first byte `{` starts no unit; on the unreliable one, where they
are repeated until they take effect, they are two to eighteen bytes that start with `C`; several of them may stand
before a motion packet in one message, since a message costs the line a hundred bytes more than it has. A reader accepts
exactly the fields of a message's class, each of its type and within its bounds.
"""

import json
import math
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from kinecast.errors import KinecastError

VERSION = 2  # of the call; the motion bitstream has its own
MAX_CONTROL = 512  # bytes
_FRAME = 1 << 40


@dataclass(frozen=True)
class Hello:
    """The first message. `start` is the sender's clock at frame 0, seconds; the header of its stream follows."""

    type: ClassVar[str] = "hello"
    version: int
    start: float


@dataclass(frozen=True)
class Use:
    """Render frames from number `frame` on with a picture that the receiver has; `avatar`: not of the sender."""

    type: ClassVar[str] = "use"
    picture: int
    frame: int
    avatar: bool


@dataclass(frozen=True)
class UseHead:
    """Draw frames from number `frame` on with a 3-D head: no picture comes, and the motion is for the mean face."""

    type: ClassVar[str] = "head"
    frame: int


@dataclass(frozen=True)
class Have:
    """A reference picture was received and decoded."""

    type: ClassVar[str] = "have"
    picture: int


@dataclass(frozen=True)
class Again:
    """A reference picture could not be decoded: send it again."""

    type: ClassVar[str] = "again"
    picture: int


@dataclass(frozen=True)
class Sending:
    """What the sender currently sends: `camera` is False while it delivers no frames."""

    type: ClassVar[str] = "sending"
    video: bool
    audio: bool
    camera: bool


@dataclass(frozen=True)
class Resume:
    """The secret of the room for reconnecting if the call breaks. Known to the two ends only."""

    type: ClassVar[str] = "resume"
    secret: str


@dataclass(frozen=True)
class Bye:
    """The call is over, and why, in one line."""

    type: ClassVar[str] = "bye"
    reason: str


Control = Hello | Use | UseHead | Have | Again | Sending | Resume | Bye
_KINDS: dict[str, type[Any]] = {kind.type: kind for kind in (Hello, Use, UseHead, Have, Again, Sending, Resume, Bye)}
_BOUNDS = {"picture": 255, "frame": _FRAME, "version": 1 << 16}


def write_control(message: Control) -> bytes:
    """Return a control message as bytes."""
    return json.dumps({"type": message.type, **asdict(message)}, separators=(",", ":")).encode()


def parse_control(data: bytes) -> Control:
    """Read a control message.

    Raises:
        KinecastError: too long, not JSON, an unknown type, or invalid fields or values.
    """
    if len(data) > MAX_CONTROL:
        raise KinecastError(f"control message: expected at most {MAX_CONTROL} bytes, found {len(data)}")
    try:
        values = json.loads(data.decode("ascii"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise KinecastError(f"control message: expected JSON, found {type(error).__name__}: it is damaged") from error
    kind = values.pop("type", None) if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise KinecastError("control message: expected a known type, found another: update kinecast")
    cls = _KINDS[kind]
    if set(values) != {field.name for field in fields(cls)}:
        raise KinecastError(f"control message {kind}: expected its own fields, found others: update kinecast")
    for field in fields(cls):
        values[field.name] = _checked(kind, field.name, field.type, values[field.name])
    message: Control = cls(**values)
    return message


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _checked(kind: str, name: str, expected: Any, value: Any) -> Any:
    if expected is float and type(value) is int:
        value = float(value) if abs(value) < _FRAME else math.inf
    good = type(value) is expected
    if good and expected is int:
        good = 0 <= value <= _BOUNDS[name]
    elif good and expected is float:
        good = math.isfinite(value) and abs(value) < _FRAME
    elif good and expected is str:
        good = len(value) <= 200 and value.isascii() and value.isprintable()
    if not good:
        raise KinecastError(f"control message {kind}: expected a valid {name}, found another value: it is damaged")
    return value


# --- on the unreliable channel ---------------------------------------------------------------------------------------

_MARK = b"C"
_KEY, _PING, _PONG, _LINE, _STAMP = 1, 2, 3, 4, 5
_SIZES = {_KEY: 2, _PING: 10, _PONG: 18, _LINE: 7, _STAMP: 4}  # bytes


@dataclass(frozen=True)
class KeyRequest:
    """The receiver cannot decode: the next packet should be a key packet."""


@dataclass(frozen=True)
class Ping:
    """The sender's clock, microseconds."""

    sent: int


@dataclass(frozen=True)
class Pong:
    """A ping's clock and the answerer's, microseconds."""

    sent: int
    answered: int


@dataclass(frozen=True)
class LineReport:
    """How the line was in the last seconds: lost motion packets in 255ths, queueing delay, and the rate that came."""

    share: int
    delay_ms: int
    kbps_tenths: int


@dataclass(frozen=True)
class Stamp:
    """The sender's clock in milliseconds, modulo 2**16, when the message that it is in was sent."""

    milliseconds: int


Signal = KeyRequest | Ping | Pong | LineReport | Stamp


def write_signal(message: Signal) -> bytes:
    """Return a signal as bytes."""
    if isinstance(message, KeyRequest):
        return _MARK + bytes([_KEY])
    if isinstance(message, Ping):
        return _MARK + bytes([_PING]) + struct.pack(">Q", message.sent)
    if isinstance(message, LineReport):
        return _MARK + struct.pack(">BBHH", _LINE, message.share, message.delay_ms, message.kbps_tenths)
    if isinstance(message, Stamp):
        return _MARK + struct.pack(">BH", _STAMP, message.milliseconds)
    return _MARK + bytes([_PONG]) + struct.pack(">QQ", message.sent, message.answered)


def is_signal(data: bytes) -> bool:
    """Distinguish a signal from a motion packet by the first byte."""
    return data[:1] == _MARK


def parse_signal(data: bytes) -> Signal:
    """Read a signal.

    Raises:
        KinecastError: an unknown one, or one of the wrong length.
    """
    kind, body = data[1:2], data[2:]
    if kind == bytes([_KEY]) and not body:
        return KeyRequest()
    if kind == bytes([_PING]) and len(body) == 8:
        return Ping(*struct.unpack(">Q", body))
    if kind == bytes([_PONG]) and len(body) == 16:
        return Pong(*struct.unpack(">QQ", body))
    if kind == bytes([_LINE]) and len(body) == 5:
        return LineReport(*struct.unpack(">BHH", body))
    if kind == bytes([_STAMP]) and len(body) == 2:
        return Stamp(*struct.unpack(">H", body))
    raise KinecastError(
        f"signal: expected a key request, ping, pong, line report or stamp, found {data[:4].hex()}: update kinecast"
    )


def split_signals(data: bytes) -> tuple[list[Signal], bytes]:
    """Read the signals that a message of the unreliable channel starts with; returns them and what follows.

    Raises:
        KinecastError: an unknown one, or one that is cut off.
    """
    found = []
    while is_signal(data):
        size = _SIZES.get(data[1], 2) if len(data) > 1 else 2
        found.append(parse_signal(data[:size]))
        data = data[size:]
    return found, data
