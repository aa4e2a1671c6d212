"""Gaps in a stream of motion, for studies: which packets are lost, and what one frame of delay makes of it.

Notation: D numbers per frame.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from kinecast.codec.decoder import DecodedFrame
from kinecast.errors import KinecastError


def lost_packets(count: int, loss: float, burst: float, random: np.random.Generator) -> np.ndarray:
    """Return which packets are lost, (count,) bool: a share in runs of a mean length, never the first or the last.

    A chain of two states (Gilbert 1960, Bell System Technical Journal 39): `loss` is the share of packets that are lost
    in the long run, `burst` how many in a row in the mean: 1 / (1 - loss) where losses are independent, 1 where each is
    alone.

    Raises:
        KinecastError: a share outside [0, 1), or runs shorter than 1.
    """
    if not 0 <= loss < 1 or burst < 1:
        raise KinecastError(f"losses: expected a share from 0 to below 1 and runs of at least 1, found {loss}, {burst}")
    back = 1 / burst  # chance that a run ends
    start = back * loss / (1 - loss)  # chance that one begins
    gone, lost = np.zeros(count, bool), False
    for i in range(1, count - 1):
        lost = random.random() < (start if not lost else 1 - back)
        gone[i] = lost
    return gone


def one_late(frames: Sequence[DecodedFrame]) -> Iterator[np.ndarray]:
    """Yield what is shown (D,) with one frame of delay: a frame that did not come is half way to the next that came.

    Where the very next did not come either, what was shown last is held: at that moment nothing later is known.
    """
    last = frames[0].vector
    for i, frame in enumerate(frames):
        if not frame.concealed:
            last = frame.vector
        elif i + 1 < len(frames) and not frames[i + 1].concealed:
            last = (last + frames[i + 1].vector) / 2
        yield last


def at_rate(curve: Sequence[Sequence[float]], kbps: float) -> float:
    """Return a curve's error at a rate, between its points on the straight line of logarithms; NaN outside them."""
    rates, errors = np.array(sorted(map(tuple, curve))).T
    if not rates[0] <= kbps <= rates[-1]:
        return float("nan")
    return float(np.exp(np.interp(np.log(kbps), np.log(rates), np.log(errors))))
