"""Generated bad messages, thousands, at what takes messages from the other side: refused and counted, nothing else."""

import random

import numpy as np
import pytest

from apps.call.ends import FakePeer, camera_frames, config, models, run
from kinecast.apps.call.exchange import Exchange
from kinecast.apps.call.invitation import HandText, Invitation, Seal, new_secret
from kinecast.apps.call.messages import Bye, Have, Hello, KeyRequest, Ping, Sending, Use, write_control, write_signal
from kinecast.apps.call.peer import CHANNELS, Peer
from kinecast.apps.call.receiving import Receiver
from kinecast.apps.call.rooms import Rooms, _sealed
from kinecast.apps.call.sending import Sender
from kinecast.codec import Header, MotionPacket, ReferenceChunk, split_picture
from kinecast.codec.wire import checksum
from kinecast.errors import KinecastError


def good_messages() -> list[tuple[str, bytes]]:
    """Return what an honest sender sends for some frames, and every control message."""
    from kinecast.apps.call.config import CameraFrame

    loaded = models()
    sender = Sender(loaded.backbone, loaded.identity, config(), None, lambda: 0.0)
    out = []
    for n, frame in enumerate(camera_frames()[:6]):
        out += sender.process(CameraFrame(frame, n / 12, n))
        sender.have = 0
    out += [
        ("picture", write_control(m)) for m in (Hello(1, 0.0), Use(0, 1, False), Have(0), Sending(True, True, True))
    ]
    out += [("motion", write_signal(m)) for m in (KeyRequest(), Ping(5))]
    assert len({data[:1] for _, data in out}) >= 6
    return out


def damaged(good: list[tuple[str, bytes]], source: random.Random) -> tuple[str, bytes]:
    """Return a message that was cut, changed, lengthened, swapped, or made of nothing; often with a right checksum."""
    channel, data = source.choice(good)
    body = bytearray(data)
    kind = source.randrange(6)
    if kind == 0:
        body = body[: source.randrange(len(body))]
    elif kind == 1:
        for _ in range(source.randint(1, 8)):
            body[source.randrange(len(body))] = source.randrange(256)
    elif kind == 2:
        body += source.randbytes(source.randint(1, 1200))
    elif kind == 3:
        body = bytearray(source.randbytes(source.randint(0, 1300)))
    elif kind == 4:
        channel = source.choice(CHANNELS)
    else:  # a unit that is whole by its checksum, with a foreign content
        body[source.randrange(1, max(len(body) - 4, 2))] = source.randrange(256)
        size = 2 if body[0] & 0xE0 == 0x80 and not body[0] & 4 else 4
        body = body[:-size]
        body += checksum(bytes(body), size == 4)
    return channel, bytes(body[:1200])


def attack(count: int, seed: int) -> None:
    source, good = random.Random(seed), good_messages()
    said: list[tuple[str, str]] = []

    async def work() -> None:
        exchange = Exchange(
            config(),
            models(),
            lambda frame: None,
            lambda kind, line: said.append((kind, line)),
            lambda reason: said.append(("bye", reason)),
            lambda line: said.append(("unusable", line)),
            lambda secret: said.append(("resume", secret)),
        )
        peer = FakePeer()
        try:
            for number in range(count):
                if number % 500 == 0:  # another connection: a stream that began well, so that all paths are reached
                    exchange.attach(peer)
                    for channel, data in good[: source.randint(0, len(good))]:
                        exchange.take(peer, channel, data)
                exchange.take(peer, *damaged(good, source))
                if number % 50 == 0:
                    job = exchange._receiver.due(number / 100, False)
                    if job is not None:
                        played = exchange._receiver.play(job)
                        assert played.shown is None or played.shown.picture.shape == (64, 64, 3)
                        assert all(line.startswith("reference picture") for _, line in played.unreadable)
                queues = exchange._receiver.queues()
                assert queues["jitter_buffer"] <= 128 and queues["pictures"] <= 4 and queues["uses"] <= 4
        finally:
            await exchange.close()
        assert peer.refused > count / 2
        assert len(peer.answers) < count  # nothing is amplified
        assert all("\n" not in line and len(line) < 400 for _, line in said)

    run(work(), 300)


def test_a_thousand_bad_messages_to_a_call():
    attack(1000, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_ten_thousand_bad_messages_to_a_call(seed):
    attack(10_000, seed)


def texts(count: int, seed: int) -> None:
    source, secret = random.Random(seed), new_secret()
    seal, other = Seal(secret, "host"), Seal(secret, "guest")
    good = [
        str(Invitation("http://127.0.0.1:1", secret)),
        str(HandText("offer", "v=0", secret, 0.0)),
        seal.close({"type": "ready", "nonce": "n"}),
        '{"sealed": "abc"}',
        '{"v": 1, "room": "' + "ab" * 16 + '", "role": "host", "token": "' + "t" * 43 + '"}',
    ]
    rooms = Rooms()
    for _ in range(count):
        text = source.choice(good)
        for _ in range(source.randint(1, 5)):
            at = source.randrange(len(text))
            text = (
                text[:at]
                + source.choice(["", chr(source.randrange(0x3000)), text[: source.randrange(40)]])
                + text[at + 1 :]
            )
        for parse in (Invitation.parse, lambda t: HandText.parse(t, "offer"), other.open):
            try:
                parse(text)
            except KinecastError as error:
                assert "\n" not in str(error)
        _sealed(text)
        rooms.claim({"v": 1, "room": text[:32], "role": text[-5:], "token": text[:64]}, "a")
    assert len(rooms) <= 20


def test_two_thousand_bad_texts():
    texts(2000, seed=1)


@pytest.mark.slow
def test_ten_thousand_bad_texts():
    texts(10_000, seed=2)


def test_bad_descriptions_are_refused_in_a_line():
    """What the other member says is authentic, but it may be hostile: no description it sends raises anything else."""
    source = random.Random(0)

    async def work() -> None:
        caller = Peer(True, (), print, print, print, print)
        offer = await caller.offer()
        refused = 0
        for _ in range(60):
            sdp = offer
            for _ in range(source.randint(1, 6)):
                at, size = source.randrange(len(sdp)), source.randint(0, 60)
                sdp = sdp[:at] + source.choice(["", "\r\n", "a=x", "m=video 9 X 1\r\n", "é"]) + sdp[at + size :]
            peer = Peer(False, (), print, print, print, print)
            try:
                await peer.answer(sdp)
            except KinecastError as error:
                refused += 1
                assert "\n" not in str(error)
            await peer.close()
        assert refused > 5
        for sdp in ("x" * 20_000, offer + "a=candidate:1\r\n" * 100, offer * 5):
            peer = Peer(False, (), print, print, print, print)
            with pytest.raises(KinecastError, match="expected the description of one call"):
                await peer.answer(sdp)
            await peer.close()
        await caller.close()

    run(work(), 60)


def test_units_of_the_codec_are_the_only_ones_that_are_read():
    loaded = models()
    one = Receiver(loaded.backbone, loaded.identity, config(), lambda o, h: np.repeat(o[-1:], h, 0), None)
    with pytest.raises(KinecastError):
        Header.parse(bytes(next(split_picture(b"x", "image/png"))))
    with pytest.raises(KinecastError):
        ReferenceChunk.parse(bytes(MotionPacket(0, 0, 1, b"x")))
    assert one.due(0.0, False) is None
    with pytest.raises(KinecastError):
        Invitation.parse(write_control(Bye("x")).decode())
