"""`kinecast forecast`: replace every second block of a motion file by its forecast."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DeviceOption, JsonOption, SeedOption, print_json, say
from kinecast.cli.outputs import WRITES_MOTION
from kinecast.errors import KinecastError


def forecast(
    motion: Annotated[Path, typer.Argument(help="Motion file of `kinecast extract` (.npz).")],
    output: Annotated[
        Path,
        WRITES_MOTION,
        typer.Option("-o", "--output", help="Output motion file; with several samples, numbered files."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Forecaster: a name of `kinecast zoo list`, repeat, velocity, or a file.")
    ] = "vrnn",
    horizon: Annotated[str, typer.Option("--horizon", help="N-H: observe N frames, forecast H.")] = "12-12",
    samples: Annotated[int, typer.Option("--samples", help="Samples to draw.")] = 1,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Forecast every second block of a motion file from the block before it, and report the errors."""
    from kinecast.apps.pipeline import forecast_motion
    from kinecast.data.windows import parse_horizon
    from kinecast.files import MOTION_OUTPUTS, check_output
    from kinecast.motion import Motion
    from kinecast.zoo import forecaster_for

    observed, ahead = parse_horizon(horizon)
    if samples < 1:
        raise KinecastError(f"samples: expected at least 1, found {samples}")
    outputs = [check_output(path, MOTION_OUTPUTS, "motion file", [motion]) for path in numbered(output, samples)]
    true = Motion.load(motion).evenly_timed()
    forecaster = forecaster_for(model, true.dim, device)
    say(f"{model} on {forecaster.device}")
    futures, mask = forecast_motion(true, forecaster, observed, ahead, samples, seed)
    for path, future in zip(outputs, futures, strict=True):
        future.save(path)
    figures: dict[str, Any] = {
        "forecaster": forecaster.name,
        "horizon": horizon,
        "samples": samples,
        "frames": len(true),
        "forecast_frames": int(mask.sum()),
        **_errors(true, futures, observed, ahead),
    }
    if json:
        print_json(figures)
    say(
        f"wrote {len(futures)} future{'s' * (len(futures) > 1)} of {figures['forecast_frames']} of {len(true)} frames: "
        f"MAE {figures['mae']:.4f} (repeating the last frame {figures['mae_repeat_last']:.4f})"
    )


def numbered(output: Path, count: int) -> list[Path]:
    """Return the output's name, or `name-01.npz`, `name-02.npz`, ... for several."""
    if count == 1:
        return [output]
    digits = max(2, len(str(count)))
    return [output.with_stem(f"{output.stem}-{i:0{digits}d}") for i in range(1, count + 1)]


def _errors(true: Any, futures: Any, observed: int, ahead: int) -> dict[str, float]:
    """Errors of the forecast frames in raw motion units: samples' median, and repeating the last frame."""
    import torch

    from kinecast.forecasting.median import sample_median
    from kinecast.forecasting.objectives import fair_crps

    window = observed + ahead
    whole = len(true) // window * window
    stacked = torch.stack([future.vectors()[:whole] for future in futures]).unflatten(1, (-1, window))
    sampled, truth = stacked[:, :, observed:], true.vectors()[:whole].unflatten(0, (-1, window))
    last, truth = truth[:, observed - 1 : observed], truth[:, observed:]
    errors = {
        "mae": float((sample_median(sampled) - truth).abs().mean()),
        "mae_repeat_last": float((last - truth).abs().mean()),
    }
    return errors | ({"crps": float(fair_crps(sampled, truth).mean())} if len(futures) > 1 else {})
