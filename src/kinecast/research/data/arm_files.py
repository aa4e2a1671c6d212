"""The robot-arm data set on disk: clips as mp4, a JSON beside each, and series that `load_series` reads.

    FOLDER/train, test, faults/   arm-00012.mp4, arm-00012.json; in faults/ jam-00012 and so on
    FOLDER/<side>/joints/         arm-00012.npz: (T, 7) radians; likewise velocities, torques, tip and objects
    FOLDER/<side>/labels/         (T, 1): 1 from the first frame that a fault touched

A clip is written once, its JSON last: an interrupted run resumes. Layout "bair" of the data-set
readers lists train/ and test/ of the clips.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.media.writer import VideoWriter
from kinecast.research.data.robot_arms import FAULTS, FPS, ArmSimulator, Episode, Fault

SERIES = ("joints", "velocities", "torques", "tip", "objects")
_FORMAT = 1
_SIDES = ("train", "test", "faults")


@dataclass(frozen=True)
class ArmDataConfig:
    """The data set: `clips` without a fault, on both sides together, and `faults` clips of each kind of fault.

    An episode of a fault is one that no clip without a fault is of.
    """

    clips: int = 100
    faults: int = 0
    frames: int = 30
    size: int = 64
    objects: int = 2
    seed: int = 0
    test_share: float = 0.2
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.clips < 1 or self.faults < 0 or self.seed < 0:
            raise KinecastError(
                f"robot arms: expected at least 1 clip, and faults and a seed of at least 0; found {self.clips}, "
                f"{self.faults} and {self.seed}"
            )
        if not 0 <= self.test_share <= 1:
            raise KinecastError(f"robot arms: expected a test share from 0 to 1, found {self.test_share}")


@dataclass(frozen=True)
class Planned:
    """One clip of the data set: on which side, its name, and the episode that it shows."""

    side: str
    name: str
    number: int
    fault: Fault | None


def plan(config: ArmDataConfig) -> Iterator[Planned]:
    """Yield the clips in order: test clips evenly among the others, so that no clip's side depends on the count."""
    for i in range(config.clips):
        test = int((i + 1) * config.test_share + 1e-9) > int(i * config.test_share + 1e-9)
        yield Planned("test" if test else "train", f"arm-{i:05d}", i, None)
    for j, fault in enumerate(FAULTS):
        for i in range(config.faults):
            # Numbers of their own however many clips there are: -1, -2, ... are no seeds, so odd ones far away.
            yield Planned("faults", f"{fault}-{i:05d}", 1_000_000 * (j + 1) + i, fault)


def write_arms(folder: Path, config: ArmDataConfig, done: Callable[[str, int], None] = lambda kind, count: None) -> int:
    """Simulate and write what is not there yet; return how many clips that were.

    Raises:
        KinecastError: the folder holds clips of another seed, size or length, or pybullet is missing.
    """
    written = 0
    with ArmSimulator(config.frames, config.size, config.pictures, config.objects) as simulator:
        for clip in plan(config):
            facts = _recipe(clip, config)
            if _is_there(folder, clip, facts):
                done("clips", 1)
                continue
            _write(folder, clip, simulator.episode(config.seed, clip.number, clip.fault), facts)
            written += 1
            done("clips", 1)
    return written


def _recipe(clip: Planned, config: ArmDataConfig) -> dict[str, Any]:
    """Return what a clip depends on; the counts of clips are no part of it."""
    of_clip = ("frames", "size", "objects", "seed", "pictures")
    values = asdict(config)
    about = {"format": _FORMAT, "side": clip.side, "number": clip.number, "fault": clip.fault}
    return about | {name: values[name] for name in of_clip}


def _is_there(folder: Path, clip: Planned, recipe: dict[str, Any]) -> bool:
    """Return whether the clip is written. One of another recipe, or on the other side of another split, is an error."""
    path = next((p for side in _SIDES if (p := folder / side / f"{clip.name}.json").exists()), None)
    if path is None:
        return False
    try:
        found = json.loads(path.read_text())
        changed = [key for key, value in recipe.items() if found.get(key) != value]
    except (ValueError, AttributeError):
        changed = ["recipe"]
    if changed:
        raise KinecastError(
            f"{path}: expected a clip of this recipe, found another {', '.join(changed)}: name another folder"
        )
    return True


def _write(folder: Path, clip: Planned, episode: Episode, recipe: dict[str, Any]) -> None:
    side = make_folder(folder / clip.side)
    arrays = {kind: getattr(episode, kind) for kind in SERIES} | {"labels": episode.labels[:, None]}
    for kind, array in arrays.items():
        with atomic_path(make_folder(side / kind) / f"{clip.name}.npz") as temporary:
            np.savez_compressed(temporary, **{clip.name: array})
    if episode.pictures is not None:
        with VideoWriter(side / f"{clip.name}.mp4", FPS, quality=12) as writer:
            writer.write(episode.pictures)
    facts = recipe | {
        "fps": FPS,
        "policy": episode.policy,
        "onset": episode.onset if episode.fault else None,
        "failure": episode.failure,
        "joint": episode.joint,
    }
    with atomic_path(side / f"{clip.name}.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
