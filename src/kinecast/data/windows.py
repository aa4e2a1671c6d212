"""Windows of N observed and H following frames, and the split by person.

Notation: T frames of a clip, N observed, H horizon, D numbers per frame, W windows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.errors import KinecastError

Series = Mapping[str, Tensor]  # clip name to its motion (T, D)


class Horizon(NamedTuple):
    """N observed and H forecast frames, written `N-H`."""

    observed: int
    forecast: int

    @property
    def frames(self) -> int:
        """N + H."""
        return self.observed + self.forecast

    def __str__(self) -> str:
        return f"{self.observed}-{self.forecast}"


@dataclass(frozen=True)
class Windows:
    """Windows (W, N+H, D), and the clip that each is from."""

    frames: Tensor
    clips: list[str]
    horizon: Horizon

    @property
    def observed(self) -> Tensor:
        """(W, N, D)."""
        return self.frames[:, : self.horizon.observed]

    @property
    def truth(self) -> Tensor:
        """(W, H, D)."""
        return self.frames[:, self.horizon.observed :]


def parse_horizon(text: str) -> Horizon:
    """Read `12-12` as 12 observed frames and a forecast of 12.

    Raises:
        KinecastError: it is not two positive integers.
    """
    match = re.fullmatch(r"\s*(\d+)-(\d+)\s*", text)
    if not match or min(map(int, match.groups())) < 1:
        raise KinecastError(f"horizon: expected OBSERVED-FORECAST frames, such as 12-12; found {text!r}")
    return Horizon(int(match[1]), int(match[2]))


def evaluation_windows(series: Series, horizon: Horizon, every: int = 1) -> Windows:
    """Cut each clip into non-overlapping windows from its first frame on; the remainder is dropped.

    Windows use every k-th frame of the clip, k = `every`.

    Raises:
        KinecastError: no clip is long enough, or `every` is below 1.
    """
    return _cut(series, horizon, horizon.frames * every, every)


def training_windows(series: Series, horizon: Horizon, stride: int = 1, every: int = 1) -> Windows:
    """Cut windows that start every `stride` frames and use every k-th frame, k = `every`.

    Raises:
        KinecastError: no clip is long enough, or the stride or `every` is below 1.
    """
    if stride < 1:
        raise KinecastError(f"training windows: expected a stride of at least 1, found {stride}")
    return _cut(series, horizon, stride, every)


def frames_needed(horizon: Horizon, every: int = 1) -> int:
    """Return how many consecutive frames one window of every k-th frame spans."""
    return (horizon.frames - 1) * every + 1


def window_count(length: int, horizon: Horizon, every: int = 1) -> int:
    """Return how many windows `evaluation_windows` cuts from a clip of that many frames."""
    return len(range(0, length - frames_needed(horizon, every) + 1, horizon.frames * every))


def too_short(horizon: Horizon, every: int = 1) -> str:
    """State the clip length that a horizon needs, for messages."""
    of = f", one frame in {every}," if every > 1 else ""
    return f"horizon {horizon}{of} needs at least {frames_needed(horizon, every)}"


def split_by_person(
    series: Series, validate: str, pattern: str = PERSON_PATTERN
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the training clips and the held-out ones: all clips of every person that `validate` (a regex) matches.

    The person is the first group of `pattern` in the clip's name, by default in VoxCeleb's form; in other names each
    clip is its own person.

    Raises:
        KinecastError: it matches no person, or all of them; or a pattern is not a regular expression or has no group.
    """
    _check_patterns(validate, pattern)
    people = {clip: person_of(clip, pattern) for clip in series}
    kept_out = {clip: motion for clip, motion in series.items() if re.search(validate, people[clip])}
    training = {clip: motion for clip, motion in series.items() if clip not in kept_out}
    if not kept_out or not training:
        names = ", ".join(sorted(set(people.values()))[:8])
        raise KinecastError(
            f"validate {validate!r}: expected it to match some persons and not all, found {len(kept_out)} of "
            f"{len(series)} clips; persons are {names}"
        )
    return training, kept_out


def _cut(series: Series, horizon: Horizon, stride: int, every: int) -> Windows:
    if every < 1:
        raise KinecastError(f"windows: expected every frame, or one in several, found one in {every}")
    needed = frames_needed(horizon, every)
    frames, clips = [], []
    for clip, motion in series.items():
        for start in range(0, len(motion) - needed + 1, stride):
            frames.append(motion[start : start + needed : every])
            clips.append(clip)
    if not frames:
        longest = max((len(motion) for motion in series.values()), default=0)
        which = "the clip has" if len(series) == 1 else f"the longest of {len(series)} clips has"
        raise KinecastError(
            f"{which} {longest} frames; {too_short(horizon, every)}: choose a shorter horizon or a longer clip"
        )
    return Windows(torch.stack(frames), clips, horizon)


def _check_patterns(validate: str, pattern: str) -> None:
    for name, text in (("validate", validate), ("person", pattern)):
        try:
            groups = re.compile(text).groups
        except re.error as error:
            raise KinecastError(f"{name} {text!r}: expected a regular expression: {error}") from error
        if name == "person" and not groups:
            raise KinecastError(
                f"person {text!r}: expected a regular expression with a group, such as {PERSON_PATTERN!r}"
            )
