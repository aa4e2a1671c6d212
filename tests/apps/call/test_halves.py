"""The sending and the receiving half without a network: references, avatars, what is refused, what is concealed."""

import io
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from apps.call.ends import FPS, camera_frames, config, models, models_of
from faces_in_motion import face_frames, tiny_mesh
from helpers import draw_frames
from kinecast.apps.call.concealment import Concealment, Idle
from kinecast.apps.call.config import CameraFrame
from kinecast.apps.call.messages import Hello, Use, UseHead, parse_control
from kinecast.apps.call.models import Models
from kinecast.apps.call.receiving import MAX_PICTURE, Receiver
from kinecast.apps.call.sending import GAIN, Sender
from kinecast.codec import Header, MotionPacket, ReferenceChunk, split_picture, stream_identity
from kinecast.codec.filling import damped
from kinecast.codec.stream import code_picture, open_picture
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.media.pictures import to_tensor, to_uint8
from kinecast.models import FOMM, Backbone
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from tiny import tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps


class Wire:
    """A sender whose messages go straight to a receiver; its clock is the frames' own."""

    def __init__(self, avatar: Any = None, loaded: Models | None = None, **changes) -> None:
        self.now = 1000.0
        loaded = loaded or models()
        model, settings = (loaded.backbone, loaded.identity), config(**changes)
        self.sender: Any = Sender(*model, settings, avatar, lambda: self.now)
        self.receiver: Any = Receiver(*model, settings, damped, None, lambda: self.now, loaded.heads)
        self.messages: list[tuple[str, bytes]] = []
        self.events: list[object] = []

    def film(self, picture: np.ndarray, lost: bool = False, captured: float | None = None) -> Any:
        """Pass one frame through both; returns what is shown."""
        out = self.sender.process(CameraFrame(picture, self.now if captured is None else captured, 0))
        self.messages += out
        for channel, data in out:
            if channel == "motion":
                if not lost:
                    self.receiver.take_packet(MotionPacket.parse(data)[0], self.now)
            else:
                self._reliable(data)
        return self.show()

    def _reliable(self, data: bytes) -> None:
        if data[:1] == b"R":
            self.receiver.take_chunk(ReferenceChunk.parse(data)[0])
        elif data[:1] == b"K":
            self.receiver.take_header(Header.parse(data)[0])
        else:
            message = parse_control(data)
            self.events.append(message)
            if isinstance(message, Hello):
                self.receiver.take_hello(message)
            elif isinstance(message, Use | UseHead):
                self.receiver.take_use(message)

    def show(self, paused: bool = False) -> Any:
        job = self.receiver.due(self.now + 0.01, paused)
        self.now += 1 / FPS
        if job is None:
            return None
        played = self.receiver.play(job)
        for number in played.have:
            self.sender.have = number
        return played.shown

    def pictures(self) -> list[bytes]:
        """Return every coded picture that was sent, put together."""
        whole: dict[int, bytes] = {}
        for _, data in self.messages:
            if data[:1] == b"R":
                chunk = ReferenceChunk.parse(data)[0]
                whole[chunk.picture] = whole.get(chunk.picture, b"") * bool(chunk.index) + chunk.data
        return list(whole.values())


def test_the_first_good_frame_is_the_picture_and_motion_follows():
    wire = Wire()
    black = np.zeros((64, 64, 3), np.uint8)
    assert wire.film(black) is None and not wire.pictures()  # cameras begin with black frames
    shown = [wire.film(frame) for frame in camera_frames()[:8]]
    assert len(wire.pictures()) == 1
    assert [s.state for s in shown if s is not None] == ["received"] * 7
    assert shown[-1].captured == pytest.approx(wire.now - 1 / FPS, abs=0.5 / FPS)
    assert all(len(data) < 150 for channel, data in wire.messages if channel == "motion")
    drawn = models().backbone
    assert shown[-1].picture.shape == (*drawn.frame_size, 3)


