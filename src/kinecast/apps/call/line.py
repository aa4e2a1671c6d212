"""What the line to the other side bears, and how a budget is spent on it.

A message costs the line more than its bytes: headers of IP, UDP, DTLS and SCTP, and an acknowledgement the other way. A
thin line therefore gets few messages of several frames each. What it bears is estimated from what the other side
reports: queueing delay above the least seen, loss, and the rate that came. As in Google congestion control
(draft-ietf-rmcat-gcc), a growing delay cuts the rate to a share of what came, and otherwise the rate grows slowly; loss
alone does so only where it is heavy, since lossy radio links are not made better by sending less.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kinecast.apps.call.config import LEAST_KBPS
from kinecast.apps.call.figures import Rate
from kinecast.apps.call.messages import LineReport

HEADERS = 93  # bytes of IPv4, UDP, DTLS 1.2 (AES-GCM) and SCTP around a message,
ACK = 93  # and of the packet that acknowledges it
MAX_FRAMES = 32  # in a message
_FRAMING = 0.5  # share of a budget that headers and acknowledgements may take,
_MOTION, _PICTURES = 0.25, 0.25  # motion, and pictures in the long run
_PICTURE_S = 0.4  # of the whole line, for one picture: a new scene is to be seen within a second
_LONG_S, _SHORT_S = 0.25, 0.1  # queueing delay of a line that has too much, and of one that has room
_RISE_S = 0.05  # between two reports
_HEAVY = 0.2  # loss
_DRAINING = 6  # reports after a cut: they lag behind by the queues of both ways, which empty slowly
_CUT, _GROWTH = 0.85, 1.15
_HEADROOM = 3.0  # times what came: a rate that is not used is not known to be there
_JAM_S, _JAM_CUT = 1.0, 0.5  # of queueing delay, at which a queue must be emptied, and the share of what came for that
_STARVED_S = 4.0  # without a report: the line may be jammed both ways
_THIN_KBPS = 50.0  # below this every message counts
_KEPT_S = 60.0  # the least transit time is that of so many seconds


@dataclass(frozen=True)
class Plan:
    """How a budget is spent: frames in a message, kbps of motion, bytes of a picture and kbps of all pictures.

    Example:
        >>> Plan.of(10.0, fps=25.0).frames
        8
    """

    frames: int = 1
    motion_kbps: float | None = None
    picture_bytes: int | None = None
    picture_kbps: float | None = None

    @staticmethod
    def of(kbps: float | None, fps: float) -> "Plan":
        """Return the plan of a budget in kbps of whole IP packets; None is no limit."""
        if kbps is None:
            return Plan()
        interval = 8 * (HEADERS + ACK) / (1000 * _FRAMING * kbps)
        frames = min(max(math.ceil(interval * fps), 1), MAX_FRAMES)
        return Plan(frames, _MOTION * kbps, int(125 * kbps * _PICTURE_S), _PICTURES * kbps)


class Transit:
    """The receiver's side: how much longer than the fastest of the last minute messages are on their way.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came: deque[tuple[float, float]] = deque(maxlen=1024)  # when, and transit time plus a constant
        self.received = Rate(clock)  # bytes, headers included

    def begin(self) -> None:
        """Reset for a new connection: the other side's clock may be another."""
        self._came.clear()

    def stamp(self, milliseconds: int) -> None:
        """Take the sender's clock, modulo 2**16 ms, at which a message that comes now was sent."""
        now = self._clock()
        transit = (1000 * now - milliseconds) % 65536 / 1000
        if self._came:  # unwrapped
            transit += 65.536 * round((self._came[-1][1] - transit) / 65.536)
        self._came.append((now, transit))
        while self._came[0][0] < now - _KEPT_S:
            self._came.popleft()

    @property
    def delay(self) -> float:
        """Queueing delay in seconds: the median of the last three messages'."""
        if not self._came:
            return 0.0
        least = min(transit for _, transit in self._came)
        last = sorted(transit for _, transit in list(self._came)[-3:])
        return last[len(last) // 2] - least


class LineEstimate:
    """The sender's side: the rate that the line bears, in kbps of whole IP packets; None as long as no limit was met.

    Args:
        budget: what the user allows, at most.
    """

    def __init__(self, budget: float | None = None) -> None:
        self.budget = budget
        self.estimate: float | None = None
        self._delay, self._told = 0.0, math.inf
        self._draining = 0  # reports for which a queue that was there at a cut may still be

    @property
    def kbps(self) -> float | None:
        """The budget or the estimate, whichever is less."""
        known = [rate for rate in (self.budget, self.estimate) if rate is not None]
        return min(known) if known else None

    @property
    def thin(self) -> bool:
        """Whether signals should wait for a message to go with."""
        return self.kbps is not None and self.kbps < _THIN_KBPS

    def starved(self, now: float, sent_kbps: float, patience: float = 0.0) -> bool:
        """Halve the rate if no report came for so long that the line must be jammed; returns whether it was."""
        self._told = min(self._told, now)
        if now - self._told <= _STARVED_S + patience or not sent_kbps:
            return False
        self._told = now
        self.estimate = max(0.5 * (sent_kbps if self.kbps is None else self.kbps), LEAST_KBPS)
        return True

    def take(self, report: LineReport) -> None:
        """Take a report of the other side."""
        self._told = math.inf  # the next look is from then on
        delay, loss, came = report.delay_ms / 1000, report.share / 255, report.kbps_tenths / 10
        risen, falling = delay - self._delay > _RISE_S, self._delay - delay > _RISE_S
        self._delay = delay
        if delay <= _SHORT_S:
            self._draining = 0
        now = self.kbps
        if delay > _SHORT_S and (self._draining or falling):  # the rate was cut already: its queue is still there
            self._draining = max(self._draining - 1, 0)
        elif delay > _LONG_S or (delay > _SHORT_S and risen):
            self._draining = _DRAINING
            cut = (_JAM_CUT if delay > _JAM_S else _CUT) * came
            least = cut if now is None else min(cut, now)
            self.estimate = max(least, LEAST_KBPS)
        elif now is None:
            return
        elif loss > _HEAVY:
            self.estimate = max(now * (1 - loss / 2), LEAST_KBPS)
        elif delay < _SHORT_S:
            self.estimate = max(now, min(now * _GROWTH, _HEADROOM * came))
