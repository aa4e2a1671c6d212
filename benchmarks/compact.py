"""The compact generator against a plain FOMM's of the same cost a frame, trained by one recipe from the same motion.

Both start from random weights, with the detector and dense motion of one trained model, which stay as they are: only
the design of the generator differs. The plain one is the narrowest that costs at least as much a frame as the compact
one. Milliseconds are of animating one frame, medians of rounds in which all take turns. A second run trains nothing.
benchmarks/backbone_quality.py OUT/compact/model.safetensors OUT/plain/model.safetensors FOLDER measures more.

    python benchmarks/compact.py recipes/face-256.toml face-256 --steps 300 -o runs/compact-or-plain
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import describe, table, write_results

from kinecast import load_backbone
from kinecast.backbones.checkpoints import save_backbone
from kinecast.backbones.fomm import FOMM, FOMMConfig, GeneratorConfig
from kinecast.errors import KinecastError
from kinecast.evaluation.cost import count_macs
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone

PRECISIONS = "exact", "bf16"
ROUNDS = 30


def per_frame(config: FOMMConfig) -> int:
    """Return the products of the generator that each frame takes, the source encoded."""
    macs = count_macs(FOMM(config).eval())
    return macs["generate"] - macs["source only"]


def plain_of_equal_cost(config: FOMMConfig) -> FOMMConfig:
    """Return the narrowest plain generator of the same depth that costs at least as much a frame."""
    compact, wanted = config.generator, per_frame(config)
    for width in range(4, compact.block_expansion + 1):
        part = GeneratorConfig(width, 4 * width, 2, compact.num_bottleneck_blocks)
        if per_frame(plain := replace(config, generator=part)) >= wanted:
            return plain
    raise KinecastError("compact: expected a plain generator of equal cost, found none as narrow: name another recipe")


def motion_alone(trained: FOMM, path: Path) -> None:
    """Write the trained detector and dense motion in a FOMM whose generator fits no other."""
    model = FOMM(replace(trained.config, generator=GeneratorConfig(3, 5, 1, 0)))
    mine = model.state_dict()
    moving = ("kp_detector.", "generator.dense_motion_network.")
    model.load_state_dict({k: v for k, v in trained.state_dict().items() if k.startswith(moving)}, strict=False)
    assert all(k in mine for k in trained.state_dict() if k.startswith(moving))
    save_backbone(model, path, {})


def milliseconds(runs: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return the median time of animating one frame by the `fast` engine, by model and precision."""
    models = {
        (name, precision): load_backbone(run / "model.safetensors", "cpu", "fast", precision)
        for name, run in runs.items()
        for precision in PRECISIONS
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in models}
    states: dict[tuple[str, str], Any] = {}
    for round_ in range(ROUNDS + 3):  # of which the first warm up
        for key, model in models.items():
            if key not in states:
                frame = torch.rand(1, 3, *model.frame_size)
                states[key] = model.encode_source(frame), model.detect(frame)
            state, motion = states[key]
            began = time.perf_counter()
            model.animate(state, motion, motion)
            if round_ >= 3:
                times[key].append(1000 * (time.perf_counter() - began))
    return {name: {p: statistics.median(times[name, p]) for p in PRECISIONS} for name in runs}


def main() -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="of the compact model (.toml)")
    parser.add_argument("motion", help="name or file of the trained model whose motion both take")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of both runs")
    args = parser.parse_args()
    recipe, trained = BackboneTrainingConfig.read(args.recipe), load_backbone(args.motion, "cpu", engine="eager")
    assert isinstance(trained, FOMM) and isinstance(recipe.model, FOMMConfig)
    args.output.mkdir(parents=True, exist_ok=True)
    motion_alone(trained, args.output / "motion.safetensors")
    sizes = {"compact": recipe.model, "plain": plain_of_equal_cost(recipe.model)}
    results: dict[str, Any] = {"machine": describe(), "steps": args.steps, "models": {}}
    rows = []
    for name, model in sizes.items():
        config = replace(
            recipe,
            output=str(args.output / name),
            initialise=str(args.output / "motion.safetensors"),
            model=model,
            steps=args.steps,
            validate_every=args.steps,
            warmup_steps=min(recipe.warmup_steps, args.steps // 10),
            train_motion=False,
        )
        figures = train_backbone(config, lambda line: print(line, file=sys.stderr))
        cost = per_frame(model) / 1e9
        results["models"][name] = {"gmac": cost, "generator": vars(model.generator), **figures}
    for name, taken in milliseconds({name: args.output / name for name in sizes}).items():
        found = results["models"][name] = results["models"][name] | {"ms": taken}
        row = [f"{found['gmac']:.2f}", *(f"{taken[p]:.1f}" for p in PRECISIONS)]
        rows.append([name, *row, *(f"{found[k]:.4f}" for k in ("mae_ratio", "mae", "ssim"))])
    print(table(["generator", "GMAC a frame", "ms exact", "ms bf16", "MAE ratio", "MAE", "SSIM"], rows))
    write_results(args.output / "results.json", results)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
