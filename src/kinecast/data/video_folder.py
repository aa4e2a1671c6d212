"""Folders of clips as training data: frames are decoded once to a cache and picked from there by position."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.video import READING, read_frames

CLIP_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif"}
PERSON_PATTERN = r"^(id\d+)_"  # VoxCeleb names start with the person; elsewhere each clip is its own person


def person_of(clip: str, pattern: str = PERSON_PATTERN) -> str:
    """Return the person in a clip's name: what the pattern, or its first group, matches, else the whole name."""
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
        files = (path for path in folder.iterdir() if not path.name.startswith("."))  # half-written ones are hidden
        found = sorted(path for path in files if path.suffix.lower() in CLIP_SUFFIXES)
        if not found:
            raise KinecastError(f"{folder}: expected clips ({', '.join(sorted(CLIP_SUFFIXES))}), found none in it")
        clips += found
    return clips


@dataclass(frozen=True)
class CachedClip:
    """One clip's frames (T, H, W, 3) uint8, mapped from disk."""

    name: str
    person: str
    frames: np.ndarray


def load_clip(path: Path, size: tuple[int, int], crop: str, cache: Path, person_pattern: str) -> CachedClip:
    """Decode a clip into the cache, or find it there: the key is the file's path, size and time, and the framing."""
    stat = path.stat()
    key = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, size, crop, READING])
    cached = make_folder(cache) / f"{path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not cached.exists():
        frames = np.stack(list(read_frames(path, size=size, crop=crop)))
        with atomic_path(cached) as temporary:
            np.save(temporary, frames)
    return CachedClip(path.stem, person_of(path.stem, person_pattern), np.load(cached, mmap_mode="r"))


class PairSampler:
    """Draws pairs of frames of one clip; step s of seed e is the same batch in every run and on every machine.

    Persons are drawn with probability proportional to frames^balance, so that a person of many clips does not fill
    the batches; then a clip by its length; then two frames.
    """

    def __init__(self, clips: Sequence[CachedClip], seed: int, balance: float = 0.5) -> None:
        usable = [clip for clip in clips if len(clip.frames) > 1]
        if not usable:
            raise KinecastError("training data: expected clips of at least 2 frames, found none: add longer clips")
        self.seed = seed
        self.people = sorted({clip.person for clip in usable})
        self.clips = [[clip for clip in usable if clip.person == person] for person in self.people]
        self.lengths = [np.array([len(clip.frames) for clip in clips], dtype=float) for clips in self.clips]
        weights = np.array([lengths.sum() for lengths in self.lengths]) ** balance
        self.weights = weights / weights.sum()

    def pairs(self, step: int, size: int) -> np.ndarray:
        """Return source and driving frames of `step` as they are stored: uint8 (size, 2, H, W, 3)."""
        random = np.random.default_rng([self.seed, step])
        pairs = []
        for _ in range(size):
            person = random.choice(len(self.people), p=self.weights)
            lengths = self.lengths[person]
            frames = self.clips[person][random.choice(len(lengths), p=lengths / lengths.sum())].frames
            pairs.append(frames[random.choice(len(frames), 2, replace=False)])
        return np.stack(pairs)


def on_device(pairs: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return source and driving frames of `PairSampler.pairs` on a device, each (size, 3, H, W) in [0, 1]."""
    stacked = torch.from_numpy(pairs).to(device).permute(1, 0, 4, 2, 3).float() / 255
    return stacked[0], stacked[1]
