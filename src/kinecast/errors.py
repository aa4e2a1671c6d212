"""The error raised for a user's mistake, and its form.

A message is one line: what was expected, what was found, and what to do.
"""


class KinecastError(ValueError):
    """A mistake in the user's input: one line: expected, found and the fix. Exit code 1 on the command line."""


class KinecastWarning(UserWarning):
    """Input that was used only in part, such as a truncated clip."""


class ConversionWarning(KinecastWarning):
    """Input that was used in full but converted for display, such as tone-mapped HDR."""


def one_line(error: object, most: int = 600) -> str:
    """Return the beginning of an error's or warning's text on one line; its type if it has no text.

    Libraries write lists, traces and colours over many lines; messages to our users have one.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__
