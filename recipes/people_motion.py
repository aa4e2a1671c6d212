"""Motion of the faces of many people, by `mesh`, as one store with the person in every name: PERSON#CLIP.

    python recipes/people_motion.py ../shared/data -o runs/people-motion.npz
    python recipes/people_motion.py ../shared/data -o runs/people-motion.npz --every 2 --landmarks runs/frames-256
    kinecast research keypoints --data runs/people-motion.npz --person '^([^#]+)#' --folds 5 -o runs/by-person

The folder is that of the development data: people/ with its index.tsv, voxceleb/ and portraits/. With --landmarks the
points that mesh training has found and kept (`<clip>-<hash>.points.npy`, of every second frame) are taken, so that no
frame is read; frames without a face are cut away, and the longest stretch between them is kept.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from kinecast.apps import pipeline
from kinecast.data.video_folder import list_clips, person_of
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_output
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone

_LANDMARKS_EVERY = 2  # what mesh training keeps
_FEWEST = 12  # frames of a stretch that is worth keeping


def people_clips(data: Path) -> list[tuple[str, Path]]:
    """Return persons and clips: of people/ by index.tsv, of voxceleb/ by name; every portrait is a person."""
    with (data / "people" / "index.tsv").open() as lines:
        named = {row["file"]: row["person"] for row in csv.DictReader(lines, delimiter="\t")}
    clips = [(named[clip.name], clip) for clip in list_clips([data / "people"]) if clip.name in named]
    return clips + [(person_of(c.stem), c) for folder in ("voxceleb", "portraits") for c in list_clips([data / folder])]


def motion_of_landmarks(model: Mesh, folder: Path, clip: Path) -> np.ndarray:
    """Return (T, D) of the longest stretch of kept landmarks that has a face in every frame.

    Raises:
        KinecastError: none, or several files are kept of the clip.
    """
    files = sorted(folder.glob(f"{clip.stem}-{'[0-9a-f]' * 16}.points.npy"))
    if len(files) != 1:
        raise KinecastError(f"{folder}: expected one file of landmarks of {clip.stem}, found {len(files)}")
    points = np.load(files[0])
    seen = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    stretches = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)
    longest = max(stretches, key=len)
    with torch.inference_mode():
        return Motion("mesh", model.motion_of(torch.from_numpy(points[longest]).float())).vectors().numpy()


def main() -> None:
    """Read the options, extract, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="keep one frame in so many")
    parser.add_argument("--landmarks", type=Path)
    options = parser.parse_args()
    if options.landmarks and options.every != _LANDMARKS_EVERY:
        parser.error(f"--landmarks are of one frame in {_LANDMARKS_EVERY}: add --every {_LANDMARKS_EVERY}")
    check_output(options.output, (".npz",), "motion store")
    model = load_backbone("mesh", "cpu")
    assert isinstance(model, Mesh)
    store: dict[str, np.ndarray] = {}
    for person, clip in people_clips(options.data):
        try:
            if options.landmarks:
                motion = motion_of_landmarks(model, options.landmarks, clip)
            else:
                motion = pipeline.extract(model, clip).vectors().numpy()[:: options.every]
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
