"""Motion of the faces of many people, by `mesh`, as one store with the person in every name: PERSON#CLIP.

    python recipes/people_motion.py ../shared/data --landmarks runs/landmarks -o runs/people-motion.npz
    python recipes/people_motion.py ../shared/data --landmarks runs/landmarks -o runs/people-motion-1.npz --clips 1
    kinecast research keypoints --data runs/people-motion.npz --person '^([^#]+)#' --folds 5 -o runs/by-person

The folder is that of the development data: people/ with its index.tsv, voxceleb/ and portraits/. The landmarks of every
frame are found once and kept in the folder of --landmarks, so that a run goes on from where it was stopped, and other
stores and weights take them from there; training of the mesh on one frame in two finds them as well, if that folder is
its `cache`. Frames without a face are cut away, and the longest stretch between them is kept.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from kinecast.data.video_folder import cached_frames, cached_points, list_clips, person_of
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_output, make_folder
from kinecast.media.video import read_frames
from kinecast.models.mesh.model import POINTS, Mesh
from kinecast.motion import Motion
from kinecast.training.mesh_losses import find_points
from kinecast.zoo import load_backbone

_SIZE, _CROP = (256, 256), "center"  # of the frames that landmarks are found in, those of recipes/mesh-256.toml
_TRAINING_EVERY = 2  # and the frames of these that training keeps
_FEWEST = 12  # frames of a stretch that is worth keeping


def people_clips(data: Path) -> list[tuple[str, Path]]:
    """Return persons and clips: of people/ by index.tsv, of voxceleb/ by name; every portrait is a person."""
    with (data / "people" / "index.tsv").open() as lines:
        named = {row["file"]: row["person"] for row in csv.DictReader(lines, delimiter="\t")}
    clips = [(named[clip.name], clip) for clip in list_clips([data / "people"]) if clip.name in named]
    return clips + [(person_of(c.stem), c) for folder in ("voxceleb", "portraits") for c in list_clips([data / folder])]


def landmarks_of(clip: Path, folder: Path) -> np.ndarray:
    """Return the points (T, 480, 3) of all frames of a clip, found now or kept in the folder, NaN without a face."""
    kept = {n: cached_points(cached_frames(clip, _SIZE, _CROP, folder, n)) for n in (1, _TRAINING_EVERY)}
    if not all(path.exists() for path in kept.values()):
        points = find_points(np.stack(list(read_frames(clip, size=_SIZE, crop=_CROP))))
        for every, path in kept.items():
            with atomic_path(path) as temporary:
                np.save(temporary, points[::every])
    return np.load(kept[1])


def motion_of(model: Mesh, points: np.ndarray) -> np.ndarray:
    """Return (T, 38) of the longest stretch of points (T, 480, 3), 478 of them landmarks, with a face all along."""
    seen = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    stretches = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)
    longest = max(stretches, key=len)
    if not len(longest):
        return np.empty((0, 0), np.float32)
    with torch.inference_mode():
        components = model.motion_of(torch.from_numpy(points[longest, :POINTS]).float())
    components.pop("scene", None)  # of the face alone
    return Motion("mesh", components).vectors().numpy()


def main() -> None:
    """Read the options, extract, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="of each person, at most so many, the first ones")
    parser.add_argument("--every", type=int, default=1, help="keep one frame in so many")
    parser.add_argument("--landmarks", type=Path, required=True, help="folder that keeps the landmarks of every frame")
    options = parser.parse_args()
    check_output(options.output, (".npz",), "motion store")
    folder = make_folder(options.landmarks)
    model = load_backbone("mesh", "cpu")
    assert isinstance(model, Mesh)
    store: dict[str, np.ndarray] = {}
    seen: Counter[str] = Counter()
    for person, clip in people_clips(options.data):
        seen[person] += 1
        if options.clips and seen[person] > options.clips:
            continue
        try:
            motion = motion_of(model, landmarks_of(clip, folder)[:: options.every])
        except KinecastError as error:
            print(f"left out: {error}")
            continue
        if len(motion) < _FEWEST:
            print(f"left out: {clip}: {len(motion)} frames with a face")
            continue
        store[f"{person}#{clip.stem}"] = motion.astype(np.float32)
    with atomic_path(options.output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **store)  # type: ignore[arg-type]
    people = {name.partition("#")[0] for name in store}
    print(f"{options.output}: {sum(map(len, store.values()))} frames of {len(store)} clips, {len(people)} people")


if __name__ == "__main__":
    main()
