"""`kinecast benchmark`: models on this machine beside the published tables."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    EngineOption,
    JsonOption,
    LimitOption,
    MeasuredFpsOption,
    PrecisionOption,
    print_json,
    say,
)
from kinecast.cli.outputs import Writes


def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="[LABEL=]BACKBONE[+FORECASTER], names of `kinecast zoo list` or files; may be repeated. "
            f"(default: {DEFAULT_BACKBONE}; with --tables only if --clip is given)",
        ),
    ] = None,
    tables: Annotated[
        bool,
        typer.Option("--tables", help="Add FOMM, TPS and both face-vid2vid of the published sizes, with a VRNN each."),
    ] = False,
    forecaster: Annotated[
        str, typer.Option("--forecaster", help="Forecaster (name or file) for models given without one.")
    ] = "vrnn",
    clip: Annotated[
        Path | None,
        typer.Option("--clip", help="Reconstruct this clip to measure coded rate and error."),
    ] = None,
    fps: MeasuredFpsOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None,
        Writes("folder", folder=True, names=("cost.md", "cost.json")),
        typer.Option("-o", "--output", help="Folder for cost.md and cost.json."),
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", help="Calibrate int8 on the frames of this clip first.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="Number of measurements; the median is reported. (default: 5, tables 1)"),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="Output frames per round, a multiple of 12. (default: 60, tables 12)"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Measure cost as in Tables 11 and 12 of arXiv 2504.05537: seconds, MACs, rate and error.

    Coded rates and errors need trained weights and a --clip of a person not in their training data.
    """
    from kinecast.cli.terminal import show
    from kinecast.research.cost import TIMED_FRAMES
    from kinecast.research.cost_tables import (
        NETWORKS,
        Contender,
        HeldOutClip,
        Timing,
        cost_rows,
        sections,
        write_tables,
    )

    named = model or ([DEFAULT_BACKBONE] if clip or not tables else [])
    chosen = [Contender.parse(each, forecaster) for each in named]
    contenders = [Contender(name) for name in NETWORKS if tables] + chosen
    if calibrate is not None:
        for each in chosen:
            _calibrate(str(each.weights), calibrate)
    timing = Timing(
        device, engine, precision, rounds or (1 if tables else 5), frames or (12 if tables else TIMED_FRAMES)
    )
    machine = _machine(device)
    rows = cost_rows(
        contenders,
        timing,
        None if clip is None else HeldOutClip(clip, fps, limit),
        lambda label, backbone: say(
            f"{label} on {backbone.device}, engine {backbone.engine} {backbone.precision}: {backbone.reason}"
        ),
    )
    found = sections(rows, machine)
    if output is not None:
        write_tables(output, found, rows, machine)
        say(f"wrote cost.md and cost.json to {output}")
    if json:
        print_json({"machine": machine, "rows": rows})
        return
    for table in found:
        show(table.title, table.header, table.rows)
        for note in table.notes:
            print(note)


def _machine(device: str) -> str:
    import torch

    from kinecast.device import choose_device
    from kinecast.machine.processor import processor

    where = choose_device(device)
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"{processor()}, {torch.get_num_threads()} threads" if where.type == "cpu" else f"{processor()}, {where}"


def _calibrate(model: str, clip: Path) -> None:
    from kinecast.media.video import read_batches
    from kinecast.runtime.calibration import calibrate
    from kinecast.zoo import load_backbone

    network = load_backbone(model, "cpu", engine="eager")
    crop = "face" if network.needs_face else "center"
    say(f"calibrated: {calibrate(network, read_batches(clip, network.frame_size, crop, 8, 300))}")
