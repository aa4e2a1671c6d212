"""Put clips of other domains than faces into folders whose names say who is in them, for training and evaluation.

    kinecast research arms -o runs/arms --clips 120
    python recipes/domains.py ../shared/data/actions runs/arms runs/domains

writes runs/domains/actions (p0_... to p8_..., of whom p7 and p8 are tested on) and runs/domains/arms (train_... and
test_...). recipes/actions.toml and recipes/arms.toml train on them.
"""

import argparse
import shutil
from pathlib import Path

CLIPS_OF_PERSON = 8  # numbers of the actions' clips run from person to person, as one sees by eye


def main() -> None:
    """Copy the clips under their new names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("actions", type=Path, help="folder of numbered clips")
    parser.add_argument("arms", type=Path, help="folder of kinecast research arms")
    parser.add_argument("output", type=Path, help="folder to write to")
    args = parser.parse_args()
    names: dict[Path, str] = {}
    for clip in sorted(args.actions.glob("*.mp4")):
        names[clip] = f"actions/p{int(clip.stem) // CLIPS_OF_PERSON}_{clip.name}"
    for side in ("train", "test"):
        names |= {clip: f"arms/{side}_{clip.name}" for clip in sorted((args.arms / side).glob("*.mp4"))}
    for clip, name in names.items():
        target = args.output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, target)
    print(f"wrote {len(names)} clips to {args.output}")


if __name__ == "__main__":
    main()