def test_what_is_shown_is_what_the_backbone_draws():
    wire, backbone = Wire(quality=9), models().backbone
    for frame in camera_frames()[:6]:
        shown = wire.film(frame)
    source = to_tensor(open_picture(wire.pictures()[0], (64, 64)))
    with torch.inference_mode():
        motion = backbone.detect(to_tensor(camera_frames()[5]))
        expected = to_uint8(backbone.animate(backbone.encode_source(source), backbone.detect(source), motion))[0]
    assert np.abs(shown.picture.astype(int) - expected.astype(int)).mean() < 3


def test_lost_frames_are_forecast_and_a_request_brings_a_key():
    wire, frames = Wire(), camera_frames()
    for frame in frames[:6]:
        wire.film(frame)
    assert wire.film(frames[6], lost=True).state == "forecast"
    assert wire.film(frames[7]).state == "forecast"  # came, but starts from what did not
    assert wire.receiver.jitter.blocked(10**6)
    wire.sender.request_key()
    assert wire.film(frames[8]).state == "received"
    assert wire.receiver.jitter.lost == 1


def test_losses_make_key_packets_more_frequent():
    shares = {}
    for loss in (0.0, 0.1, 0.4):
        wire = Wire()
        wire.sender.loss = loss
        for n in range(21):
            wire.film(camera_frames()[n % 24])
        packets = [MotionPacket.parse(data)[0] for channel, data in wire.messages if channel == "motion"]
        shares[loss] = sum(p.key for p in packets) / len(packets)
    assert shares[0.0] < 0.1 and shares[0.1] == pytest.approx(0.5, abs=0.1) and shares[0.4] == 1


def test_after_a_second_it_is_frozen_and_says_so():
    wire = Wire()
    for frame in camera_frames()[:6]:
        last = wire.film(frame)
    states = [shown.state for _ in range(40) if (shown := wire.show()) is not None]
    assert states[: int(FPS) - 1] == ["forecast"] * (int(FPS) - 1)
    assert states[int(FPS) + 1 :] == ["frozen"] * len(states[int(FPS) + 1 :]) and 2 <= states.count("frozen") <= 4
    assert last is not None


def test_a_pause_is_frozen_at_once_and_ends_with_a_key():
    wire = Wire()
    for frame in camera_frames()[:6]:
        wire.film(frame)
    wire.show(paused=True)
    assert {shown.state for _ in range(5) if (shown := wire.show(paused=True)) is not None} <= {"frozen"}
    wire.now += 100.0  # longer than a packet can tell
    shown = wire.film(camera_frames()[7])
    assert shown.state == "received" and shown.number > 100 * FPS


@pytest.mark.parametrize("jump", [-3600.0, -2.5, 2.5, 3600.0, 1e9])
@pytest.mark.parametrize("lasting", [False, True])
def test_frames_with_a_time_far_off_stop_nothing(jump, lasting):
    """One alone, or the clock was set: all that follow are shown, and the other side is told of the new beginning."""
    wire = Wire()
    wire.now = 1e6
    for frame in camera_frames()[:6]:
        wire.film(frame)
    before = wire.film(camera_frames()[6], captured=wire.now + jump)
    shown = [wire.film(f, captured=wire.now + (jump if lasting else 0)) for f in camera_frames()[7:16]]
    assert [frame.state for frame in (before, *shown)] == ["received"] * 10
    assert [frame.number for frame in shown] == list(range(before.number + 1, before.number + 10))
    assert shown[-1].captured == pytest.approx(wire.now - 1 / FPS + (jump if lasting else 0), abs=1 / FPS)


def test_a_pause_is_one_although_the_clock_was_set_in_it():
    wire = Wire()
    for frame in camera_frames()[:6]:
        wire.film(frame)
    wire.now += 10
    shown = wire.film(camera_frames()[7], captured=wire.now - 400)
    assert shown.state == "received" and 10 * FPS < shown.number < 11 * FPS


def test_a_camera_frame_has_a_time():
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(KinecastError, match="camera frame: expected seconds since 1970"):
            CameraFrame(camera_frames()[0], wrong, 0)


