"""What the subcommands share: common options, progress and output."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print results as JSON on standard output.")]
ModelOption = Annotated[str, typer.Option("--model", help="Backbone: a name of `kinecast zoo list`, or a file.")]
CropOption = Annotated[str, typer.Option("--crop", help="center, face or none.")]
FaceOption = Annotated[
    int | None,
    typer.Option("--face", help="Crop around this face: 1 is the leftmost. (default, with --crop face: the largest)"),
]
FpsOption = Annotated[
    float | None,
    typer.Option(
        "--fps", help="Resample to a constant frame rate; for pictures, their rate. (default: original times)"
    ),
]
TrueFpsOption = Annotated[
    float | None, typer.Option("--true-fps", help="True frame rate, if the file's timestamps are wrong.")
]
# For commands that measure: they never resample, and --fps has long been their name for this.
MeasuredFpsOption = Annotated[
    float | None, typer.Option("--true-fps", "--fps", help="True frame rate, if the file's timestamps are wrong.")
]
EngineOption = Annotated[str, typer.Option("--engine", help="auto, eager, fast or openvino.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Minimum precision: exact (float32), bf16 or int8.")]
StripOption = Annotated[bool, typer.Option("--strip", help="The clip is one picture of square frames side by side.")]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Maximum number of frames.")]

DEFAULT_BACKBONE = "face-128"


def clip_named(path: Path, strip: bool) -> str | Path:
    """Return a clip's path for the readers, with its `StripOption` applied."""
    from kinecast.media.video import Strip

    return Strip(path) if strip else path


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the fields of its dataclass parameters as options of their own, in their place."""
    groups: dict[str, Any] = {}
    options: list[Parameter] = []
    for each in signature(command, eval_str=True).parameters.values():
        if is_dataclass(each.annotation):
            groups[each.name] = each.annotation
            options += signature(groups[each.name], eval_str=True).parameters.values()
        else:
            options.append(each)

    @wraps(command)
    def run(**values: Any) -> None:
        made = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**made, **values)

    run.__signature__ = Signature([each.replace(kind=Parameter.KEYWORD_ONLY) for each in options])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in options}
    return run


def say(text: str) -> None:
    """Print a status line on stderr: stdout is for results."""
    print(text, file=sys.stderr)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(values, indent=2))


def load_model(name: str, device: str, engine: str = "auto", precision: str = "exact") -> Any:
    """Load a backbone and report its device."""
    from kinecast.zoo import load_backbone

    model = load_backbone(name, device, engine, precision)
    say(f"{name} on {model.device}, engine {model.engine} {model.precision}: {model.reason}")
    return model


@contextmanager
def progress(unit: str = "frames") -> Iterator[Callable[[str, int], None]]:
    """Show progress by stage on a terminal; print nothing elsewhere. Yields the callback of `apps.pipeline`."""
    if not sys.stderr.isatty():
        yield lambda stage, frames: None
        return
    from rich.progress import Progress, SpinnerColumn, TaskID, TimeElapsedColumn

    from kinecast.cli.terminal import plain_console, text_column

    columns = (
        SpinnerColumn(),
        text_column("{task.description}"),
        text_column("{task.completed:.0f} " + unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=plain_console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, frames: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None)
            bar.advance(tasks[stage], frames)

        yield update
