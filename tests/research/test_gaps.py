"""Losses come as often and in such runs as is asked for; one frame of delay fills what lies between two frames."""

import numpy as np
import pytest

from kinecast.codec.decoder import DecodedFrame
from kinecast.errors import KinecastError
from kinecast.research.gaps import at_rate, lost_packets, one_late


@pytest.mark.parametrize(("loss", "burst"), [(0.1, 1 / 0.9), (0.1, 3.0), (0.3, 5.0)])
def test_losses_are_as_many_and_as_long_as_asked(loss: float, burst: float) -> None:
    gone = lost_packets(200_000, loss, burst, np.random.default_rng(0))
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], gone.astype(int), [0]]))))[::2]
    assert gone.mean() == pytest.approx(loss, rel=0.05) and runs.mean() == pytest.approx(burst, rel=0.05)
    assert not gone[0] and not gone[-1]
    assert not lost_packets(50, 0.0, 1.0, np.random.default_rng(0)).any()


def test_unfit_losses() -> None:
    for loss, burst in ((1.0, 1.0), (-0.1, 1.0), (0.1, 0.5)):
        with pytest.raises(KinecastError, match="losses: expected a share"):
            lost_packets(9, loss, burst, np.random.default_rng(0))


def test_one_frame_of_delay() -> None:
    """Frames 1 (alone), 3 and 4 (together) are lost: the first of the two cannot know what comes after the second."""
    came = {0: 0.0, 2: 4.0, 5: 10.0}
    frames = [
        DecodedFrame(i, np.zeros(1, np.int32), np.array([came.get(i, -1.0)], np.float32), i not in came)
        for i in range(6)
    ]
    assert [float(v[0]) for v in one_late(frames)] == [0, 2, 4, 4, 7, 10]


def test_errors_at_a_rate() -> None:
    curve = [[4.0, 1.0], [1.0, 4.0]]
    assert at_rate(curve, 2.0) == pytest.approx(2.0)  # half way in logarithms
    assert at_rate(curve, 1.0) == pytest.approx(4.0) and np.isnan(at_rate(curve, 0.9)) and np.isnan(at_rate(curve, 5))
