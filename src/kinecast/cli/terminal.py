"""What is printed on a terminal: tables and lines, as they are.

rich reads brackets as markup and words between colons as pictures: of `kinecast[train]` only `kinecast` would be left,
and of a clip's name less than its name. Nothing else in kinecast makes a console, a table or a column of text.
"""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table


def plain_console(stderr: bool = False) -> Console:
    """Return a console that prints every character that it is given."""
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
        header: a name a column.
        rows: texts, one a column.
        console: of `plain_console`; where to print instead.
        numbers: whether the columns after the first are numbers, which stand at the right.
    """
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if numbers and i else "left")
    for row in rows:
        table.add_row(*row)
    (console or plain_console()).print(table)


def text_column(template: str) -> TextColumn:
    """Return a column of a progress bar, of a template of rich."""
    return TextColumn(template, markup=False)
