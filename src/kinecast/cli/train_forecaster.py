"""`kinecast train forecaster`: train a forecaster on your own motion, of any kind and dimension."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DeviceOption, JsonOption, SeedOption, print_json, say
from kinecast.cli.outputs import WRITES_TRAINED


def train_forecaster(
    data: Annotated[Path, typer.Option("--data", help="Folder of motion files, or one .npz / .npy of (T, D) arrays.")],
    output: Annotated[Path, WRITES_TRAINED, typer.Option("-o", "--output", help="Output weights (.safetensors).")],
    model: Annotated[str, typer.Option("--model", help="gru, vrnn, damped, climatology, ...")] = "vrnn",
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="kinecast (ours), paper (as printed), released, ... (default: kinecast)"),
    ] = None,
    horizon: Annotated[str, typer.Option("--horizon", help="N-H: observe N frames, forecast H.")] = "12-12",
    option: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE in the model's config; may be repeated.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps. (default: 400)")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Windows per step. (default: 24)")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Learning rate of Adam. (default: 0.002)")
    ] = None,
    amplitude: Annotated[
        float | None,
        typer.Option("--amplitude", help="Sigma of the random factor on each window's motion. (default: 0.5)"),
    ] = None,
    stride: Annotated[int, typer.Option("--stride", help="Frames between the starts of training windows.")] = 1,
    every: Annotated[
        list[int] | None,
        typer.Option("--every", help="Windows of every k-th frame; repeat for several rates. (default: 1)"),
    ] = None,
    validate: Annotated[
        str | None, typer.Option("--validate", help="Regular expression for people to hold out and score at the end.")
    ] = None,
    early_stop: Annotated[
        str | None,
        typer.Option("--early-stop", help="Regular expression for people whose score selects the best step."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            "--person", help="Regular expression whose group matches the person in a clip's name. (default: id…_)"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Resume an interrupted run.")] = True,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train a forecaster on motion series. Run the same command again to resume after an interruption.

    Also writes a .json (config, seeds, scores of held-out people) and, while running, a .ckpt.
    """
    from kinecast.data.keypoint_store import load_series
    from kinecast.data.windows import parse_horizon
    from kinecast.device import choose_device
    from kinecast.files import make_folder
    from kinecast.forecasting import forecaster_class
    from kinecast.forecasting.storage import save_forecaster
    from kinecast.training.forecaster import ForecasterTrainingConfig, save_run, train_forecaster

    observed, ahead = parse_horizon(horizon)
    rates = tuple(every or (1,))
    given: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "person": person,
        "amplitude": amplitude,
    }
    config = ForecasterTrainingConfig(
        model=model,
        preset=preset,
        overrides=forecaster_class(model).config_type.parse(option or []),
        observed=observed,
        forecast=ahead,
        stride=stride,
        every=rates[0],
        also_every=rates[1:],
        validate=validate,
        early_stop=early_stop,
        seed=seed,
        device=str(choose_device(device)),
        **{name: value for name, value in given.items() if value is not None},
    )
    series = load_series(data)
    make_folder(output.parent)
    checkpoint = output.with_suffix(".ckpt")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    say(f"{model} on {config.device}")
    result = train_forecaster(series, config, checkpoint, say)
    about = {"data": str(data), "horizon": horizon, "steps": result.steps, "seed": seed, "kept_out": validate}
    save_forecaster(result.model, output, about | {"figures": result.figures})
    save_run(output.with_suffix(".json"), config, result)
    checkpoint.unlink(missing_ok=True)
    if json:
        print_json({"steps": result.steps, "seconds": result.seconds, **result.figures})
    figures = "  ".join(f"{name} {value:.5f}" for name, value in result.figures.items())
    say(f"wrote {output} after {result.steps} steps, {result.seconds:.0f} s  {figures}".rstrip())
