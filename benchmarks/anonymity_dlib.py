"""Describes the faces of clips by dlib's identity network, in an environment with dlib-bin and face-recognition-models.

    python anonymity_dlib.py list.tsv descriptions.npz

Each line of the list: a name, every how many frames to look, a clip. Written are (n, 128) by name, of the frames in
which a face was found, and how many were looked at, as `name.looked`. Names that are there already are passed over.
"""

import sys
from pathlib import Path

import numpy as np
from faces_dlib import descriptor, frames, look

MOST = 3  # frames that are looked at


def described(clip: str, every: int) -> tuple[np.ndarray, int]:
    """Return descriptions (n, 128) of a clip's faces, and how many frames were looked at."""
    found, looked = [], 0
    for i, picture in enumerate(frames(clip, every * MOST)):
        if i % every:
            continue
        looked += 1
        points = look(picture)
        if points is not None:
            found.append(np.array(descriptor.compute_face_descriptor(picture, points)))
    return np.array(found).reshape(-1, 128), looked


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    if Path(sys.argv[2]).exists():
        with np.load(sys.argv[2]) as before:
            arrays = {name: before[name] for name in before.files}
    for line in Path(sys.argv[1]).read_text().splitlines():
        name, every, clip = line.split("\t")
        if name not in arrays:
            arrays[name], looked = described(clip, int(every))
            arrays[f"{name}.looked"] = np.array(looked)
            with Path(sys.argv[2]).open("wb") as file:
                np.savez(file, **arrays)


if __name__ == "__main__":
    main()
