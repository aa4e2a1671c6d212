"""`kinecast benchmark`: this machine beside the published tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DEFAULT_BACKBONE, JsonOption, ModelOption, print_json, say


def benchmark(
    model: ModelOption = DEFAULT_BACKBONE,
    forecaster: Annotated[str, typer.Option("--forecaster", help="Name or file of a forecaster.")] = "vrnn",
    engine: Annotated[str, typer.Option("--engine", help="auto, eager, fast or openvino.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="exact, bf16 or int8: the least wanted.")] = "exact",
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", help="Calibrate int8 on the frames of this clip first.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times to measure; the median counts.")] = 5,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Measure this machine in the terms of the published Tables 11 and 12 (arXiv 2504.05537)."""
    import torch

    from kinecast.engine.machine import processor
    from kinecast.evaluation.cost import cost_table
    from kinecast.zoo import forecaster_for, load_backbone

    if calibrate is not None:
        _calibrate(model, calibrate)
    backbone = load_backbone(model, device, engine, precision)
    say(f"{model} on {backbone.device}, engine {backbone.engine} {backbone.precision}: {backbone.reason}")
    found = cost_table(backbone, forecaster_for(forecaster, backbone.motion_dim, device), rounds)
    found = {
        "model": model,
        "forecaster": forecaster,
        "machine": processor() if backbone.device.type == "cpu" else torch.cuda.get_device_name(backbone.device),
        "threads": torch.get_num_threads(),
        **found,
    }
    if json:
        print_json(found)
    else:
        _print(found)


def _calibrate(model: str, clip: Path) -> None:
    from kinecast.engine.calibration import calibrate
    from kinecast.video import read_batches
    from kinecast.zoo import load_backbone

    network = load_backbone(model, "cpu", engine="eager")
    say(f"calibrated: {calibrate(network, read_batches(clip, network.frame_size, 'center', 8, 300))}")


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from kinecast.evaluation.cost import FPS, FRAMES, HORIZON, OBSERVED, PUBLISHED

    console = Console()
    seconds, tops, size = found["seconds_30_frames"], found["tops"], "x".join(map(str, found["frame_size"]))
    title = f"{FRAMES} frames in the {OBSERVED}-{HORIZON} pattern, seconds (Tables 11, 12 of arXiv 2504.05537)"
    table = Table("model, machine", "detect", "forecast", "generate", "total", "fps", title=title, title_justify="left")
    mine = f"{found['model']} {size}, {found['machine']}, {found['threads']} threads"
    stages = [seconds[stage] for stage in ("extract", "forecast", "generate", "total")]
    table.add_row(mine, *(f"{value:.4f}" for value in stages), f"{found['fps']:.1f}")
    for row in PUBLISHED:
        published = (row.extract_s, row.forecast_s, row.generate_s, row.total_s)
        table.add_row(f"{row.model} 256x256, RTX 3090", *(f"{value:.4f}" for value in published), f"{row.fps:.1f}")
    console.print(table)
    table = Table(
        "model", "detect", "generate", "total", "saving vs 500 kbps", title=f"TOPS at {FPS} fps, as published"
    )
    table.add_row(
        mine, *(f"{tops[stage]:.4f}" for stage in ("extract", "generate", "total")), f"{found['saving']:.2f} x"
    )
    for row in PUBLISHED:
        shares = (row.extract_tops, row.generate_tops, row.total_tops)
        table.add_row(row.model, *(f"{value:.4f}" for value in shares), f"{row.saving:.2f} x")
    console.print(table)
    macs = ", ".join(f"{stage} {count / 1e9:.3f}" for stage, count in found["macs"].items())
    console.print(f"GMAC a frame: {macs}; {found['kbps']:.1f} kbps by the published accounting", highlight=False)
