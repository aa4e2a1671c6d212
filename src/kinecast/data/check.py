"""Missing or broken clips of a data set, found before hours are spent on it.

Every clip is decoded to its end. *Broken* clips would stop a run or invalidate its figures: unreadable, truncated, too
short, of a wrong size, or missing; and a person or identical file on both sides of the split. *Odd* clips are
tolerated: duplicates on one side, an unusual size, an empty folder, and clips that kinecast shows correctly but other
programs may not: variable or misstated frame rate, HDR, rotated or mirrored, non-square pixels, interlaced,
transparent, or large without a colour matrix.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

# Files and names come from the readers' own functions, so that what is checked is what is read.
from kinecast.data.datasets import LAYOUTS, Clip, found_in, person_in, split_folder
from kinecast.data.video_folder import CLIP_SUFFIXES, PERSON_PATTERN, person_of
from kinecast.errors import ConversionWarning, KinecastError, KinecastWarning, one_line
from kinecast.files import existing_file
from kinecast.media.notes import Note, clip_notes
from kinecast.media.pictures import PICTURE_SUFFIXES
from kinecast.media.video import read_frames

_BAIR_SIZE = (64, 64)
_SPLIT = ("train", "test")


@dataclass(frozen=True)
class CheckConfig:
    """Expectations: `size` (height, width) or None, at least `min_frames`; for layout clips, the test persons."""

    layout: str = "clips"
    size: tuple[int, int] | None = None
    min_frames: int = 2
    validate: str | None = None
    person: str | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise KinecastError(f"layout: expected one of {', '.join(LAYOUTS)}; found {self.layout!r}")
        if self.layout != "clips" and (self.validate or self.person):
            raise KinecastError(
                f"validate and person: layout {self.layout} has its own train/ and test/: drop the options"
            )
        if self.min_frames < 1 or self.workers < 1:
            raise KinecastError(
                f"check: expected at least 1 frame and 1 worker, found {self.min_frames} and {self.workers}"
            )
        for name, pattern in (("validate", self.validate), ("person", self.person)):
            try:
                groups = re.compile(pattern or "()").groups
            except re.error as error:
                raise KinecastError(f"{name} {pattern!r}: expected a regular expression: {error}") from error
            if name == "person" and not groups:
                raise KinecastError(f"person {pattern!r}: expected a regular expression with a group, found none in it")


class Finding(NamedTuple):
    """One problem with one clip. `kind` groups problems for counting."""

    level: Literal["broken", "odd"]
    clip: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:6s}  {self.clip}: {self.text}"


@dataclass
class Report:
    """The findings; `sides` maps each side to its number of clips."""

    sides: dict[str, int]
    frames: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """Number of broken findings."""
        return sum(finding.level == "broken" for finding in self.findings)


class _Listed(NamedTuple):
    side: str
    clip: Clip


class _Read(NamedTuple):
    """The result of reading a clip to its end; `content` is the hash of its bytes, empty if unreadable."""

    frames: int
    size: tuple[int, int] | None
    content: str
    kind: str = ""
    error: str = ""
    notes: tuple[Note, ...] = ()


def check_dataset(
    folder: str | Path,
    config: CheckConfig,
    lists: Sequence[Path] = (),
    done: Callable[[str, int], None] = lambda kind, count: None,
) -> Report:
    """Read a whole data set and report its problems. `lists` are files of clips that should exist, one per line.

    Raises:
        KinecastError: the folder or a list does not exist; everything else is a finding.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KinecastError(f"{folder}: expected a folder of layout {config.layout}, found none there: check the path")
    folder = split_folder(folder, config.layout)
    findings: list[Finding] = []
    listed = list(_listed(folder, config, findings))
    report = Report(dict(Counter(entry.side for entry in listed)), findings=findings)
    findings += _missing(listed, lists)
    results = []
    for entry, result in zip(listed, _read_all([entry.clip for entry in listed], config.workers), strict=True):
        results.append(result)
        report.frames += result.frames
        findings += _of_clip(entry.clip, result, config)
        done("clips", 1)
    findings += _sizes([entry.clip for entry in listed], results, config)
    findings += _on_both_sides(listed)
    findings += _twice(listed, results)
    return report


def _listed(folder: Path, config: CheckConfig, findings: list[Finding]) -> Iterator[_Listed]:
    """Yield the clips, and record why others cannot be listed."""
    if config.layout == "clips":
        clips = sorted(p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and not p.name.startswith("."))
        for path in clips:
            person = person_of(path.stem, config.person or PERSON_PATTERN)
            tested = bool(config.validate and re.search(config.validate, person))
            yield _Listed("test" if tested else "train", Clip(path.stem, person, path))
        sides = {"clips": bool(clips)}
    else:
        sides = {}
        for side in _SPLIT:
            inside = folder / side
            found = list(_clips_of(inside, config.layout, findings)) if inside.is_dir() else []
            sides[side] = bool(found)
            yield from (_Listed(side, clip) for clip in found)
    for side, there in sides.items():
        if not there:
            where = folder if side == "clips" else folder / side
            findings.append(Finding("broken", str(where), "missing", f"expected clips of layout {config.layout} there"))


