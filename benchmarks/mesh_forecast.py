"""A forecaster of `mesh` motion against baselines on people whom it was not trained on; people are the unit.

    python benchmarks/mesh_forecast.py runs/mesh-motion direct-mesh -o benchmarks/results/mesh_forecast.json

Baselines are fitted on the training people in the folder (mesh_motion.py). Errors are in motion units, each number over
its mean step from frame to frame in training, so that expressions do not drown the pose.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import evaluation_windows, parse_horizon, training_windows
from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.forecasting.median import sample_median
from kinecast.forecasting.objectives import fair_crps
from kinecast.zoo import forecaster_for
from machine import describe, table, write_results

BASELINES = ("repeat", "velocity", "damped", "climatology")
FEWEST = 36  # frames of a stretch that is used


def scores(
    model: Forecaster, observed: torch.Tensor, truth: torch.Tensor, unit: torch.Tensor, samples: int
) -> dict[str, float]:
    """Return the CRPS and the absolute error of the median, means over windows (W, T, D)."""
    drawn = model.forecast(observed, truth.shape[1], 2 if model.deterministic else samples, seed=0) / unit
    found = {"crps": float(fair_crps(drawn, truth / unit).mean())}
    return found | {"mae": float((sample_median(drawn) - truth / unit).abs().mean())}


def compare(folder: Path, named: list[str], horizons: list[str], samples: int) -> dict[str, Any]:
    """Return scores by horizon, person and forecaster."""
    series = {name: motion for name, motion in load_series(folder).items() if len(motion) >= FEWEST}
    training = {name: motion for name, motion in series.items() if name.startswith("train-")}
    unit = torch.cat([motion.diff(dim=0) for motion in training.values()]).abs().mean(dim=0)
    results: dict[str, Any] = {"training_people": len({name.split("-")[1] for name in training}), "horizons": {}}
    for text in horizons:
        horizon = parse_horizon(text)
        models: dict[str, Forecaster] = {}
        for name in BASELINES:
            models[name] = build_forecaster(name, len(unit))
            models[name].fit(training_windows(training, horizon).frames, horizon.observed)
        models |= {Path(name).stem: forecaster_for(name, len(unit), "cpu") for name in named}
        people: dict[str, Any] = {}
        for person in sorted({name.split("-")[1] for name in series if name.startswith("validate-")}):
            own = {name: motion for name, motion in series.items() if name.startswith(f"validate-{person}-")}
            windows = evaluation_windows(own, horizon)
            people[person] = {
                name: scores(model, windows.observed, windows.truth, unit, samples) for name, model in models.items()
            }
        results["horizons"][text] = people
    return results


def page(results: dict[str, Any]) -> str:
    """Return a table of means and standard deviations over people, and of how many are better than damped velocity."""
    rows = []
    for horizon, people in results["horizons"].items():
        for name in next(iter(people.values())):
            cells = []
            for score in ("mae", "crps"):
                values = [each[name][score] for each in people.values()]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
            for score, other in (("mae", "damped"), ("crps", "climatology")):
                better = sum(each[name][score] < each[other][score] for each in people.values())
                cells.append(f"{better} of {len(people)}" if name != other else "")
            rows.append([f"{horizon} {name}", *cells])
    return table(["", "MAE of median", "CRPS", "MAE below damped", "CRPS below climatology"], rows)


def main() -> None:
    """Read the options, score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path)
    parser.add_argument("forecasters", nargs="+", help="names or files")
    parser.add_argument("--horizons", nargs="+", default=["6-6", "12-12"])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = describe()
    with torch.inference_mode():
        results = compare(options.motion, options.forecasters, options.horizons, options.samples)
    print(page(results))
    write_results(options.output, {"about": about, "samples": options.samples, **results})


if __name__ == "__main__":
    main()
