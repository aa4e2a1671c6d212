"""What layers of `mesh` motion cost against one layer, and what a receiver of some of them shows.

    python benchmarks/mesh_motion.py ../shared/data -o runs/mesh-motion
    python benchmarks/layer_rate.py runs/mesh-motion -o docs/results/layers.md

Motion is that of people who are in no table of the codec. Each clip is coded in layers, and each of its layers once
more as a stream of its own (`alone`), of the same steps and frames. kbps are bits of all packets of a file, framing
included, of the layers up to this one, over the clip's duration; neither header nor picture is counted. Landmarks: how
far they are from those of unquantised motion, in pixels of 256, frames that were left out being interpolated.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mesh_rate import landmarks

from kinecast.apps.stream.layered import layer_layouts
from kinecast.apps.stream.options import profile_named
from kinecast.codec import (
    FILE,
    EveryKth,
    LayeredDecoder,
    Layout,
    MotionPacket,
    encode_layers,
    encode_motion,
    interpolate,
)
from kinecast.files import atomic_path
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from machine import describe, table

LADDERS = {  # quality and one frame in how many of each layer, as `layer_layouts` has them
    2: ((4, 3), (8, 1)),
    3: ((4, 3), (6, 1), (8, 1)),
}


def kbps(packets: list[MotionPacket], seconds: float) -> float:
    """Return the rate of packets."""
    return sum(len(bytes(packet)) for packet in packets) * 8 / seconds / 1000


def shown(packets: list[MotionPacket], layouts: list[Layout], motion: Motion) -> Motion:
    """Return the motion that a receiver of these packets shows."""
    decoder = LayeredDecoder(layouts, profile_named("auto", "mesh", layouts[0]))
    frames = [frame for packet in packets for frame in decoder.push(packet)] + decoder.flush()
    vectors = np.stack([frame.vector for frame in interpolate(frames)])
    return motion.with_vectors(torch.from_numpy(vectors.astype(np.float32)))


def measure(model: Mesh, motion: Motion, layers: int) -> np.ndarray:
    """Return (layers, 4): kbps in layers and alone, landmarks off in layers and alone, of each up to that one."""
    layouts, every = layer_layouts(motion, layers)
    tables = profile_named("auto", "mesh", layouts[0])
    vectors, seconds = motion.vectors().numpy(), len(motion) / motion.fps
    packets = list(encode_layers(vectors, layouts, tables, every))
    truth, rows = landmarks(model, motion), []
    for n, (layout, k) in enumerate(zip(layouts, every, strict=True)):
        kept = [packet for packet in packets if packet.layer <= n]
        schedule = EveryKth(k) if k > 1 else None
        alone = list(encode_motion(vectors, layout, tables, replace(FILE, skips=k > 1), schedule))
        off = [
            float((landmarks(model, shown(some, which, motion)) - truth).norm(dim=-1).mean())
            for some, which in ((kept, layouts[: n + 1]), (alone, [layout]))
        ]
        rows.append([kbps(kept, seconds), kbps(alone, seconds), *off])
    return np.array(rows)


def report(found: dict[str, np.ndarray], names: dict[str, list[str]], machine: dict[str, Any]) -> str:
    """Return the page: arrays (people, layers, 4) by ladder."""
    rows = []
    for title, values in found.items():
        for n, name in enumerate(names[title]):
            layered, alone, off, off_alone = values[:, n].T
            more = 100 * (layered / alone - 1)
            rows.append(
                [
                    f"{title}: {name}",
                    *(f"{one.mean():.2f} ± {one.std(ddof=1):.2f}" for one in (layered, alone)),
                    f"{more.mean():+.0f} ± {more.std(ddof=1):.0f} %",
                    *(f"{one.mean():.2f}" for one in (off, off_alone)),
                ]
            )
    people = len(next(iter(found.values())))
    head = ["layers received", "kbps", "kbps alone", "more", "landmarks off, px of 256", "alone"]
    return (
        "# What layers of motion cost\n\n"
        f"Made by `{machine['command']}`, {machine['date']}, {machine['processor']}. Motion of `mesh`, {people} "
        "people, a clip each, at the clips' own frame rates; mean ± standard deviation over people. Each row is of the "
        "layers up to that one; `alone` is one layer with the same steps and frames. q is the quality, 1/3 one frame "
        "in three.\n\n" + table(head, rows) + "\n"
    )


def main() -> None:
    """Read the options, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="folder of mesh_motion.py")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--people", type=int, help="measure so many, evenly taken from all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_backbone("mesh", "cpu", "eager")
    assert isinstance(model, Mesh)
    clips: dict[str, Motion] = {}
    for path in sorted(options.motion.glob("validate-*.npz")):
        clips.setdefault(path.name.split("-")[1], Motion.load(path))
    people = sorted(clips)
    most = min(options.people or len(people), len(people))
    clips = {person: clips[person] for person in (people[i * len(people) // most] for i in range(most))}
    found, names = {}, {}
    for layers, pairs in LADDERS.items():
        title = f"{layers} layers"
        found[title] = np.stack([measure(model, motion, layers) for motion in clips.values()])
        names[title] = [f"q{quality}" + (f", 1/{every}" if every > 1 else "") for quality, every in pairs]
        print(title, found[title].mean(axis=0).round(2).tolist(), flush=True)
    with atomic_path(options.output) as temporary:
        temporary.write_text(report(found, names, describe()))


if __name__ == "__main__":
    main()