def test_half_a_frame_that_was_encoded_is_followed_by_a_key(monkeypatch):
    wire = Wire()
    for frame in camera_frames()[:6]:
        wire.film(frame)
    model = wire.sender._encoder._model
    real = model.code_frame

    def failing(coder, levels, elapsed, windows):
        real(coder, levels, elapsed, windows)
        raise MemoryError("too large")

    monkeypatch.setattr(model, "code_frame", failing)
    assert wire.film(camera_frames()[6]).state == "forecast"
    monkeypatch.undo()
    assert [str(error) for error in wire.sender.take_errors()] == ["too large"]
    assert [wire.film(frame).state for frame in camera_frames()[7:12]] == ["received"] * 5
    packets = [MotionPacket.parse(data)[0] for channel, data in wire.messages if channel == "motion"]
    assert packets[-5].key and packets[-5].frame == packets[-6].frame + 2


# --- references ------------------------------------------------------------------------------------------------------


def test_another_scene_brings_another_picture_and_the_same_one_does_not(monkeypatch):
    wire = Wire()
    # A tiny network draws noise; what is tested is that a gain decides, and is measured only where there is reason.
    measured: list[int] = []
    monkeypatch.setattr(Sender, "_gain", lambda self, tensor, motion: 0.1 * len(measured.__iadd__([1]) and [1]))
    for frame in camera_frames()[:10]:
        wire.film(frame)
    assert len(wire.pictures()) == 1 and not measured
    other = np.ascontiguousarray(255 - camera_frames()[0][::-1])
    wire.now += 1.5
    wire.film(other)
    for _ in range(3):
        shown = wire.film(other)
    assert measured == [1] and len(wire.pictures()) == 2 and shown.state == "received"
    uses = [event for event in wire.events if isinstance(event, Use)]
    assert [use.picture for use in uses] == [0, 1] and uses[1].frame > uses[0].frame


def test_no_gain_no_picture(monkeypatch):
    wire = Wire()
    monkeypatch.setattr(Sender, "_gain", lambda self, tensor, motion: 0.01)
    wire.now += 1
    for n in range(12):
        wire.film(camera_frames()[n % 24] if n % 2 else 255 - camera_frames()[n % 24])
    assert len(wire.pictures()) == 1


def test_the_gain_is_what_a_new_picture_would_mend():
    backbone = load_backbone("face-128", "cpu", "fast")  # random weights draw noise whatever the picture
    sender = Sender(backbone, bytes(32), config(), None, lambda: 1000.0)
    frames = draw_frames(2, backbone.frame_size)
    sender.process(CameraFrame(frames[0], 1000.0, 0))
    sender.have = 0
    sender.process(CameraFrame(frames[1], 1000.1, 1))
    here = to_tensor(frames[0])
    there = to_tensor(np.ascontiguousarray(255 - frames[0][::-1]))
    assert abs(sender._gain(here, backbone.detect(here))) < GAIN / 2  # WebP's losses alone
    assert sender._gain(there, backbone.detect(there)) > 2 * GAIN


# --- avatars ---------------------------------------------------------------------------------------------------------


def avatar_picture() -> np.ndarray:
    y, x = np.mgrid[:80, :80]
    return np.stack([x * 3, y * 3, 255 - x * 3], axis=-1).astype(np.uint8)


def test_an_avatar_is_the_only_picture_that_is_sent():
    wire = Wire(avatar=avatar_picture())
    states = [shown.state for frame in camera_frames()[::2] if (shown := wire.film(frame)) is not None]
    assert states and set(states) == {"received"}
    (picture,) = wire.pictures()
    seen = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)
    wanted = np.asarray(Image.fromarray(avatar_picture()).resize((64, 64), Image.Resampling.LANCZOS), float)
    assert np.abs(seen - wanted).mean() < 8
    for frame in camera_frames():
        assert np.abs(seen - frame).mean() > 40
    # All that was sent besides the picture, byte by byte: control messages, the header, and motion of a few bytes.
    rest = [data for _, data in wire.messages if data[:1] != b"R"]
    assert {data[:1] for data in rest} <= {b"{", b"K"} | {bytes([b]) for b in range(0x80, 0xA0)}
    motion = [data for channel, data in wire.messages if channel == "motion"]
    assert max(map(len, motion)) < 150 and not any(isinstance(e, Use) and not e.avatar for e in wire.events)


