"""The compact design against a plain FOMM of the same cost a frame, both trained by the same recipes.

Whole networks from random weights: the plain one has the published proportions (detector half as wide as the rest, five
blocks in each hourglass, a map of the Jacobian for each keypoint) and is the narrowest that costs at least as much a
frame, the source encoded. Recipes are stages: each begins with what the one before has learned, and the last one names
the compact design. With --motion only the generators differ: both take a trained model's detector and dense motion,
which stay as they are. Every run goes on from its last checkpoint, and a second one trains nothing; --only lets two
processes train one each. Milliseconds are of rounds in which all take turns.
benchmarks/backbone_quality.py OUT/compact.safetensors OUT/plain.safetensors FOLDER measures more.

    python benchmarks/compact.py recipes/face-128.toml:1600 recipes/face-256.toml:100 -o runs/compact
    python benchmarks/compact.py recipes/face-256.toml:200 --motion face-256 -o runs/compact-generator
"""

import argparse
import shutil
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import describe, table, write_results

from kinecast import load_backbone
from kinecast.errors import KinecastError
from kinecast.models.checkpoints import save_backbone
from kinecast.models.fomm import FOMM, FOMMConfig, GeneratorConfig, HourglassConfig
from kinecast.research.cost import count_macs
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone

PRECISIONS = "exact", "bf16"
ROUNDS = 30


def per_frame(config: FOMMConfig, whole: bool) -> int:
    """Return the products that each frame takes, of the network or of its generator, the source encoded."""
    macs = count_macs(FOMM(config).eval())
    parts = ("detect", "dense motion", "generate") if whole else ("generate",)
    return sum(macs[part] for part in parts) - macs["source only"]


def plain_of_equal_cost(config: FOMMConfig, whole: bool) -> FOMMConfig:
    """Return the narrowest plain FOMM, or one with a plain generator, that costs at least as much a frame."""
    wanted = per_frame(config, whole)
    for width in range(4, 65):
        part = GeneratorConfig(width, 8 * width, 2, config.generator.num_bottleneck_blocks)
        plain = replace(config, generator=part)
        if whole:
            dense_motion = HourglassConfig(width, 5, 16 * width, config.dense_motion.scale_factor)
            detector = HourglassConfig(width // 2, 5, 16 * width, config.detector.scale_factor)
            plain = replace(plain, single_jacobian_map=False, detector=detector, dense_motion=dense_motion)
        if per_frame(plain, whole) >= wanted:
            return plain
    raise KinecastError("compact: expected a plain FOMM of equal cost, found none of width 64: name another recipe")


def resized(config: FOMMConfig, to: FOMMConfig) -> FOMMConfig:
    """Return the same widths at another stage's frame size and scales."""
    scaled = {
        part: replace(getattr(config, part), scale_factor=getattr(to, part).scale_factor)
        for part in ("detector", "dense_motion")
    }
    return replace(config, frame_size=to.frame_size, **scaled)


def motion_alone(trained: FOMM, path: Path) -> None:
    """Write the trained detector and dense motion in a FOMM whose generator fits no other."""
    model = FOMM(replace(trained.config, generator=GeneratorConfig(3, 5, 1, 0)))
    mine = model.state_dict()
    moving = ("kp_detector.", "generator.dense_motion_network.")
    model.load_state_dict({k: v for k, v in trained.state_dict().items() if k.startswith(moving)}, strict=False)
    assert all(k in mine for k in trained.state_dict() if k.startswith(moving))
    save_backbone(model, path, {})


def train(name: str, model: FOMMConfig, stages: list[tuple[BackboneTrainingConfig, int]], args: Any) -> dict[str, Any]:
    """Train one design through all stages; return the last one's figures."""
    start, figures = str(args.output / "motion.safetensors") if args.motion else "", {}
    for number, (recipe, steps) in enumerate(stages, start=1):
        run = args.output / f"{name}-{number}"
        config = replace(
            recipe,
            output=str(run),
            initialise=start,
            model=resized(model, recipe.model),
            steps=steps,
            warmup_steps=min(recipe.warmup_steps, steps // 10),
            train_motion=not args.motion,
        )
        figures = train_backbone(config, lambda line: print(f"{name}: {line}", file=sys.stderr))
        start = str(run / "model.safetensors")
    shutil.copyfile(start, args.output / f"{name}.safetensors")
    return figures


def milliseconds(files: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return the median time of detecting and animating one frame by the `fast` engine, by model and precision."""
    models = {
        (name, precision): load_backbone(path, "cpu", "fast", precision)
        for name, path in files.items()
        for precision in PRECISIONS
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in models}
    states: dict[tuple[str, str], Any] = {}
    for round_ in range(ROUNDS + 3):  # of which the first warm up
        for key, model in models.items():
            frame = torch.rand(1, 3, *model.frame_size)
            if key not in states:
                states[key] = model.encode_source(frame), model.detect(frame)
            state, anchor = states[key]
            began = time.perf_counter()
            model.animate(state, anchor, model.detect(frame))
            if round_ >= 3:
                times[key].append(1000 * (time.perf_counter() - began))
    return {name: {p: statistics.median(times[name, p]) for p in PRECISIONS} for name in files}


def stage(text: str) -> tuple[BackboneTrainingConfig, int]:
    """Read RECIPE.toml:STEPS."""
    path, found, steps = text.rpartition(":")
    if not found or not steps.isdigit():
        raise KinecastError(f"compact: expected RECIPE.toml:STEPS, found {text!r}")
    recipe = BackboneTrainingConfig.read(path)
    if not isinstance(recipe.model, FOMMConfig):
        raise KinecastError(f"{path}: expected the recipe of a FOMM, found one of {recipe.backbone}")
    return recipe, int(steps)


def main() -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="+", help="RECIPE.toml:STEPS of the compact model, in their order")
    parser.add_argument("--motion", help="name or file of a trained model whose motion both take")
    parser.add_argument("--only", choices=("compact", "plain"), help="train this one and print no table")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of all runs")
    args = parser.parse_args()
    stages = [stage(text) for text in args.stage]
    compact = stages[-1][0].model
    assert isinstance(compact, FOMMConfig)
    sizes = {"compact": compact, "plain": plain_of_equal_cost(compact, not args.motion)}
    args.output.mkdir(parents=True, exist_ok=True)
    if args.motion:
        trained = load_backbone(args.motion, "cpu", engine="eager")
        assert isinstance(trained, FOMM)
        motion_alone(trained, args.output / "motion.safetensors")
    if args.only:
        train(args.only, sizes[args.only], stages, args)
        return
    results: dict[str, Any] = {"machine": describe(), "stages": args.stage, "motion": args.motion, "models": {}}
    for name, model in sizes.items():
        figures = train(name, model, stages, args)
        cost = per_frame(model, not args.motion) / 1e9
        results["models"][name] = {"gmac": cost, "model": model.to_dict(), **figures}
    rows = []
    for name, taken in milliseconds({name: args.output / f"{name}.safetensors" for name in sizes}).items():
        found = results["models"][name] = results["models"][name] | {"ms": taken}
        row = [f"{found['gmac']:.2f}", *(f"{taken[p]:.1f}" for p in PRECISIONS)]
        rows.append([name, *row, *(f"{found[k]:.4f}" for k in ("mae_ratio", "mae", "ssim"))])
    print(table(["design", "GMAC a frame", "ms exact", "ms bf16", "MAE ratio", "MAE", "SSIM"], rows))
    write_results(args.output / "results.json", results)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
