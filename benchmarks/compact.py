"""The compact generator against a plain FOMM's of the same cost a frame, trained by one recipe from the same motion.

Both start from random weights, with the detector and dense motion of one trained model, which stay as they are: only
the design of the generator differs. The plain one is the narrowest that costs at least as much a frame as the compact
one. benchmarks/backbone_quality.py OUT/compact/model.safetensors OUT/plain/model.safetensors FOLDER measures more.

    python benchmarks/compact.py recipes/face-256.toml face-256 --steps 300 -o runs/compact-or-plain
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import describe, table, write_results

from kinecast import load_backbone
from kinecast.backbones.checkpoints import save_backbone
from kinecast.backbones.fomm import FOMM, FOMMConfig, GeneratorConfig
from kinecast.errors import KinecastError
from kinecast.evaluation.cost import count_macs
from kinecast.training.backbone import BackboneTrainingConfig, train_backbone


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
        started = time.monotonic()
        figures = train_backbone(config, lambda line: print(line, file=sys.stderr))
        hours = (time.monotonic() - started) / 3600
        cost = per_frame(model) / 1e9
        results["models"][name] = {"gmac": cost, "hours": hours, "generator": vars(model.generator), **figures}
        rows.append([name, f"{cost:.2f}", f"{hours:.2f}", *(f"{figures[k]:.4f}" for k in ("mae_ratio", "mae", "ssim"))])
    print(table(["generator", "GMAC a frame", "hours", "MAE ratio", "MAE", "SSIM"], rows))
    write_results(args.output / "results.json", results)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
