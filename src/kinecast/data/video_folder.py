"""Folders of clips as training data: frames are decoded once to a cache and read from there by index."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.media.video import READING, read_frames

CLIP_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif"}
_TRIED = 6  # candidate frames, of which the furthest is taken
PART = "~"  # before the number of a stretch of a clip that is used in several
PERSON_PATTERN = r"^(id\d+)_"  # VoxCeleb names start with the person; elsewhere each clip is its own person


def person_of(clip: str, pattern: str = PERSON_PATTERN) -> str:
    """Return the person in a clip's name: the match of the pattern or of its first group, else the whole name."""
    clip = re.sub(rf"{PART}\d+$", "", clip)
    match = re.search(pattern, clip)
    return match.group(min(1, match.re.groups)) if match else clip


def list_clips(folders: Sequence[str | Path]) -> list[Path]:
    """Return the clips directly in the given folders, sorted within each.

    Raises:
        KinecastError: a folder is missing or holds no clip.
    """
    clips: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise KinecastError(f"{folder}: expected a folder of clips, found none there: check the path")
        files = (path for path in folder.iterdir() if not path.name.startswith("."))  # partial ones are hidden
        found = sorted(path for path in files if path.suffix.lower() in CLIP_SUFFIXES)
        if not found:
            raise KinecastError(f"{folder}: expected clips ({', '.join(sorted(CLIP_SUFFIXES))}), found none in it")
        clips += found
    return clips


@dataclass(frozen=True)
class CachedClip:
    """One clip's frames (T, H, W, 3) uint8, mapped from disk.

    `points` (T, P, 3), if precomputed, are the landmarks of each frame, NaN where there are none.
    """

    name: str
    person: str
    frames: np.ndarray
    points: np.ndarray | None = None

    @property
    def usable(self) -> np.ndarray:
        """Indices of the frames usable for training."""
        known = np.ones(len(self.frames), bool) if self.points is None else np.isfinite(self.points).all(axis=(1, 2))
        return np.flatnonzero(known)


class Pairs(NamedTuple):
    """Source and driving frames as stored, uint8 (B, 2, H, W, 3), and their points (B, 2, P, 3) if known."""

    frames: np.ndarray
    points: np.ndarray | None


Find = Callable[[np.ndarray], np.ndarray]  # from the frames (T, H, W, 3) of a clip to their points (T, P, 3)


def load_clip(
    path: Path,
    size: tuple[int, int],
    crop: str,
    cache: Path,
    person_pattern: str,
    every: int = 1,
    find: Find | None = None,
) -> CachedClip:
    """Return every n-th frame of a clip, and what `find` returns for them, decoded once into the cache.

    The key consists of the file's path, size and modification time, and the framing.
    """
    stat = path.stat()
    key = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, size, crop, READING, every])
    cached = make_folder(cache) / f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not cached.exists():
        _save(cached, np.stack(list(islice(read_frames(path, size=size, crop=crop), 0, None, every))))
    frames, points = np.load(cached, mmap_mode="r"), None
    if find is not None:
        found = cached.with_suffix(".found.npy")
        if not found.exists():
            _save(found, find(frames))
        points = np.load(found)
    return CachedClip(path.stem, person_of(path.stem, person_pattern), frames, points)


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array)


class PairSampler:
    """Samples pairs of frames of one clip; step s of seed e is the same batch in every run and on every machine.

    Persons are sampled with probability proportional to frames^balance, so that one with many clips does not dominate;
    then a clip by its length; then two frames. With probability `far` the second is the one of six candidates whose
    points are furthest from the first's.
    """

    def __init__(self, clips: Sequence[CachedClip], seed: int, balance: float = 0.5, far: float = 0.0) -> None:
        usable = [clip for clip in clips if len(clip.usable) > 1]
        if not usable:
            raise KinecastError("training data: expected clips of at least 2 frames, found none: add longer clips")
        self.seed, self.far = seed, far
        self.people = sorted({clip.person for clip in usable})
        self.clips = [[clip for clip in usable if clip.person == person] for person in self.people]
        self.lengths = [np.array([len(clip.usable) for clip in clips], dtype=float) for clips in self.clips]
        weights = np.array([lengths.sum() for lengths in self.lengths]) ** balance
        self.weights = weights / weights.sum()

    def pairs(self, step: int, size: int) -> Pairs:
        """Return the pairs of a step; clips without points give none."""
        random = np.random.default_rng([self.seed, step])
        frames, points = [], []
        for _ in range(size):
            person = random.choice(len(self.people), p=self.weights)
            lengths = self.lengths[person]
            clip = self.clips[person][random.choice(len(lengths), p=lengths / lengths.sum())]
            picked = self._pick(clip, random)
            frames.append(clip.frames[picked])
            if clip.points is not None:
                points.append(clip.points[picked])
        return Pairs(np.stack(frames), np.stack(points) if points else None)

    def _pick(self, clip: CachedClip, random: np.random.Generator) -> np.ndarray:
        """Return the indices (2,) of two frames."""
        picked = clip.usable[random.choice(len(clip.usable), 2, replace=False)]
        if clip.points is not None and random.random() < self.far:
            others = clip.usable[random.choice(len(clip.usable), _TRIED)]
            distances = np.abs(clip.points[others] - clip.points[picked[0]]).mean(axis=(1, 2))
            picked[1] = others[distances.argmax()]
        return picked


def on_device(frames: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return source and driving frames of `Pairs.frames` on a device, each (B, 3, H, W) in [0, 1]."""
    stacked = torch.from_numpy(frames).to(device).permute(1, 0, 4, 2, 3).float() / 255
    return stacked[0], stacked[1]
