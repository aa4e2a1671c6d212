"""Imports go only upwards in the table of docs/architecture.md, never in a circle; files and functions are short."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "kinecast"
LONGEST_FILE = 400
LONGEST_FUNCTION = 60  # lines, without signature and docstring
LONGER = {
    "apps/call/exchange.py": "both loops of a call share one state: its connection, counters and faults",
    "apps/call/session.py": "the public methods of a call, most of them a docstring and one line",
    "models/mesh/model.py": "all of the contract of a backbone, whose parts are in files of their own",
    "cli/animate.py animate": "a list of options, passed on by name",
}


class Import(NamedTuple):
    """What a file imports of kinecast, and whether it does so when it is imported itself."""

    file: Path
    line: int
    module: str
    at_once: bool

    @property
    def room(self) -> str:
        return self.module.split(".")[1]


def rooms() -> list[list[str]]:
    """Return the rows of the table from top to bottom: the files and folders of each, without their endings."""
    rows = [line.split("|")[1] for line in (ROOT / "docs/architecture.md").read_text().splitlines() if line[:1] == "|"]
    return [names for row in rows if (names := re.findall(r"`(\w+)(?:\.py|/)`", row))]


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[Import]:
    tree = ast.parse(file.read_text())
    of_types = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = []
        if id(node) in of_types:
            continue
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: expected an absolute import"
            inside = SOURCE.parent / Path(*str(node.module).split("."))
            found = [f"{node.module}.{a.name}" if _is_module(inside / a.name) else str(node.module) for a in node.names]
        for module in dict.fromkeys(found):
            if module.startswith("kinecast."):
                yield Import(file, node.lineno, module, node.col_offset == 0)  # type: ignore[attr-defined]


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_every_room_is_in_the_table() -> None:
    there = {room_of(file) for file in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    named = [name for row in rooms() for name in row]
    assert sorted(named) == sorted(there)


def test_imports_go_upwards() -> None:
    place = {name: number for number, row in enumerate(rooms()) for name in row}
    downwards = []
    for file in sorted(SOURCE.rglob("*.py")):
        here = room_of(file)
        for each in imports(file) if here in place else ():
            if place.get(each.room, -1) > place[here]:
                downwards.append(f"{file.relative_to(SOURCE)}:{each.line} imports {each.module}, which is further down")
    assert not downwards


def test_the_codec_is_of_bytes_and_integers() -> None:
    code = "import importlib, pkgutil, sys, kinecast.codec as codec\n"
    code += "for each in pkgutil.iter_modules(codec.__path__, 'kinecast.codec.'): importlib.import_module(each.name)\n"
    code += "print(*sys.modules.keys() & {'torch', 'av'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_the_command_line_answers_without_torch() -> None:
    code = "import sys, kinecast.cli; print(*sys.modules.keys() & {'torch', 'numpy', 'scipy', 'av', 'skimage'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_no_module_needs_itself_to_be_imported() -> None:
    needs = {}
    for file in SOURCE.rglob("*.py"):
        name = ".".join(("kinecast", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        needs[name] = {each.module for each in imports(file) if each.at_once}
    while ready := [name for name, modules in needs.items() if not modules & needs.keys()]:
        for name in ready:
            del needs[name]
    assert not needs, f"in a circle, or behind one: {', '.join(sorted(needs))}"


def function_lengths(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - first.lineno + 1


def test_files_and_functions_are_short() -> None:
    long = {}
    for file in sorted(SOURCE.rglob("*.py")):
        name = str(file.relative_to(SOURCE))
        if (count := len(file.read_text().splitlines())) > LONGEST_FILE:
            long[name] = count
        long |= {f"{name} {each}": count for each, count in function_lengths(file) if count > LONGEST_FUNCTION}
    unexpected = {name: count for name, count in long.items() if name not in LONGER}
    assert not unexpected, "split these, or give the reason in LONGER"
    gone = [name for name in LONGER if not (SOURCE / name.split()[0]).exists()]
    assert not gone, "remove these from LONGER"
