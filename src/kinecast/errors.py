"""The one error that a user's mistake raises, and how it is written.

A message is one line: what was expected, what was found, and what to do.
"""


class KinecastError(ValueError):
    """A mistake in the user's input: one line: expected, found and the fix. Exit code 1 on the command line."""


class KinecastWarning(UserWarning):
    """Input that was used, but not in full (a clip that is cut off, say)."""


class ConversionWarning(KinecastWarning):
    """Input that was used in full, but had to be changed to be shown (HDR that was tone mapped, say)."""
