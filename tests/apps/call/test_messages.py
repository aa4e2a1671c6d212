import random

import pytest

from kinecast.apps.call.messages import (
    Again,
    Bye,
    Control,
    Have,
    Hello,
    KeyRequest,
    LineReport,
    Ping,
    Pong,
    Resume,
    Sending,
    Stamp,
    Use,
    is_signal,
    parse_control,
    parse_signal,
    write_control,
    write_signal,
)
from kinecast.errors import KinecastError

CONTROLS: list[Control] = [
    Hello(1, 1234.5),
    Use(3, 70_000, True),
    Have(255),
    Again(0),
    Sending(True, False, True),
    Resume("a" * 32),
    Bye("hung up"),
]
SIGNALS = [KeyRequest(), Ping(123), Pong(123, 456), LineReport(77, 60000, 255), Stamp(65535)]


@pytest.mark.parametrize("message", CONTROLS, ids=lambda m: type(m).__name__)
def test_control_messages_come_back_as_they_were(message):
    data = write_control(message)
    assert parse_control(data) == message
    assert data[:1] == b"{"


@pytest.mark.parametrize("message", SIGNALS, ids=lambda m: type(m).__name__)
def test_signals_come_back_as_they_were(message):
    data = write_signal(message)
    assert is_signal(data) and parse_signal(data) == message
    assert len(data) <= 18
    for end in range(1, len(data)):
        with pytest.raises(KinecastError):
            parse_signal(data[:end])


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"{" + b" " * 600, "at most 512 bytes"),
        (b"{", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[1]", "known type"),
        (b'{"type":"exec"}', "known type"),
        (b'{"type":["use"]}', "known type"),
        (b'{"type":"have"}', "its own fields"),
        (b'{"type":"have","picture":1,"more":2}', "its own fields"),
        (b'{"type":"have","picture":256}', "expected a valid picture"),
        (b'{"type":"have","picture":-1}', "expected a valid picture"),
        (b'{"type":"have","picture":true}', "expected a valid picture"),
        (b'{"type":"have","picture":1.0}', "expected a valid picture"),
        (b'{"type":"hello","version":1,"start":NaN}', "expected JSON"),
        (b'{"type":"hello","version":1,"start":1e999}', "expected a valid start"),
        (b'{"type":"hello","version":1,"start":1%s}' % (b"0" * 400), "expected a valid start"),
        (b'{"type":"bye","reason":"a\\nb"}', "expected a valid reason"),
        (b'{"type":"sending","video":1,"audio":true,"camera":true}', "expected a valid video"),
        (b"[" * 500, "expected JSON"),
    ],
)
def test_foreign_control_messages_are_refused_in_a_line(data, line):
    with pytest.raises(KinecastError, match=line) as caught:
        parse_control(data)
    assert "\n" not in str(caught.value)


def test_damaged_control_messages_raise_nothing_else():
    damage = random.Random(0)
    for _ in range(2000):
        data = bytearray(write_control(damage.choice(CONTROLS)))
        for _ in range(damage.randint(1, 3)):
            data[damage.randrange(len(data))] = damage.randrange(256)
        try:
            parse_control(bytes(data[: damage.randint(1, len(data))]))
        except KinecastError:
            pass
