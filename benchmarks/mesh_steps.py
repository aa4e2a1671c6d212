"""How much each number of `mesh` motion changes the picture: what its quantiser steps should be in proportion to.

    python benchmarks/mesh_steps.py runs/mesh-motion ../shared/data -o benchmarks/results/mesh_steps.json

Each number in turn is moved a little in some frames of people who validate; what counts is the mean absolute change of
the drawn picture at 256 per unit, median over frames. Errors of the numbers add in squares, so for the least rate at a
given error of pixels a step is inversely proportional to it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from mesh_rate import frames_of

from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from machine import describe, write_results

MOVED = {"rotation": 0.01, "shift": 0.005, "scale": 0.01, "expression": 0.1}


def changes(model: Mesh, motion: Motion, clip: Path, index: int) -> np.ndarray:
    """Return the mean absolute change (D,) of frame `index` for one unit of each number, pixels from 0 to 1."""
    source = model.source(frames_of(clip, [0]))
    widths = [motion.components[name].shape[1] for name in MOVED]
    moved = torch.from_numpy(np.repeat(list(MOVED.values()), widths)).float()
    now = motion.vectors()[index][None]
    drawn = model.render(source, motion.with_vectors(torch.cat([now, now + torch.diag(moved)])), 256)
    return ((drawn[1:] - drawn[:1]).abs().mean(dim=(1, 2, 3)) / moved).numpy()


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--clips", nargs="*", default=["013_1", "016_1", "095_1", "id10291_4aLg_keiGHw_001217_001424"])
    parser.add_argument("--at", nargs="*", type=int, default=[40, 90], help="frames of each clip")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = describe()
    model = load_backbone("mesh", "cpu", "fast")
    assert isinstance(model, Mesh)
    clips = {p.stem: p for folder in ("people", "voxceleb") for p in (options.data / folder).glob("*.mp4")}
    found = []
    for path in sorted(options.motion.glob("validate-*.npz")):
        name = path.stem.split("-", 2)[2]
        if name in options.clips:
            with torch.inference_mode():
                found += [changes(model, Motion.load(path), clips[name], index) for index in options.at]
    median = np.median(found, axis=0)
    print(np.round(median, 4))
    write_results(options.output, {"about": about, "clips": options.clips, "per_unit": median.round(5).tolist()})


if __name__ == "__main__":
    main()
