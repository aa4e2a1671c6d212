"""Camera frames in, messages out: detection, encoding, and updates of the reference picture.

The reference picture is replaced if a new one would gain enough, which is measured: the sender renders its own frame as
the receiver does, from the receiver's picture and again from the frame itself, and compares both with the camera. The
difference of the two errors is the gain of a new picture; the model's own error, which no picture can reduce, is in
both.

Everything here runs in one worker thread, except for a few values set by the event loop.
"""

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from kinecast.apps.call.config import CallConfig, CameraFrame
from kinecast.apps.call.heads import AS_HEAD
from kinecast.apps.call.line import Plan
from kinecast.apps.call.live_encoder import LiveEncoder
from kinecast.apps.call.messages import VERSION, Hello, Use, UseHead, write_control
from kinecast.apps.heads.expression import needs_mesh
from kinecast.apps.stream.clips import layout_for_quality, profile_named
from kinecast.apps.stream.layered import coded_within
from kinecast.codec import LIVE, Header, quantize, split_picture
from kinecast.codec.packets import REFERENCES
from kinecast.codec.stream import code_picture, open_picture
from kinecast.errors import KinecastError
from kinecast.media.framing import Box, centred, crop_box, find_face, fit, which_face
from kinecast.media.pictures import to_tensor
from kinecast.models.base import Backbone
from kinecast.models.transfer import Retargeter
from kinecast.motion import Motion

Message = tuple[str, bytes]  # channel, bytes

# Gain in mean absolute error, of 1, required to send a new picture. With face-128 on clips of three people, the gain is
# 0.01 to 0.035 one second after any picture, since a head moves on. A turned head gives 0.05 to 0.09, another person
# 0.13 to 0.18. Below 0.05 pictures would be sent continually and be outdated at once.
GAIN = 0.05
PICTURE_KBPS = 2.0  # long-run rate of refreshed pictures
_CHECK_S = 2.0  # between measurements,
_CHECK_SHARE = 0.05  # which take at most this share of the time
_CUT = 0.12  # mean absolute change of a thumbnail between frames that suggests another scene
_CUT_S = 1.0  # between pictures, even then
_FLAT = 6.0  # standard deviation in grey levels: cameras start with black frames
_STEP_S = 2.0  # tolerated difference of a frame's clock from the monotonic one, between frames
_THUMB = 24
_KEYS_PER_LOSS = 0.2  # frames between key packets = this / share of packets lost: at 30 %, every packet is a key
_KEY_EVERY_S = 4.0  # without losses
_HEAD = -1  # instead of a picture's number
_MOST_APART = 8  # camera frames of which one is sent
_PATIENCE = 10.0  # s for the receiver to confirm a picture, before it is sent again


@dataclass(frozen=True)
class Reference:
    """A picture as the receiver has it, encoded, and the initial motion in avatar mode.

    `frame` is the motion (1) detected in the frame itself, if the picture is a frame. A 3-D head has the number -1 and
    no data.
    """

    number: int
    state: Any
    motion: Motion
    avatar: bool
    data: bytes
    mime: str
    frame: Motion | None = None

    def drawn_by(self, backbone: Backbone, motion: Motion) -> Motion:
        """Return the sender's motion as a receiver of this picture is told it."""
        return motion if self.frame is None else backbone.since(motion, self.frame)


