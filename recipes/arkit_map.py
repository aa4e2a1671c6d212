"""How a face moves by ARKit's blendshapes: a linear map from 52 scores to 478 points, learnt from training people.

    python recipes/arkit_map.py ../shared/data --work runs/arkit -o src/kinecast/models/mesh/data/arkit.npz

The folder is that of the development data. Every person's first clips are looked at (`--frames` frames of each, evenly
taken, and their mirror images); what is found is kept in --work, so that it resumes. The scores of a person are
compared with that person's mean alone, so that shapes of faces do not pass for expressions; people count alike. The
ridge is chosen by people, five folds of the training people: the largest that costs a hundredth of the error at most,
since scores that seldom change would otherwise move points wildly when another program raises them. Validation people
are looked at for the report, and for nothing else.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mesh_motion import clips_of

from kinecast.faces import Landmarker
from kinecast.faces.topology import mirrored
from kinecast.files import atomic_path, check_output
from kinecast.media.video import read_frames
from kinecast.models.mesh.following import points_of
from kinecast.models.mesh.geometry import fit_pose
from kinecast.models.mesh.model import Mesh
from kinecast.zoo import load_backbone

_SIDE = 256  # pixels of the clips
_FEWEST = 8  # frames of a person that is used
_RIDGES = (1e-5, 1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_FOLDS = 5
_WORSE = 0.01  # than the least error: a ridge that costs no more is preferred


class Person(NamedTuple):
    """Scores (T, 51), points in the head's own frame (T, 478, 3), and how large the head is in each picture (T,)."""

    scores: np.ndarray
    points: np.ndarray
    sizes: np.ndarray


def looked_at(clips: Sequence[Path], most: int, landmarker: Landmarker) -> np.ndarray:
    """Return landmarks (T, 478, 3) in pixels of evenly taken frames of clips, those with a face."""
    found = []
    for clip in clips:
        frames = list(read_frames(clip, _SIDE))
        for i in sorted({round(k * (len(frames) - 1) / max(most - 1, 1)) for k in range(most)}):
            found += [face.landmarks for face in landmarker.detect(frames[i])[:1]]
    return np.stack(found) if found else np.empty((0, 478, 3), np.float32)


def person_of(landmarks: np.ndarray, model: Mesh, landmarker: Landmarker) -> Person:
    """Return what a person's landmarks (T, 478, 3) and their mirror images show."""
    flipped = landmarks[:, mirrored()] * np.float32([-1, 1, 1]) + np.float32([_SIDE, 0, 0])
    both = np.concatenate([landmarks, flipped])
    scores = [
        face.blendshapes[1:] for face in landmarker.describe(both, [1.0] * len(both), [(_SIDE, _SIDE)] * len(both))
    ]
    points = torch.cat([points_of(one, _SIDE, _SIDE) for one in both])
    pose = fit_pose(points, model.topology.mean)
    return Person(np.stack(scores).astype(np.float64), pose.undo(points).double().numpy(), pose.scale.numpy())


def fitted(people: Sequence[Person], ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the map (51, 478 * 3) and the mean scores (51,) at which a face is the mean one.

    Args:
        people: each counts alike.
        ridge: added to the scores' covariance, in shares of its mean diagonal.
    """
    inner = outer = 0.0
    for person in people:
        scores = person.scores - person.scores.mean(axis=0)
        points = person.points - person.points.mean(axis=0)
        inner = inner + scores.T @ scores / len(scores)
        outer = outer + scores.T @ points.reshape(len(points), -1) / len(scores)
    inner = np.asarray(inner)
    solved = np.linalg.solve(inner + ridge * np.trace(inner) / len(inner) * np.eye(len(inner)), outer)
    means = np.mean([person.scores.mean(axis=0) for person in people], axis=0)
    return solved, means


def error_of(person: Person, solved: np.ndarray | None) -> float:
    """Return the mean distance in pixels of 256 between a person's points and those that the scores say, in x and y.

    Both are compared with the person's mean; None stands for a face that does not move.
    """
    moved = person.points - person.points.mean(axis=0)
    if solved is not None:
        moved = moved - ((person.scores - person.scores.mean(axis=0)) @ solved).reshape(moved.shape)
    pixels = np.linalg.norm(moved[..., :2], axis=2) * person.sizes[:, None] * _SIDE / 2
    return float(pixels.mean())


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation and worst of people's errors."""
    return {"mean": float(np.mean(errors)), "sd": float(np.std(errors, ddof=1)), "worst": float(np.max(errors))}


def main() -> None:
    """Read the options, look at all people, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is found of each person")
    parser.add_argument("--frames", type=int, default=16, help="of each clip, at most (%(default)s)")
    parser.add_argument("--people", type=int, default=1000, help="training people, at most, by name (%(default)s)")
    parser.add_argument("--clips", type=int, default=1, help="of each person, at most (%(default)s)")
    options = parser.parse_args()
    check_output(options.output, (".npz",), "map")
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model, landmarker = load_backbone("mesh", "cpu", "eager"), Landmarker("cpu")
    assert isinstance(model, Mesh)
    people: dict[str, list[Person]] = {"train": [], "validate": []}
    groups = sorted(clips_of(options.data).items())
    left_out = {name for (_, name), _ in [group for group in groups if group[0][0] == "train"][options.people :]}
    for (split, name), clips in groups:
        if name in left_out:
            continue
        kept = options.work / f"{split}-{name}.npy"
        if not kept.exists():
            found = looked_at(clips[: options.clips], options.frames, landmarker)
            with atomic_path(kept) as temporary, temporary.open("wb") as file:
                np.save(file, found)
        landmarks = np.load(kept)
        if len(landmarks) >= _FEWEST:
            people[split].append(person_of(landmarks, model, landmarker))
    train = people["train"]
    tried: dict[float, list[float]] = {}
    for ridge in _RIDGES:
        tried[ridge] = []
        for fold in range(_FOLDS):
            solved, _ = fitted([p for i, p in enumerate(train) if i % _FOLDS != fold], ridge)
            tried[ridge] += [error_of(p, solved) for p in train[fold::_FOLDS]]
    least = min(float(np.mean(errors)) for errors in tried.values())
    ridge = max(one for one, errors in tried.items() if np.mean(errors) <= least * (1 + _WORSE))
    solved, means = fitted(train, ridge)
    shape = np.mean([person.points.mean(axis=0) for person in train], axis=0) - model.topology.mean.double().numpy()
    with atomic_path(options.output) as temporary, temporary.open("wb") as file:
        offsets = solved.reshape(-1, 478, 3).astype(np.float16)
        np.savez_compressed(file, offsets=offsets, scores=means.astype(np.float32), shape=shape.astype(np.float16))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "people": {split: len(found) for split, found in people.items()},
        "frames": {split: sum(len(person.sizes) // 2 for person in found) for split, found in people.items()},
        "ridge": ridge,
        "pixels by ridge, training people left out": {str(one): float(np.mean(e)) for one, e in tried.items()},
        "pixels of 256, by person": {
            "training people, left out": summary(tried[ridge]),
            "validation people": summary([error_of(person, solved) for person in people["validate"]]),
            "validation people, a face that does not move": summary([error_of(p, None) for p in people["validate"]]),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
