"""Lost packets: quality by concealment, at random and bursty loss.

One packet per frame. The sender either sends a key packet every tenth frame, or learns of each loss after a round trip
and then sends one, as in calls. Rates are of packets without IP and UDP headers.

Notation: T frames, D numbers per frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinecast.codec import DecodedFrame, Layout, MotionDecoder, MotionEncoder, Packing, Profile, quantize
from kinecast.codec.filling import INTERPOLATE, fill, interpolate
from kinecast.research.rate_clips import RateClip
from kinecast.research.rate_distortion import kbps, mean_distortions
from kinecast.research.rate_settings import PICTURE, QUALITY, Measured, Stream

RATES = (0.05, 0.1, 0.2, 0.3)
ROUND_TRIP = 4  # frames between a loss and the key packet that answers it: 133 ms at 30 a second
KEY_EVERY = 10
BURST = 4.0  # packets, on average


def lost_packets(count: int, rate: float, bursty: bool, seed: int) -> np.ndarray:
    """Return (count,) bool: independent losses, or Gilbert's two states with bursts of 4 on average (1960)."""
    random = np.random.default_rng(seed)
    if not bursty:
        return random.random(count) < rate
    begin, end = rate / (1 - rate) / BURST, 1 / BURST
    lost = np.zeros(count, bool)
    state = False
    for t in range(count):
        state = random.random() < (1 - end if state else begin)
        lost[t] = state
    return lost


def transmit(
    levels: np.ndarray, layout: Layout, profile: Profile, lost: np.ndarray, feedback: bool
) -> tuple[list[DecodedFrame], int]:
    """Send levels (T, D) over a link that loses some packets: frames as received, and bytes sent.

    The first packet always arrives: a call does not begin before.
    """
    packing = Packing(1, key_every=30_000 if feedback else KEY_EVERY)
    encoder, decoder = MotionEncoder(layout, profile, packing), MotionDecoder(layout, profile, reorder=0)
    frames: list[DecodedFrame] = []
    reported: list[int] = []
    size = 0
    for t, frame in enumerate(levels):
        if feedback and t in reported:
            encoder.request_key()
        packet = encoder.push(frame)
        assert packet is not None  # one frame a packet
        size += len(bytes(packet))
        if t and lost[t]:
            reported.append(t + ROUND_TRIP)
            continue
        frames += decoder.push(packet)
    held = frames[-1]
    frames += [  # losses at the very end: no later packet tells of them
        DecodedFrame(t, held.levels, held.vector, concealed=True) for t in range(len(frames), len(levels))
    ]
    return frames, size


@dataclass(frozen=True)
class Loss:
    """One kind and rate of loss, how the sender answers it, and how the receiver conceals it.

    Repeating the last keypoints and freezing the picture are one, `hold`: frames after a loss cannot be decoded
    before the next key packet, so that a receiver without a forecast has nothing to show but what it shows.
    """

    bursty: bool
    rate: float
    feedback: bool
    filler: str

    @property
    def curve(self) -> str:
        """`bursty losses, key packets on request`."""
        return f"{'bursty' if self.bursty else 'random'} losses, key packets {self.keys}"

    @property
    def keys(self) -> str:
        """When key packets are sent."""
        return "on request" if self.feedback else f"every {KEY_EVERY}"

    def measure(self, clip: RateClip, stream: Stream) -> Measured:
        """Measure a clip; its distortions also hold `keypoint`, the mean error of the keypoints."""
        layout = stream.layouts[QUALITY]
        levels = quantize(clip.vectors, layout)
        lost = lost_packets(len(levels), self.rate, self.bursty, seed=0)
        frames, size = transmit(levels, layout, stream.profile(layout), lost, self.feedback)
        filled = interpolate(frames) if self.filler == INTERPOLATE else fill(frames, stream.forecasts[self.filler])
        shown = np.stack([frame.vector for frame in filled])
        distortions = clip.compare(clip.draw(shown, PICTURE))
        distortions["keypoint"] = np.abs(shown - clip.vectors).mean(axis=1)
        concealed = sum(frame.concealed for frame in frames)
        facts = {"seconds": clip.seconds, "motion_bytes": size, "frames": len(frames), "concealed": concealed}
        return Measured(distortions, facts)


def loss_settings(fillers: Iterable[str], rates: Iterable[float] = RATES) -> list[Loss]:
    """Return every kind and rate of loss with every answer and concealment; without losses there is one of each."""
    rates, fillers = tuple(rates), (*fillers, INTERPOLATE)
    return [
        Loss(bursty, rate, feedback, name)
        for bursty in (False, True)
        for rate in ((0.0, *rates) if not bursty else rates)
        for feedback in (False, True)
        for name in fillers
        if rate or name == "hold"
    ]


def loss_rows(settings: Sequence[Loss], measured: Mapping[Any, Sequence[Measured]]) -> list[dict[str, Any]]:
    """Return the row of each setting over all clips: distortions, keypoint error, rate."""
    rows = []
    for setting in settings:
        clips = measured[setting]
        seconds, size, frames, concealed = (
            sum(clip.facts[fact] for clip in clips) for fact in ("seconds", "motion_bytes", "frames", "concealed")
        )
        rows.append(
            {
                "loss": setting.rate,
                "kind": "bursty" if setting.bursty else "random",
                "keys": setting.keys,
                "kbps": kbps(size, seconds),
                "concealed": concealed / frames,
                "concealment": setting.filler,
                "distortions": mean_distortions(clips),
            }
        )
    return rows
