"""Makes the 3-D head that comes with kinecast: src/kinecast/apps/heads/data/head.glb.

    python recipes/make_head.py --motion runs/anonymity/motion --people ../shared/data/people/index.tsv

The face is the mean face of the landmarker (Apache-2.0), closed by simple shapes: eyes, teeth, the inside of a mouth,
the back of a head and a neck (`head_shapes.py`). Its morph targets bear ARKit's names. How a blendshape moves the face
is a ridge regression, over frames of people that train `mesh`, from the scores that the landmarker's network gives to
the points that the 38 numbers stand for, to these numbers; each is then kept to its part of the face and made
symmetric. No person's shape is in it: only changes within a clip are looked at. Lids are shut and eyes are turned by
construction.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from head_shapes import Piece, pieces, write_glb

from kinecast.apps.heads.expression import SHAPES, Expressions, needs_mesh
from kinecast.apps.heads.glb import OWN, read_head
from kinecast.faces import topology as faces
from kinecast.faces.weights import mean_face
from kinecast.models.mesh.geometry import RIGID
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone

_RIDGE = 0.05  # of the scores' mean variance
_EVERY = 2  # frames
_UPPER, _LOWER = ("eye", "brow"), ("mouth", "jaw", "cheekPuff")
_SHUT = 0.7  # the score at which lids are shut: the network seldom gives more


def regression(model: Mesh, clips: list[Path]) -> np.ndarray:
    """Return how far each blendshape moves the face's points, (51, 468, 3), in centimetres."""
    expressions = Expressions(model)
    scores, numbers = [], []
    for clip in clips:
        motion = Motion.load(clip)
        motion = motion[::_EVERY]
        shapes = np.stack([pose.shapes for pose in expressions(motion)]).astype(np.float64)
        own = motion.components["expression"].double().numpy()
        scores.append(shapes - shapes.mean(axis=0))
        numbers.append(own - own.mean(axis=0))
    x, y = np.concatenate(scores), np.concatenate(numbers)
    gram = x.T @ x / len(x)
    slopes = np.linalg.solve(gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y / len(x))
    offsets = model.expression.offsets(torch.from_numpy(slopes).float()).double().numpy()[:, : faces.NUM_MESH]
    return offsets * np.array([1, -1, -1]) * _centimetres(model)


def _centimetres(model: Mesh) -> float:
    """Return the size of the model's unit: by the points that no expression moves."""
    points = list(RIGID)
    ours, theirs = model.topology.mean[points].double().numpy(), mean_face().vertices[points]
    return float(np.linalg.norm(theirs - theirs.mean(axis=0)) / np.linalg.norm(ours - ours.mean(axis=0)))


def kept_to_their_parts(offsets: np.ndarray) -> np.ndarray:
    """Fade each blendshape where it has no business, and make pairs mirror each other."""
    vertices, mirror = mean_face().vertices, faces.mirrored()[: faces.NUM_MESH]
    x, y = vertices[:, 0], vertices[:, 1]
    eyes = vertices[[faces.RIGHT_EYE_CORNER, faces.LEFT_EYE_CORNER], 1].mean()
    nose = vertices[4, 1]
    below = np.clip((eyes - y) / (eyes - nose), 0, 1)  # 0 from the eyes up, 1 from the tip of the nose down
    left = np.clip(x / 2 + 0.5, 0, 1)
    out = np.empty_like(offsets)
    for i, name in enumerate(SHAPES):
        mask = 1 - below if name.startswith(_UPPER) else below if name.startswith(_LOWER) else np.ones_like(below)
        if name.endswith("Left") and not name.startswith(("jaw", "mouthLeft")):
            mask = mask * left
        elif name.endswith("Right") and not name.startswith(("jaw", "mouthRight")):
            mask = mask * (1 - left)
        out[i] = offsets[i] * mask[:, None]
    flipped = out[:, mirror] * np.array([-1, 1, 1])
    swapped = {"Left": "Right", "Right": "Left"}
    for i, name in enumerate(SHAPES):
        side = next((end for end in swapped if name.endswith(end)), None)
        other = i if side is None else SHAPES.index(name.removesuffix(side) + swapped[side])
        if other >= i:
            both = (out[i] + flipped[other]) / 2
            out[i], out[other] = both, both[mirror] * np.array([-1, 1, 1])
    return out


def with_lids(offsets: np.ndarray) -> np.ndarray:
    """Let `eyeBlink` bring the upper lid down onto the lower one, with the skin above it."""
    vertices = mean_face().vertices
    out = offsets.copy()
    for name, loop in (("eyeBlinkRight", faces.RIGHT_EYE), ("eyeBlinkLeft", faces.LEFT_EYE)):
        lower, upper = list(loop[1:8]), list(loop[9:])[::-1]  # between the corners, both from the outer one on
        down = vertices[lower] - vertices[upper]
        down[:, 2] = np.maximum(down[:, 2], 0) + 0.08
        apart = np.linalg.norm(vertices[:, None, :2] - vertices[None, upper, :2], axis=2)
        nearest, reach = apart.argmin(axis=1), apart.min(axis=1)
        fade = np.exp(-((reach / 0.55) ** 2))
        above = vertices[:, 1] >= vertices[upper, 1][nearest] - 1e-6
        moved = down[nearest] * fade[:, None] * above[:, None] / _SHUT
        moved[lower] = 0
        out[SHAPES.index(name)] = moved
    return out


def main() -> None:
    """Read the options and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--motion", type=Path, required=True, help="folder that anonymity.py leaves")
    parser.add_argument("--people", type=Path, required=True, help="index.tsv, which says who trains")
    parser.add_argument("-o", "--output", type=Path, default=OWN)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with args.people.open() as file:
        train = {Path(row["file"]).stem for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train"}
    clips = sorted(path for path in args.motion.glob("*.npz") if path.stem in train)
    model = needs_mesh(load_backbone("mesh", "cpu", "eager"))
    offsets = with_lids(kept_to_their_parts(regression(model, clips)))
    made: list[Piece] = pieces(mean_face().vertices, offsets, SHAPES)
    write_glb(args.output, made, SHAPES)
    head = read_head(args.output)
    print(f"{args.output}: {len(head.data)} bytes, {len(head.shapes)} shapes, from {len(clips)} clips")


if __name__ == "__main__":
    main()
