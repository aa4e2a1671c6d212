"""Ctrl-C and SIGTERM as an event, for programs that end gracefully."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_stop(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` on either signal while the block runs; the previous handlers are restored after it.

    If an event loop cannot handle signals (Windows, or not the main thread) they keep their usual effect.
    """
    loop = asyncio.get_running_loop()
    for number in _NUMBERS:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _NUMBERS:
            with suppress(NotImplementedError, ValueError, RuntimeError):
                loop.remove_signal_handler(number)