def test_an_avatar_moves_from_rest_as_i_move():
    wire, frames = Wire(avatar=avatar_picture(), quality=9), camera_frames()
    for _ in range(4):
        still = wire.film(frames[0])
    rest = wire.receiver._concealment.at(still.number)
    avatar = wire.sender._active.motion.vectors().numpy()[0]
    assert np.abs(rest - avatar).mean() < 0.02  # where I began is the avatar's own pose, wherever I was
    for frame in frames[1:8]:
        moved = wire.film(frame)
    assert np.abs(wire.receiver._concealment.at(moved.number) - rest).max() > 0.005


def coincident() -> FOMM:
    """A FOMM whose keypoints all lie in one place."""
    model = tiny_fomm(estimate_jacobian=False)
    with torch.no_grad():
        for parameter in model.kp_detector.kp.parameters():
            parameter.zero_()
    return model


@pytest.mark.parametrize("kind", ["face-vid2vid", "tps", "two points", "one place"])
def test_an_avatar_moves_whatever_the_backbone(kind):
    """Also where points have no size to scale movements by."""
    made: dict[str, Callable[[], Backbone]] = {
        "face-vid2vid": tiny_face_vid2vid,
        "tps": tiny_tps,
        "two points": lambda: tiny_fomm(num_keypoints=2),
        "one place": coincident,
    }
    wire = Wire(avatar_picture(), models_of(made[kind]()), quality=9)
    shown = [wire.film(frame) for frame in camera_frames()[:8]]
    assert [frame.state for frame in shown if frame is not None] == ["received"] * 7
    assert wire.sender.take_errors() == []
    adapts = wire.sender._backbone.adapts_scale(wire.sender._active.motion, wire.sender._active.motion)
    assert adapts == (kind == "tps")


def test_an_avatar_does_not_start_from_a_black_frame():
    """It moves as I have moved since its first frame."""
    wire, black = Wire(avatar=avatar_picture()), np.zeros((64, 64, 3), np.uint8)
    assert [wire.film(black) for _ in range(4)] == [None] * 4
    wire.film(camera_frames()[0])
    first, sender = models().backbone.detect(to_tensor(camera_frames()[0])), wire.sender
    torch.testing.assert_close(sender._retarget(first).vectors(), sender._active.motion.vectors(), atol=1e-5, rtol=0)


def test_an_avatar_does_not_start_from_a_frame_that_cannot_be_told(monkeypatch):
    """All frames after it would be measured from it."""
    wire = Wire(avatar=avatar_picture())
    real = wire.sender._backbone.detect

    def degenerate(frames: torch.Tensor) -> Motion:
        motion = real(frames)
        flat = {"jacobian": torch.zeros_like(motion.components["jacobian"])}  # cannot be inverted
        return replace(motion, components={**motion.components, **flat})

    wire.film(camera_frames()[0])  # the avatar's picture is sent, and had
    monkeypatch.setattr(wire.sender._backbone, "detect", degenerate)
    assert wire.film(camera_frames()[1]) is None
    monkeypatch.undo()
    (error,) = wire.sender.take_errors()
    assert "found NaN or infinity" in str(error)
    assert [wire.film(frame).state for frame in camera_frames()[2:6]] == ["received"] * 4


def test_an_avatar_can_be_put_on_and_taken_off():
    wire = Wire()
    for frame in camera_frames()[:4]:
        wire.film(frame)
    wire.sender.avatar = avatar_picture()
    for frame in camera_frames()[4:8]:
        wire.film(frame)
    wire.sender.avatar = None
    for frame in camera_frames()[8:12]:
        shown = wire.film(frame)
    assert [e.avatar for e in wire.events if isinstance(e, Use)] == [False, True, False]
    assert len(wire.pictures()) == 3 and shown.state == "received"


