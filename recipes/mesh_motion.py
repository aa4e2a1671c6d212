"""Motion of `mesh` at the clips' own frame rates, for the codec's tables and `direct-mesh`: one clip a person.

    python recipes/mesh_motion.py ../shared/data -o runs/mesh-motion

The folder is that of the development data (people/ with its index.tsv, voxceleb/, portraits/). Motion files are named
SPLIT-PERSON-CLIP.npz; those that are there already are kept. People who validate are those of the index and id10291.
"""

import argparse
import csv
from pathlib import Path

import torch

from kinecast.apps.extraction import extract
from kinecast.data.video_folder import list_clips, person_of
from kinecast.errors import KinecastError
from kinecast.zoo import load_backbone

VALIDATION = "id10291"  # of voxceleb


def clips_of(data: Path) -> dict[tuple[str, str], list[Path]]:
    """Return the clips of each (split, person) in the order of names; every portrait is a person."""
    found: dict[tuple[str, str], list[Path]] = {}
    with (data / "people" / "index.tsv").open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            found.setdefault((row["split"], f"p{row['person']}"), []).append(data / "people" / row["file"])
    for folder in ("voxceleb", "portraits"):
        for clip in list_clips([data / folder]):
            person = person_of(clip.stem)
            split = "validate" if person == VALIDATION else "train"
            found.setdefault((split, person), []).append(clip)
    return found


def main() -> None:
    """Read the options, extract."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--train", type=int, default=40, help="people to train on, evenly taken from all")
    parser.add_argument("--validate", type=int, default=100, help="people to validate on, at most")
    parser.add_argument("--frames", type=int, default=120, help="of each clip, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    model = load_backbone("mesh", "cpu", "eager")
    groups = clips_of(options.data)
    picked = []
    for split, most in (("validate", options.validate), ("train", options.train)):
        people = sorted(person for which, person in groups if which == split)
        taken = [people[round(i * len(people) / min(most, len(people)))] for i in range(min(most, len(people)))]
        picked.append([(split, p, c) for p in taken for c in groups[split, p][: 2 if p == VALIDATION else 1]])
    # Turn by turn, so that what an interrupted run leaves is of both.
    rows = sorted(((i / len(part), row) for part in picked for i, row in enumerate(part)), key=lambda pair: pair[0])
    for _, (split, person, clip) in rows:
        path = options.output / f"{split}-{person}-{clip.stem}.npz"
        if path.exists():
            continue
        try:
            motion = extract(model, clip, limit=options.frames)
        except KinecastError as error:
            print(f"left out: {error}", flush=True)
            continue
        motion.save(path)
        print(
            f"{path.name}: {len(motion)} frames at {motion.fps}, {int(motion.valid_frames().sum())} valid", flush=True
        )


if __name__ == "__main__":
    main()
