"""The one error that a user's mistake raises, and how it is written.

A message is one line: what was expected, what was found, and what to do.
"""


class KinecastError(ValueError):
    """A mistake in the user's input: one line: expected, found and the fix. Exit code 1 on the command line."""


class KinecastWarning(UserWarning):
    """Input that was used, but not in full (a clip that is cut off, say)."""


class ConversionWarning(KinecastWarning):
    """Input that was used in full, but had to be changed to be shown (HDR that was tone mapped, say)."""


def one_line(error: object, most: int = 600) -> str:
    """Return what an error or a warning says on one line, its first characters; its kind where it says nothing.

    Libraries write lists, traces and colours of many lines; ours to a user are one.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