def test_an_idle_avatar_goes_on_moving_and_stays_near():
    wire = Wire(avatar=avatar_picture())
    for frame in camera_frames()[:8]:
        wire.film(frame)
    wire.show(), [wire.show() for _ in range(int(FPS))]
    shown = [wire.show() for _ in range(40)]
    assert {s.state for s in shown} == {"idle"}
    moved = [
        np.abs(a.picture.astype(int) - b.picture.astype(int)).max() for a, b in zip(shown, shown[1:], strict=False)
    ]
    assert np.mean(np.array(moved) > 0) > 0.5
    wire.now += 0.001
    assert wire.film(camera_frames()[0]).state in ("received", "idle")


def test_idle_motion_keeps_to_what_was_seen_for_an_hour():
    random = np.random.default_rng(0)
    observed = (0.3 + 0.02 * np.cumsum(random.standard_normal((12, 24)), axis=0)).astype(np.float32)
    for forecaster in (None, build_forecaster("velocity", 24)):  # one that would fly away
        idle, again = Idle(forecaster, observed, seed=1), Idle(forecaster, observed, seed=1)
        frames = np.stack([idle.next() for _ in range(2000)])
        width = np.ptp(observed, axis=0)
        assert (np.abs(frames - observed.mean(axis=0)) < 2.5 * width.max()).all()
        assert np.array_equal(frames[:50], np.stack([again.next() for _ in range(50)]))


def test_an_idle_me_is_not_shown():
    """Motion that a person did not make is not shown as that person's."""
    wire = Wire()
    for frame in camera_frames()[:8]:
        wire.film(frame)
    states = {shown.state for _ in range(60) if (shown := wire.show()) is not None}
    assert states == {"forecast", "frozen", "received"} - {"received"}


# --- concealment -----------------------------------------------------------------------------------------------------


def test_expectations_follow_what_came_even_late():
    line = [np.array([n, 2.0 * n], np.float32) for n in range(20)]
    expected = Concealment(
        lambda observed, horizon: observed[-1] + np.arange(1, horizon + 1)[:, None] * (observed[-1] - observed[-2])
    )
    for n in range(5):
        expected.came(n, line[n])
    assert np.allclose(expected.at(9), line[9]) and np.allclose(expected.at(30), [30, 60])
    for n in (5, 6, 8):  # came late; 7 never did
        expected.came(n, line[n])
    assert np.allclose(expected.observed(), line[:9]) and np.allclose(expected.at(10), line[10])
    expected.came(3, line[3])  # a new beginning
    assert expected.last == 3 and len(expected.observed()) == 1


# --- what is refused ------------------------------------------------------------------------------------------------


def receiver() -> Receiver:
    loaded = models()
    return Receiver(loaded.backbone, loaded.identity, config(), damped, None)


def good_header(**changes) -> Header:
    wire = Wire()
    wire.film(camera_frames()[0])
    return replace(Header.parse(next(d for _, d in wire.messages if d[:1] == b"K"))[0], **changes)


