"""Motion to code: smooth paths with noise, jumps and extremes, of any layout."""

import numpy as np

from kinecast.codec import Layout, Profile, dequantize, generic_profile

LAYOUTS = {
    "fomm": Layout.fomm(),  # 60 numbers
    "tps": Layout.plain(100, 1 / 128, "tps"),
    "face-vid2vid": Layout.plain(51, 1 / 256, "face-vid2vid"),
    "one": Layout.plain(1, 1 / 64),
}


def smooth_levels(layout: Layout, frames: int, seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """(frames, D) int32: what a detector might give, in steps."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 30
    phase, height = random.uniform(0, 6, layout.dim), random.uniform(2, 30, layout.dim)
    path = height * np.sin(time * 3 + phase) + random.normal(0, 20, layout.dim)
    return np.rint(path + random.normal(0, noise, path.shape)).astype(np.int32)


def profile_of(layout: Layout) -> Profile:
    return generic_profile(layout)


LADDER = tuple(Layout.fomm(4, step, 4 * step) for step in (1 / 32, 1 / 64, 1 / 256))  # of three layers


def layered_vectors(frames: int, seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """(frames, D) float32: motion for `LADDER`."""
    return dequantize(smooth_levels(LADDER[-1], frames, seed, noise), LADDER[-1])
