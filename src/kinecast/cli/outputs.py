"""Outputs of commands: each is checked before any work, by one function around all commands.

A parameter that names an output is marked, `Annotated[Path, Writes(...), typer.Option(...)]`; any other parameter that
names an existing file or folder is treated as an input.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from typer.models import ArgumentInfo

from kinecast.errors import KinecastError
from kinecast.files import (
    CLIP_OUTPUTS,
    GFV_OUTPUTS,
    MOTION_OUTPUTS,
    PICTURE_OUTPUTS,
    REPORT_OUTPUTS,
    STREAM_OUTPUTS,
    TABLE_OUTPUTS,
    WEIGHTS_OUTPUTS,
    check_distinct,
    check_folder,
    check_output,
    kept,
    same_place,
)
from kinecast.files.pipes import STDIN


@dataclass(frozen=True)
class Writes:
    """Marks a parameter that names an output.

    A file with one of the `suffixes`, whose folder may be created; or a `folder`, in which files called `names` are
    written; or, with `or_folder`, a folder if it is one or has no suffix; or either, which the command itself checks.
    """

    what: str
    suffixes: tuple[str, ...] = ()
    folder: bool = False
    folder_is_made: bool = False
    names: tuple[str, ...] = ()
    or_folder: bool = False

    def check(self, path: Path, inputs: list[Path]) -> None:
        """Raise a KinecastError if the output cannot be written or would replace an input."""
        if self.folder or (self.or_folder and (path.is_dir() or not path.suffix)):
            check_folder(path, inputs)
            for name in self.names:
                check_distinct(path / name, inputs)
        elif self.suffixes:
            check_output(path, self.suffixes, self.what, inputs, self.folder_is_made)
        else:
            check_distinct(path, inputs)


_Mark = TypeVar("_Mark")
WRITES_CLIP = Writes("clip", CLIP_OUTPUTS)
WRITES_CLIPS = Writes("clip", CLIP_OUTPUTS, or_folder=True)
WRITES_PICTURE = Writes("picture", PICTURE_OUTPUTS)
WRITES_MOTION = Writes("motion file", MOTION_OUTPUTS)
WRITES_STREAM = Writes("motion stream", STREAM_OUTPUTS + GFV_OUTPUTS)
WRITES_WEIGHTS = Writes("weights file", WEIGHTS_OUTPUTS)
WRITES_TRAINED = Writes("weights file", WEIGHTS_OUTPUTS, folder_is_made=True)
WRITES_REPORT = Writes("report", REPORT_OUTPUTS)
WRITES_TABLE = Writes("table", TABLE_OUTPUTS)
WRITES_FOLDER = Writes("folder", folder=True)
WRITES_EITHER = Writes("motion file or folder")


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with its outputs checked first and its inputs protected while it runs.

    Raises:
        KinecastError: an output cannot be written, is an input, or is named twice.
    """

    @wraps(command)
    def run(**values: Any) -> Any:
        marks, places = marked(command, Writes), marked(command, ArgumentInfo)
        outputs = [(marks[name], Path(value)) for name, value in values.items() if name in marks and value is not None]
        inputs = [path for name in values.keys() - marks.keys() for path in _named(values[name], name in places)]
        for i, (mark, path) in enumerate(outputs):
            mark.check(path, inputs)
            if not mark.folder and any(same_place(path, other) for _, other in outputs[:i]):
                raise KinecastError(f"cannot write {path}: two outputs have this name: rename one")
        with kept(inputs):
            return command(**values)

    return run


def marked(command: Callable[..., Any], kind: type[_Mark]) -> dict[str, _Mark]:
    """Return one kind of marks in a command's parameter annotations, by parameter."""
    hints = get_type_hints(command, include_extras=True)
    metadata = ((name, mark) for name, hint in hints.items() for mark in getattr(hint, "__metadata__", ()))
    return {name: mark for name, mark in metadata if isinstance(mark, kind)}


def _named(value: Any, place: bool) -> Iterator[Path]:
    """Yield the files and folders that a parameter's value names; for option strings, the words that name a file."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _named(each, place)
    elif str(value) == STDIN:
        yield from _named(Path("/dev/stdin"), place)  # perhaps a file, by `<`
    elif isinstance(value, Path) or (isinstance(value, str) and place):
        if os.path.exists(value):  # False for what cannot be a path, such as an invitation
            yield Path(value)
    elif isinstance(value, str):
        words = (value, *re.split(r"[,=+]", value))  # lists of models, LABEL=BACKBONE+FORECASTER
        yield from (Path(word) for word in dict.fromkeys(words) if os.path.isfile(word))
