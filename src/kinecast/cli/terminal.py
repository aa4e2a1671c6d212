"""Plain tables and lines on a terminal, printed without markup.

rich reads brackets as markup and words between colons as emoji: of `kinecast[train]` only `kinecast` would be left, and
clip names would be mangled too. Nothing else in kinecast creates a console, a table or a text column.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table


def plain_console(stderr: bool = False) -> Console:
    """Return a console that prints every character unchanged."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def show(
    title: str | None,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: Console | None = None,
    numbers: bool = True,
) -> None:
    """Print a table on stdout.

    Args:
        title: above it, or None.
        header: one name per column.
        rows: texts, one per column.
        console: another `plain_console` to print on.
        numbers: whether the columns after the first are numbers, aligned right.
    """
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and i else "left")
    for row in rows:
        table.add_row(*row)
    (console or plain_console()).print(table)


def text_column(template: str) -> TextColumn:
    """Return a progress bar column from one of rich's templates."""
    return TextColumn(template, markup=False)
