"""What is printed is what was given: brackets and colons are no markup."""

import ast
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.progress import Task
from rich.text import Text

from kinecast.cli import app, main
from kinecast.cli.terminal import plain_console, show, text_column

SOURCE = Path(__file__).parents[2] / "src/kinecast"
ODD = "pip install 'kinecast[train]' [/] [red] a:smile:b"


def printed(monkeypatch: pytest.MonkeyPatch) -> tuple[Console, io.StringIO]:
    console, file = plain_console(), io.StringIO()
    console.file = file
    monkeypatch.setattr(console, "_width", 200)
    return console, file


def test_tables_and_lines_are_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    console, file = printed(monkeypatch)
    show(ODD, (ODD, "figure"), [(ODD, ODD)], console)
    console.print(ODD)
    assert file.getvalue().count(ODD) == 5
    task = Task(0, ODD, None, 0, _get_time=lambda: 0.0)  # type: ignore[arg-type]
    assert text_column("{task.description}").render(task).plain == ODD


def test_nothing_else_makes_consoles_and_tables() -> None:
    makers = {"Console", "Table", "TextColumn", "from_markup"}
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path.name != "terminal.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in makers
    ]
    assert not found


def texts(command: object, path: str) -> Iterator[tuple[str, str]]:
    yield path, getattr(command, "help", None) or ""
    for parameter in getattr(command, "params", ()):
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    for name, each in getattr(command, "commands", {}).items():
        yield from texts(each, f"{path} {name}")


def test_no_help_text_holds_markup() -> None:
    """typer reads help as markup of rich: a bracket that is taken for a tag would be missing on the screen."""
    found = dict(texts(typer.main.get_command(app), "kinecast"))
    assert len(found) > 100
    assert [path for path, text in found.items() if Text.from_markup(text).plain != text] == []


def test_doctor_names_every_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    from kinecast.packages import EXTRAS

    monkeypatch.setenv("COLUMNS", "200")
    for extra, packages in EXTRAS.items():
        with monkeypatch.context() as without:
            without.setitem(sys.modules, packages[-1].modules[0], None)
            assert main(["doctor"]) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if f" extra {extra} " in line]
        assert f"not installed: {packages[-1].name}: pip install 'kinecast[{extra}]'" in row