def _clips_of(inside: Path, layout: str, findings: list[Finding]) -> Iterator[Clip]:
    """Yield one side's clips; names without a person, truncated record files and empty folders are recorded."""
    walk = layout if layout == "mgif" else "bair"  # the readers' own function, without checks of names
    notes: list[str] = []
    clips = sorted(found_in(inside, inside, walk, notes), key=lambda clip: clip.name)
    for note in notes:
        file, _, damage = note.partition(": ")
        name = Path(file).relative_to(inside.parent).as_posix()
        findings.append(Finding("broken", name, "cut off", damage))
    known = {clip.path for clip in clips}
    for path in sorted(inside.rglob("*")):
        if path.is_dir() and path not in known and not any(path.iterdir()):
            name = path.relative_to(inside.parent).as_posix()
            findings.append(Finding("odd", name, "empty", "an empty folder: a clip without frames, or a leftover"))
    for clip in clips:
        try:
            person = person_in(clip.name.partition("/")[2], layout) or clip.name
        except KinecastError as error:
            findings.append(Finding("broken", clip.name, "name", str(error)))
            continue
        yield Clip(clip.name, person, clip.path, clip.record)


def _missing(listed: Sequence[_Listed], lists: Sequence[Path]) -> Iterator[Finding]:
    """Yield clips that lists name and the folder lacks. A line is a name, or a path whose last part counts."""
    there = {entry.clip.path.name for entry in listed} | {Path(entry.clip.name).name for entry in listed}
    for path in lists:
        lines = existing_file(path, "list of clips").read_text().splitlines()
        for number, line in enumerate(lines, 1):
            name = Path(line.strip()).name
            if name and not line.startswith("#") and name not in there and _stem(name) not in there:
                yield Finding("broken", name, "missing", f"named in {path.name}, line {number}, but not in the folder")


def _stem(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return name[: -len(suffix)] if suffix in CLIP_SUFFIXES | set(PICTURE_SUFFIXES) else name


def _read_all(clips: Sequence[Clip], workers: int) -> Iterator[_Read]:
    if workers == 1:
        yield from map(_read, clips)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_read, clips, chunksize=8)


def _read(clip: Clip) -> _Read:
    """Decode a clip to its end."""
    frames, size, content = 0, None, ""
    notes: tuple[Note, ...] = ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", KinecastWarning)
        try:
            content = clip.hashed().content
            pictures = read_frames(clip.path, crop="none") if clip.record is None else clip.frames(_BAIR_SIZE, "none")
            notes = tuple(clip_notes(clip.path)) if clip.record is None else ()
            for picture in pictures:
                size = (picture.shape[0], picture.shape[1])
                frames += 1
        except (KinecastError, OSError) as error:
            return _Read(frames, size, content, _kind(clip), _without_path(error, clip))
    cut = next((w.message for w in caught if _is_damage(w.category)), None)
    return _Read(frames, size, content, "cut off" if cut else "", _without_path(cut, clip) if cut else "", notes)


def _is_damage(category: type[Warning]) -> bool:
    return issubclass(category, KinecastWarning) and not issubclass(category, ConversionWarning)


def _kind(clip: Clip) -> str:
    return "empty" if clip.path.is_file() and clip.path.stat().st_size == 0 else "unreadable"


def _without_path(error: object, clip: Clip) -> str:
    return one_line(error).removeprefix(f"{clip.path}: ")


def _of_clip(clip: Clip, result: _Read, config: CheckConfig) -> Iterator[Finding]:
    if result.error:
        yield Finding("broken", clip.name, result.kind, result.error)
    elif result.frames < config.min_frames:
        text = f"expected at least {config.min_frames} frames, found {result.frames}"
        yield Finding("broken", clip.name, "too short", text)
    for kind, text in result.notes:
        yield Finding("odd", clip.name, kind, text)
    if config.size and result.size and result.size != config.size:
        yield Finding("broken", clip.name, "size", f"expected {_shown(config.size)}, found {_shown(result.size)}")


def _sizes(clips: Sequence[Clip], results: Sequence[_Read], config: CheckConfig) -> Iterator[Finding]:
    """If no size is required, yield the clips whose size differs from most others."""
    sizes = Counter(result.size for result in results if result.size)
    if config.size or len(sizes) < 2:
        return
    usual, count = sizes.most_common(1)[0]
    for clip, result in zip(clips, results, strict=True):
        if result.size and result.size != usual and 2 * count > len(clips):
            yield Finding("odd", clip.name, "size", f"{_shown(result.size)}, where most clips are {_shown(usual)}")


def _on_both_sides(listed: Sequence[_Listed]) -> Iterator[Finding]:
    tested = {entry.clip.person: entry.clip.name for entry in listed if entry.side == "test"}
    for side, clip in listed:
        if side == "train" and clip.person in tested:
            text = f"{clip.person} is on the test side too, as {tested[clip.person]}"
            yield Finding("broken", clip.name, "person", text)


def _twice(listed: Sequence[_Listed], results: Sequence[_Read]) -> Iterator[Finding]:
    """Yield duplicate contents, on both sides or on one."""
    hashed = [(r.content, entry) for entry, r in zip(listed, results, strict=True) if r.content and r.frames]
    hashed.sort(key=lambda pair: (pair[0], pair[1].side, pair[1].clip.name))
    for _, group in groupby(hashed, key=lambda pair: pair[0]):
        (_, first), *others = group
        for _, other in others:
            across = other.side != first.side
            text = f"the same content as {first.clip.name}" + (", on the other side of the split" if across else "")
            yield Finding("broken" if across else "odd", other.clip.name, "duplicate", text)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def counted(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Return how many findings there are of each kind, by level."""
    counts: dict[str, dict[str, int]] = {"broken": {}, "odd": {}}
    for finding in findings:
        counts[finding.level][finding.kind] = counts[finding.level].get(finding.kind, 0) + 1
    return counts