def test_headers_of_other_models_profiles_and_rates_are_refused():
    receiver().take_header(good_header())
    foreign = stream_identity(tiny_fomm(5))
    for changes, line in (
        ({"model": foreign}, "expected the model"),
        ({"rate": (500, 1)}, "1 to 60 frames per second"),
        ({"rate": (1, 10)}, "1 to 60 frames per second"),
        ({"frame_size": (8192, 8192)}, "numbers per frame at"),
        ({"profile": "nobody"}, "expected one of"),
        ({"fingerprint": b"12345678"}, "expected fingerprint"),
    ):
        with pytest.raises(KinecastError, match=line):
            receiver().take_header(good_header(**changes))
    with pytest.raises(KinecastError, match="expected protocol version"):
        receiver().take_hello(Hello(99, 0.0))


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(b"\0" * min(width * 3 + 1, 1000) * 1000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture_of(size: tuple[int, int], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(out, kind)
    return out.getvalue()


HOSTILE = {
    "decompression bomb": png_bomb(50_000, 50_000),
    "too large": picture_of((1024, 1024)),
    "no picture": b"foreign bytes" * 20,
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "gif": picture_of((64, 64), "GIF"),
    "tiff": picture_of((64, 64), "TIFF"),
    "cut off": code_picture(camera_frames()[0])[0][:40],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_refused_and_the_call_goes_on(name):
    wire = Wire()
    for frame in camera_frames()[:4]:
        wire.film(frame)
    for chunk in split_picture(HOSTILE[name], "image/png", 77):
        wire.receiver.take_chunk(chunk)
    job = wire.receiver.due(wire.now, False)
    started = time.process_time()
    played = wire.receiver.play(job)
    assert time.process_time() - started < 1
    ((number, line),) = played.unreadable
    assert number == 77 and line.startswith("reference picture: expected") and "\n" not in line and not played.have
    wire.receiver.take_use(Use(77, job.number, False))
    assert [wire.film(frame).state for frame in camera_frames()[4:8]] == ["received"] * 4


def test_pictures_are_bounded_before_they_are_put_together():
    one = receiver()
    with pytest.raises(KinecastError, match="at most 262144 bytes"):
        one.take_chunk(next(split_picture(b"x" * (MAX_PICTURE + 1), "image/png", 0)))
    for number in range(256):  # beginnings of many pictures: one alone is kept
        one.take_chunk(next(split_picture(b"x" * MAX_PICTURE, "image/png", number)))
    assert one._assembler is not None and one._assembler[0] == 255
    for number in range(50):
        for chunk in split_picture(b"tiny", "image/png", number):
            one.take_chunk(chunk)
        one.take_use(Use(number, 1, False))
    assert one.queues()["pictures"] <= 4 and one.queues()["uses"] <= 4


def test_motion_before_the_header_or_of_another_packing_is_refused():
    one = receiver()
    with pytest.raises(KinecastError, match="expected a header before it"):
        one.take_packet(MotionPacket(0, 0, 1, b"x", wide=False), 0.0)
    one.take_header(good_header())
    for packet in (
        MotionPacket(0, 0, 64, b"x"),
        MotionPacket(9, 0, 1, b"", 7),
        MotionPacket(9, 0, 1, b"", layer=1),
    ):
        with pytest.raises(KinecastError, match="expected 1 to 32 frames per packet"):
            one.take_packet(packet, 0.0)


def test_packets_with_a_good_checksum_and_foreign_content_only_freeze_what_is_shown():
    wire, random = Wire(), np.random.default_rng(0)
    for frame in camera_frames()[:4]:
        wire.film(frame)
    sequence = 4
    for _ in range(60):
        sequence += 1
        packet = MotionPacket(
            sequence, int(random.integers(1 << 16)), 1, random.bytes(20), int(random.integers(2)), False
        )
        wire.receiver.take_packet(MotionPacket.parse(bytes(packet))[0], wire.now)
        shown = wire.show()
        assert shown is None or np.isfinite(shown.number)


def test_a_later_picture_of_a_mesh_is_where_its_background_has_moved_to(monkeypatch):
    """The receiver finds no movement in a picture alone: of motion for that picture there must be none either."""
    model = tiny_mesh(scene=True)
    wire = Wire(loaded=models_of(model))
    frames = [to_uint8(frame)[0] for frame in face_frames(4).split(1)]
    for frame in [*frames, frames[3]]:
        wire.film(frame)
    monkeypatch.setattr(wire.sender, "_refresh_due", lambda cut, now: True)
    monkeypatch.setattr(wire.sender, "_gain", lambda tensor, motion: 1.0)
    wire.film(frames[3])
    monkeypatch.undo()
    drawn: list[np.ndarray] = []
    draw = wire.receiver._draw

    def noted(vector: np.ndarray, *rest: Any) -> Any:
        drawn.append(vector)
        return draw(vector, *rest)

    monkeypatch.setattr(wire.receiver, "_draw", noted)
    for _ in range(4):
        wire.film(frames[3])
    assert len([each for each in wire.events if isinstance(each, Use)]) == 2, "another picture is in use"
    assert wire.sender._active.frame.components["scene"].abs().max() > 0.01
    assert drawn[-1][-4:] == pytest.approx([0] * 4, abs=0.02)
