"""Single keys of a terminal, without Enter, while an event loop runs."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def terminal_keys(pressed: Callable[[str], object]) -> Iterator[bool]:
    """Call `pressed` with each key while the block runs; yields whether standard input is a terminal that has keys.

    The terminal is as before afterwards. Ctrl-C keeps its effect.
    """
    try:
        import termios
        import tty
    except ModuleNotFoundError:  # Windows
        yield False
        return
    try:
        number = sys.stdin.fileno()
        before = termios.tcgetattr(number)
    except (termios.error, OSError, ValueError, AttributeError):  # no terminal, or no standard input at all
        yield False
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        keys = b""
        with suppress(OSError):
            keys = os.read(number, 64)
        if not keys:  # the terminal is gone
            loop.remove_reader(number)
        for key in keys.decode("ascii", "ignore"):
            pressed(key)

    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield True
    finally:
        loop.remove_reader(number)
        with suppress(termios.error):
            termios.tcsetattr(number, termios.TCSADRAIN, before)
