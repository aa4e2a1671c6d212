"""What fails in a call is counted, said, and passed over: one bad frame, picture or message never ends it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from kinecast.errors import KinecastError, one_line

_LASTING_S = 3.0  # of failures alone, and
_LASTING = 5  # as many in a row: this is not one bad frame
_AGAIN_S = 10.0  # between lines
_PAUSE_S = 0.05  # after a step that failed: one that fails at once must not take a whole core


class Faults:
    """Failures of one kind.

    The first is told as a notice, with its reason, and later ones seldom. Where nothing has worked for three seconds
    that is told once, as an error, with the reason of the last.

    Args:
        one: what is told of one of them: "a camera frame was passed over".
        lasting: and of nothing else for a while: "no camera frame can be sent".
        tell: is given a kind ("notice" or "error") and a line.
        clock: seconds, steady.
    """

    def __init__(
        self, one: str, lasting: str, tell: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._one, self._lasting, self._tell, self._clock = one, lasting, tell, clock
        self.total = 0
        self._row = 0  # failures since something worked
        self._since = 0.0  # when the first of them was
        self._told = False  # that it lasts
        self._said: float | None = None

    def failed(self, error: Exception) -> None:
        """Count a failure and tell of it, if it is time."""
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
        """Take note that it worked."""
        if self._told:
            self._tell("notice", "it works again")
        self._row, self._told = 0, False


async def repeat(step: Callable[[], Awaitable[None]], faults: Faults) -> None:
    """Repeat a step until cancelled. One that fails is counted and said, and the next one follows."""
    while True:
        try:
            await step()
        except Exception as error:  # of whatever kind
            faults.failed(error)
            await asyncio.sleep(_PAUSE_S)


def reason_of(error: Exception) -> str:
    """Return what an error says, on one line; of an error that is not the user's, its kind too."""
    line = one_line(error, 200)
    return line if isinstance(error, KinecastError) else f"{type(error).__name__}: {line}"