class Sender:
    """The sending half of one connection.

    Args:
        backbone: detects, and renders what the receiver renders.
        identity: identity of its weights, for the header.
        config: quality, rate, crop.
        avatar: a picture (H, W, 3) of any size to show instead of the camera, or "head", or None.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        backbone: Backbone,
        identity: bytes,
        config: CallConfig,
        avatar: np.ndarray | Literal["head"] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backbone, self._identity, self._config, self._clock = backbone, identity, config, clock
        self._detect = backbone.follow()
        self.avatar = avatar
        self.have: int | None = None  # set by the event loop on the receiver's request
        self.loss = 0.0  # share of packets that do not arrive, set by the event loop
        self.plan = Plan()  # how the line's rate is spent, set by the event loop
        self.resend = False  # set by the event loop: the receiver could not read the picture
        self.refreshes = self._pictures_sent = 0
        self.checks: list[float] = []  # the last measured gains
        self._encoder: LiveEncoder | None = None
        self._frame_bits = 0.0  # of the last frames
        self._key_wanted = False
        self._start: float | None = None
        self._last = -1  # number of the last encoded frame
        self._last_at = self._ahead = 0.0  # its time on the monotonic clock; offset of the frames' clock
        self._active: Reference | None = None
        self._pending: Reference | None = None
        self._pending_since = 0.0
        self._next_picture = 0
        self._avatar_of_pending: np.ndarray | Literal["head"] | None = None
        self._retarget: Retargeter | None = None  # applies the camera's motion to an avatar
        self._errors: list[Exception] = []
        self._box: tuple[tuple[int, ...], Box] | None = None
        self._thumb: np.ndarray | None = None
        self.without_face = 0  # frames so far
        self._face_at: float | None = None  # time of the last face, None before the first frame
        self._check_at = self._picture_at = 0.0

    def request_key(self) -> None:
        """Make the next packet a key packet. From any thread."""
        self._key_wanted = True

    def take_pictures_sent(self) -> int:
        """Return how many pictures were sent since the last call."""
        sent, self._pictures_sent = self._pictures_sent, 0
        return sent

    @property
    def faceless_s(self) -> float:
        """Seconds since the last face in the camera's picture, if one is needed. From any thread."""
        seen = self._face_at
        return 0.0 if seen is None or not self._backbone.needs_face else self._clock() - seen

    def take_errors(self) -> list[Exception]:
        """Return the errors since the last call."""
        errors, self._errors = self._errors, []
        return errors

    def process(self, frame: CameraFrame) -> list[Message]:
        """Take a camera frame; returns the messages to send for it, in order.

        Nothing is raised. Errors are in `take_errors` and affect only this frame or its picture.
        """
        out: list[Message] = []
        try:
            self._process(frame, out)
        except Exception as error:  # of whatever kind: the next frame may be better
            self._errors.append(error)
        return out

    def _process(self, frame: CameraFrame, out: list[Message]) -> None:
        """Add messages to `out` as they are made, so that a later failure does not lose them."""
        number = self._number(frame.captured, out)
        if number is None or (self._encoder is not None and 0 <= self._last > number - self._every):
            return
        picture = self._fitted(frame.picture)
        tensor = to_tensor(picture)
        motion = self._detect(tensor.to(self._backbone.device)).to("cpu")
        if not motion.valid_frames().all():
            self.without_face += 1
            self._face_at = self._clock() if self._face_at is None else self._face_at
            out += self._flushed()
            return  # the receiver holds what it shows
        self._face_at = self._clock()
        if not torch.isfinite(motion.vectors()).all():
            raise KinecastError("camera frame: expected finite motion, found NaN or infinity: check the model")
        if self._encoder is None:
            out += self._begin(motion)
        try:
            out += self._keep_reference(picture, tensor, motion)
        except Exception as error:  # motion applies to the previous picture
            self._errors.append(error)
        out += self._activate(number, picture)
        if self._active is not None:
            out += [("motion", packet) for packet in self._encode(number, motion)]

    # --- time and framing -----------------------------------------------------------------------------------------

    def _number(self, captured: float, out: list[Message]) -> int | None:
        """Return the frame's number, its time in frame periods; None if its period already has a frame.

        A frame gets the next number as long as it is less than three quarters of a period off: cameras have jitter. If
        its clock was adjusted, or its time alone is far off, the monotonic clock decides.
        """
        fps, following, now = self._config.fps, self._last + 1, self._clock()
        before, self._ahead = self._ahead, captured - now
        if self._start is None:
            self._start, self._last_at = captured, now
        elif abs(self._ahead - before) > _STEP_S:
            number = max(round(self._last + (now - self._last_at) * fps), following)
            self._start = captured - number / fps
            self.request_key()  # the receiver's clock may have to restart
            if self._encoder is not None:
                out.append(("picture", write_control(Hello(VERSION, self._start))))
            return number
        exact = (captured - self._start) * fps
        number = following if abs(exact - following) < 0.75 else round(exact)
        return number if number > self._last else None

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        if self._box is None or self._box[0] != picture.shape:
            which = which_face(self._config.crop)
            face = None if which is None else find_face([picture], which)
            box = crop_box(picture.shape[:2], self._backbone.frame_size, self._config.crop, face)
            self._box = picture.shape, box
        return fit(picture, self._box[1], self._backbone.frame_size)

    def _begin(self, motion: Motion) -> list[Message]:
        """Create the encoder; return hello and the stream's header."""
        layout = layout_for_quality(motion, self._config.quality)
        tables = profile_named("auto", self._config.model.rsplit("/", 1)[-1], layout)
        self._encoder = LiveEncoder(layout, tables, LIVE)
        rate = Fraction(self._config.fps).limit_denominator(1001)
        header = Header(
            layout,
            (rate.numerator, rate.denominator),
            self._backbone.frame_size,
            self._identity,
            _short(self._config.model),
            tables.name,
            tables.fingerprint(),
            version=REFERENCES,  # pictures may be smaller
        )
        assert self._start is not None
        return [("picture", write_control(Hello(VERSION, self._start))), ("picture", bytes(header))]

    # --- motion -----------------------------------------------------------------------------------------------------

    @property
    def _every(self) -> int:
        """One camera frame in how many is sent, so that motion keeps its part of the line."""
        if self.plan.motion_kbps is None or not self._frame_bits:
            return 1
        return min(max(round(self._config.fps * self._frame_bits / (1000 * self.plan.motion_kbps)), 1), _MOST_APART)

    def _flushed(self) -> list[Message]:
        """Return the packet of the frames that wait for others, if there are any."""
        packet = self._encoder.flush() if self._encoder is not None else None
        return [] if packet is None else [("motion", bytes(packet))]

    def _encode(self, number: int, motion: Motion) -> list[bytes]:
        """Return the packets that are full with this frame's motion, none while more frames are to come into one.

        Raises:
            KinecastError: it cannot be coded: points far outside the frame.
        """
        active = self._active
        assert active is not None and self._encoder is not None
        retarget = self._retarget
        if active.avatar:
            # A copy, kept only if the frame can be sent: otherwise later frames must not depend on it.
            retarget = copy(retarget) if retarget else self._backbone.retarget(active.motion, motion)
            motion = retarget(motion)
        motion = active.drawn_by(self._backbone, motion)
        levels = quantize(motion.vectors().numpy(), self._encoder.layout)[0]
        self._retarget = retarget
        if self._key_wanted:
            self._key_wanted = False
            self._encoder.request_key()
        # A loss makes all packets useless up to the next key, which costs twice a delta: more losses justify more keys.
        longest = _KEY_EVERY_S * self._config.fps
        self._encoder.set_key_every(round(min(_KEYS_PER_LOSS / max(self.loss, 1e-3), longest)))
        self._encoder.frames = max(self.plan.frames // self._every, 1)
        packets = self._encoder.push_at(number, levels)
        self._last, self._last_at = number, self._clock()
        for packet in packets:
            bits = 8 * len(packet.payload) / packet.count
            self._frame_bits += (bits - self._frame_bits) * (0.2 if self._frame_bits else 1)
        return [bytes(packet) for packet in packets]

    # --- the reference picture --------------------------------------------------------------------------------------

    def _keep_reference(self, picture: np.ndarray, tensor: torch.Tensor, motion: Motion) -> list[Message]:
        """Return the chunks of a new picture, if one is due."""
        now, avatar = self._clock(), self.avatar
        thumb = _thumbnail(picture)
        cut = self._thumb is not None and float(np.abs(thumb - self._thumb).mean()) > _CUT
        self._thumb = thumb
        if isinstance(avatar, str):
            self._offer_head()
            return []
        if self._pending is not None:
            if self._avatar_of_pending is avatar:
                again = self.resend or now - self._pending_since > _PATIENCE
                return self._send(self._pending, now) if again and now >= self._picture_at else []
            self._pending = None  # the user changed the picture again
        wanted = avatar is not None
        if self._active is None or self._active.avatar != wanted or (wanted and self._avatar_of_pending is not avatar):
            if wanted:
                return self._offer(self._avatar_picture(avatar), True, now)
            return self._offer(picture, False, now, motion) if float(picture.std()) > _FLAT else []
        if not wanted and self._refresh_due(cut, now) and self._gain(tensor, motion) > GAIN:
            self.refreshes += 1
            return self._offer(picture, False, now, motion)
        return []

    def _refresh_due(self, cut: bool, now: float) -> bool:
        if cut:  # a scene cut is measured at once; the budget of pictures is for drift
            return now - self._pending_since > _CUT_S
        return now >= self._check_at and now >= self._picture_at

    def _gain(self, tensor: torch.Tensor, motion: Motion) -> float:
        """Return by how much a picture of this frame would lower the mean absolute error of its render."""
        active, backbone = self._active, self._backbone
        assert active is not None
        started = self._clock()
        self._check_at = started + _CHECK_S
        tensor = tensor.to(backbone.device)
        on_device = motion.to(backbone.device)
        told = active.drawn_by(backbone, on_device)
        old = backbone.animate(active.state, active.motion.to(backbone.device), told)
        new = backbone.animate(backbone.encode_source(tensor), on_device, on_device)
        gain = float((old - tensor).abs().mean() - (new - tensor).abs().mean())
        took = self._clock() - started
        self._check_at = started + max(_CHECK_S, took / _CHECK_SHARE)
        self.checks = [*self.checks[-31:], gain]
        return gain

    def _offer_head(self) -> None:
        """Change over to a 3-D head, of which nothing is sent: it moves as the mean face would."""
        if self._pending is None and self._active is not None and self._active.number == _HEAD:
            return
        if self._pending is None or self._pending.number != _HEAD:
            motion = needs_mesh(self._backbone).neutral().to("cpu")
            self._pending = Reference(_HEAD, None, motion, True, b"", "")
            self._avatar_of_pending = AS_HEAD

    def _avatar_picture(self, avatar: np.ndarray | None) -> np.ndarray:
        assert avatar is not None
        return centred(avatar, self._backbone.frame_size)

    def _offer(self, picture: np.ndarray, avatar: bool, now: float, frame: Motion | None = None) -> list[Message]:
        """Encode a picture as the receiver will have it, of a frame or not, and return its chunks."""
        data, mime = self._coded(picture)
        tensor = to_tensor(open_picture(data, self._backbone.frame_size, smaller=True)).to(self._backbone.device)
        state, motion = self._backbone.encode_source(tensor), self._backbone.detect(tensor).to("cpu")
        self._pending = Reference(self._next_picture, state, motion, avatar, data, mime, frame)
        self._avatar_of_pending = self.avatar
        self._next_picture = (self._next_picture + 1) % 256
        return self._send(self._pending, now)

    def _coded(self, picture: np.ndarray) -> tuple[bytes, str]:
        """Code a picture by the configured quality, or as the line allows if that is less."""
        data, mime = code_picture(picture, self._config.picture_quality)
        most = self.plan.picture_bytes
        return (data, mime) if most is None or len(data) <= most else coded_within(self._backbone, picture, most)

    def _send(self, reference: Reference, now: float) -> list[Message]:
        self.resend, self._pending_since = False, now
        self._picture_at = now + 8 * len(reference.data) / (1000 * (self.plan.picture_kbps or PICTURE_KBPS))
        self._pictures_sent += 1
        chunks = split_picture(reference.data, reference.mime, reference.number)
        return [("picture", bytes(chunk)) for chunk in chunks]

    def _activate(self, number: int, picture: np.ndarray) -> list[Message]:
        """Switch to the pending picture once the receiver has it, so that motion never applies to another.

        An avatar waits for a frame that is not black, since its motion is relative to its first frame.
        """
        pending = self._pending
        if (
            pending is None
            or pending.number not in (self.have, _HEAD)
            or (pending.avatar and float(picture.std()) <= _FLAT)
        ):
            return []
        if self._active is None or pending.avatar or self._active.avatar:
            self._retarget = None
            self.request_key()  # the numbers jump: no prediction from earlier ones
        self._active, self._pending = pending, None
        if pending.number == _HEAD:
            return [("picture", write_control(UseHead(number)))]
        return [("picture", write_control(Use(pending.number, number, pending.avatar)))]


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    small = Image.fromarray(picture).convert("L").resize((_THUMB, _THUMB), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _short(name: str) -> str:
    """Return a model's name in a form a header can hold; it is used in messages only."""
    text = name.rsplit("/", 1)[-1].encode("ascii", "replace").decode()
    return "".join(c for c in text if c.isprintable())[:64]
