"""Forty pictures of transfer on one page, for eyes: driving frame, source, and beside them every model's picture.

Takes the clips that benchmarks/faces.py made. Clips of the same names (transfer_CLIP.mp4, square) by another program
stand beside them from a folder of their own. Footage of shared/data is on the page: keep it out of the repository.

    python benchmarks/faces_page.py runs/faces/mesh runs/faces/face-256 -o runs/faces/page.png
"""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np

from kinecast.errors import KinecastError
from kinecast.media.pictures import grid, write_image
from kinecast.media.video import read_frames

SIDE = 192  # pixels of a picture
PICTURES = 40


def moments(path: Path, at: list[int]) -> list[np.ndarray]:
    """Return some frames of a clip, or of a picture its one, as squares; the last frame for those beyond the end."""
    frames = list(islice(read_frames(path, (SIDE, SIDE)), max(at) + 1))
    return [frames[min(i, len(frames) - 1)] for i in at]


def page(folders: list[Path]) -> np.ndarray:
    """Return the page: two or three moments of each clip that faces.py lists in the first folder, a row each.

    Raises:
        KinecastError: a clip that there is not.
    """
    listed = [line.split("\t") for line in (folders[0] / "sources.tsv").read_text().splitlines()]
    wanted = [(Path(clip), Path(source)) for mode, clip, _, source in listed if mode == "transfer"]
    each, rows = -(-PICTURES // len(wanted)), []
    for clip, source in wanted:
        at = [round(60 * (i + 0.5) / each) for i in range(each)]
        made = [folder / f"transfer_{clip.stem}.mp4" for folder in folders]
        if missing := [path for path in made if not path.exists()]:
            raise KinecastError(f"{missing[0]}: expected a clip of benchmarks/faces.py, found none: make it first")
        columns = [moments(clip, at), moments(source, [0]) * each, *(moments(path, at) for path in made)]
        rows += [list(row) for row in zip(*columns, strict=True)]
    titles = ["driving", "source", *(folder.name for folder in folders)]
    return grid(rows[:PICTURES], titles=titles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of clips, one for each column")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page, .png or .jpg")
    args = parser.parse_args()
    write_image(args.output, page(args.folders))


if __name__ == "__main__":
    main()
