"""An event loop in which time passes only while nothing is to be done, so that a test decides what comes when.

What runs in an executor runs at once and takes as long as the loop was told that it takes.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Waits for nothing; `passed` is told how long it would have waited."""

    passed: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing will ever happen: the test hangs"
            self.passed(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """`takes` are the seconds of each call in an executor."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes = 1000.0, takes
        selector = _Selector()
        selector.passed = self._pass
        super().__init__(selector)

    def _pass(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()
        try:
            outcome, done = func(*args), future.set_result
        except Exception as error:
            outcome, done = error, future.set_exception
        self.call_later(self.takes, lambda: None if future.cancelled() else done(outcome))
        return future


def run_virtually(work: Callable[[VirtualLoop], Coroutine[Any, Any, Any]], takes: float) -> Any:
    """Run a coroutine, given the loop, in virtual time."""
    loop = VirtualLoop(takes)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(work(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
