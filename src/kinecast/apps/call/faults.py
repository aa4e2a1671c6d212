"""Failures in a call are counted, reported and skipped: one bad frame, picture or message never ends it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from kinecast.errors import KinecastError, one_line

_LASTING_S = 3.0  # of uninterrupted failures,
_LASTING = 5  # and this many in a row
_AGAIN_S = 10.0  # between lines
_PAUSE_S = 0.05  # pause after a failed step: one that fails at once must not occupy a whole core


class Faults:
    """Failures of one kind.

    The first is reported as a notice with its reason, later ones rarely. If nothing has worked for three seconds, that
    is reported once, as an error with the last reason.

    Args:
        one: report of a single failure: "a camera frame was skipped".
        lasting: report of lasting failure: "no camera frame can be sent".
        tell: called with a kind ("notice" or "error") and a line.
        clock: monotonic seconds.
    """

    def __init__(
        self, one: str, lasting: str, tell: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._one, self._lasting, self._tell, self._clock = one, lasting, tell, clock
        self.total = 0
        self._row = 0  # failures since the last success
        self._since = 0.0  # time of the first of them
        self._told = False  # whether the lasting failure was reported
        self._said: float | None = None

    def failed(self, error: Exception) -> None:
        """Count a failure and report it if due."""
        now = self._clock()
        self.total += 1
        self._row += 1
        if self._row == 1:
            self._since = now
        if self._row >= _LASTING and now - self._since >= _LASTING_S:
            if not self._told:
                self._told = True
                self._tell("error", f"{self._lasting}: {reason_of(error)}")
        elif self._said is None or now - self._said >= _AGAIN_S:
            self._said = now
            self._tell("notice", f"{self._one}: {reason_of(error)}")

    def worked(self) -> None:
        """Record a success."""
        if self._told:
            self._tell("notice", "it works again")
        self._row, self._told = 0, False


async def repeat(step: Callable[[], Awaitable[None]], faults: Faults) -> None:
    """Repeat a step until cancelled. A failed step is counted and reported, and the next one follows."""
    while True:
        try:
            await step()
        except Exception as error:  # of whatever kind
            faults.failed(error)
            await asyncio.sleep(_PAUSE_S)


def reason_of(error: Exception) -> str:
    """Return an error's text on one line, with its type if it is not the user's."""
    line = one_line(error, 200)
    return line if isinstance(error, KinecastError) else f"{type(error).__name__}: {line}"
