"""Lost packets: what a receiver shows, by how it conceals, at random and bursty loss.

One packet a frame. The sender either sends a key packet every tenth frame, or learns of each loss after a round trip
and then sends one: what calls do. Rates are of packets without IP and UDP headers.

Letters: T frames, D numbers a frame.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from kinecast.codec import DecodedFrame, Layout, MotionDecoder, MotionEncoder, Packing, Profile, quantize
from kinecast.codec.filling import INTERPOLATE, fill, interpolate
from kinecast.evaluation.distortions import summary
from kinecast.evaluation.rate_clips import RateClip
from kinecast.evaluation.rate_distortion import PICTURE, QUALITY, Progress, Stream

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
    told: list[int] = []
    size = 0
    for t, frame in enumerate(levels):
        if feedback and t in told:
            encoder.request_key()
        packet = encoder.push(frame)
        assert packet is not None  # one frame a packet
        size += len(bytes(packet))
        if t and lost[t]:
            told.append(t + ROUND_TRIP)
            continue
        frames += decoder.push(packet)
    held = frames[-1]
    frames += [  # losses at the very end: no later packet tells of them
        DecodedFrame(t, held.levels, held.vector, concealed=True) for t in range(len(frames), len(levels))
    ]
    return frames, size


def losses(
    clips: Sequence[RateClip],
    stream: Stream,
    rates: Iterable[float] = RATES,
    seeds: int = 1,
    progress: Progress = lambda stage, frames: None,
) -> list[dict[str, Any]]:
    """Return a row for each kind and rate of loss, feedback, and concealment: distortions, keypoint error, rate.

    Repeating the last keypoints and freezing the picture are one row, `hold`: frames after a loss cannot be decoded
    before the next key packet, so that a receiver without a forecast has nothing to show but what it shows.
    """
    layout = stream.layouts[QUALITY]
    profile = stream.profile(layout)
    fillers: dict[str, Callable[[list[DecodedFrame]], Iterable[DecodedFrame]]] = {
        name: lambda frames, f=f: fill(frames, f)  # type: ignore[misc]
        for name, f in stream.forecasts.items()
    }
    fillers[INTERPOLATE] = interpolate
    rows = []
    for bursty in (False, True):
        for rate in (0.0, *rates) if not bursty else rates:
            for feedback in (False, True):
                received = []
                for clip in clips:
                    levels = quantize(clip.vectors, layout)
                    for seed in range(seeds):
                        lost = lost_packets(len(levels), rate, bursty, seed)
                        received.append((clip, *transmit(levels, layout, profile, lost, feedback)))
                seconds = sum(clip.seconds for clip, _, _ in received)
                common = {
                    "loss": rate,
                    "kind": "bursty" if bursty else "random",
                    "keys": "on request" if feedback else f"every {KEY_EVERY}",
                    "kbps": sum(size for _, _, size in received) * 8 / seconds / 1000,
                    "concealed": float(np.mean([f.concealed for _, frames, _ in received for f in frames])),
                }
                for name, filler in fillers.items():
                    if rate == 0 and name != "hold":
                        continue
                    values = []
                    for clip, frames, _ in received:
                        shown = np.stack([frame.vector for frame in filler(frames)])
                        one = clip.compare(clip.draw(shown, PICTURE))
                        one["keypoint"] = np.abs(shown - clip.vectors).mean(axis=1)
                        values.append(one)
                        progress("losses", len(shown))
                    found = summary(values) | {
                        "keypoint": float(np.concatenate([v["keypoint"] for v in values]).mean())
                    }
                    rows.append(common | {"concealment": name, "distortions": found})
    return rows
