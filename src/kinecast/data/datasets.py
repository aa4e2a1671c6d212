"""Data sets in their distributed folder layouts, split by person and checked for leaks.

voxceleb  train/ and test/ of id10291#video#first#last.mp4, or folders of frames of such names
bair      softmotion30_44k/train and test of .tfrecords (30 frames, 64x64), or folders of extracted frames
mgif      train/ and test/ of .gif
clips     one folder of clips; a regular expression selects the test persons
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from kinecast.data.tfrecord import Span, bytes_features, read_record, record_spans
from kinecast.data.video_folder import CLIP_SUFFIXES, PERSON_PATTERN, list_clips, person_of
from kinecast.errors import KinecastError
from kinecast.media.framing import crop_box, fit
from kinecast.media.pictures import PICTURE_SUFFIXES, to_tensor
from kinecast.media.video import read_frames

LAYOUTS = ("voxceleb", "bair", "mgif", "clips")
_VOXCELEB_PERSON = r"^(id\d+)[#_]"
_RECORD_SUFFIXES = (".tfrecords", ".tfrecord")
_BAIR_FOLDER = "softmotion30_44k"
_BAIR_VIEW = "image_aux1"  # the camera used by the usual conversion to folders of frames
_BAIR_SIDE = 64  # pixels
_HASHED = 1 << 20  # bytes at a time
_NAMED = 5  # names that a note lists


@dataclass(frozen=True)
class Clip:
    """One clip: a file, a folder of frames, or one record of a TFRecord file. `content` is the hash of its bytes."""

    name: str
    person: str
    path: Path
    record: Span | None = None
    content: str = ""

    def frames(self, size: tuple[int, int], crop: str = "center", limit: int | None = None) -> Iterator[np.ndarray]:
        """Yield its frames, uint8 (H, W, 3), cropped and scaled to `size` as `read_frames` does.

        Raises:
            KinecastError: it cannot be read.
        """
        if self.record is None:
            return read_frames(self.path, size, crop, limit)
        pictures = _bair_frames(self.path, self.record)
        box = crop_box((_BAIR_SIDE, _BAIR_SIDE), size, "none" if crop == "none" else "center")
        return (fit(picture, box, size) for picture in pictures[:limit])

    def first_frame(self, size: tuple[int, int], crop: str = "center") -> Tensor:
        """Return its first frame (1, 3, H, W) in [0, 1]."""
        return to_tensor(next(iter(self.frames(size, crop, 1))))

    def batches(self, size: tuple[int, int], crop: str = "center", batch: int = 8) -> Iterator[Tensor]:
        """Return its frames as tensors (B, 3, H, W) in [0, 1], B <= `batch`."""
        frames = self.frames(size, crop)
        return (to_tensor(np.stack(chunk)) for chunk in iter(lambda: list(islice(frames, batch)), []))

    def hashed(self) -> "Clip":
        """Return it with `content`: SHA-256 of the file, the record, or the frames' names and files."""
        digest = hashlib.sha256()
        if self.record is not None:
            with self.path.open("rb") as file:
                file.seek(self.record.offset)
                digest.update(file.read(self.record.length))
        elif self.path.is_dir():
            for picture in sorted(p for p in self.path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES):
                digest.update(f"{picture.name}\0{picture.stat().st_size}\0".encode())
                _feed(digest, picture)
        else:
            _feed(digest, self.path)
        return replace(self, content=digest.hexdigest())


@dataclass(frozen=True)
class DataSet:
    """Training clips, test clips, and notes on irregularities."""

    layout: str
    training: tuple[Clip, ...]
    test: tuple[Clip, ...]
    notes: tuple[str, ...] = ()


def open_dataset(
    folder: str | Path, layout: str, validate: str | None = None, person: str | None = None, drop_leaks: bool = True
) -> DataSet:
    """List a data set and check that no person and no file is on both sides.

    Args:
        folder: the data set's.
        layout: one of LAYOUTS.
        validate: layout "clips" only: a regular expression for the test persons.
        person: layout "clips" only: a regular expression whose group is the person in a clip's name.
        drop_leaks: remove training clips of test persons, or with a test clip's content; otherwise they are kept and
            reported.

    Raises:
        KinecastError: a missing folder, another layout, or an empty side.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise KinecastError(f"layout: expected one of {', '.join(LAYOUTS)}; found {layout!r}")
    if not folder.is_dir():
        raise KinecastError(f"{folder}: expected a folder of layout {layout}, found none there: check the path")
    if layout != "clips" and (validate or person):
        raise KinecastError(f"validate and person: layout {layout} has its own train/ and test/: drop the options")
    notes: list[str] = []
    if layout == "clips":
        training, test = _split_by_name(folder, validate, person or PERSON_PATTERN)
    else:
        training, test = (_side(folder, layout, side, notes) for side in ("train", "test"))
    training, test = ([clip.hashed() for clip in side] for side in (training, test))
    training = _without_leaks(training, test, drop_leaks, notes)
    if not training:
        raise KinecastError(
            f"{folder}: expected clips to train on, found only test persons or copies of test clips: change the split"
        )
    return DataSet(layout, tuple(training), tuple(test), tuple(notes))


def list_sources(folder: str | Path) -> tuple[Clip, ...]:
    """Return the pictures and clips of a folder as transfer sources, each its own person.

    Raises:
        KinecastError: the folder is missing or empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KinecastError(f"{folder}: expected a folder of source pictures or clips, found none there")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (*PICTURE_SUFFIXES, *CLIP_SUFFIXES))
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise KinecastError(f"{folder}: expected source pictures or clips, found none in it")
    return tuple(Clip(path.name, person_of(path.stem), path).hashed() for path in files)


def _split_by_name(folder: Path, validate: str | None, pattern: str) -> tuple[list[Clip], list[Clip]]:
    if not validate:
        raise KinecastError("layout clips: expected a regular expression of the persons to test on: add --validate")
    try:
        groups = re.compile(pattern).groups
        re.compile(validate)
    except re.error as error:
        raise KinecastError(f"validate and person: expected regular expressions, found an error: {error}") from error
    if not groups:
        raise KinecastError(f"person {pattern!r}: expected a regular expression with a group, found none in it")
    clips = [Clip(path.stem, person_of(path.stem, pattern), path) for path in list_clips([folder])]
    test = [clip for clip in clips if re.search(validate, clip.person)]
    training = [clip for clip in clips if clip not in test]
    if not training or not test:
        names = ", ".join(sorted({clip.person for clip in clips})[:8])
        raise KinecastError(
            f"validate {validate!r}: expected it to match some persons and not all, found {len(test)} of "
            f"{len(clips)} clips; persons are {names}"
        )
    return training, test


def _side(folder: Path, layout: str, side: str, notes: list[str]) -> list[Clip]:
    folder = split_folder(folder, layout)
    inside = folder / side
    if not inside.is_dir():
        raise KinecastError(
            f"{folder}: expected train/ and test/ of layout {layout}, found no {side}/: check the path, or use "
            "--layout clips with --validate"
        )
    clips = sorted(found_in(inside, inside, layout, notes), key=lambda clip: clip.name)
    if not clips:
        wanted = {"voxceleb": "mp4 files or folders of frames", "bair": ".tfrecords or folders of frames"}
        raise KinecastError(f"{inside}: expected {wanted.get(layout, '.gif files')}, found none in it")
    return clips


def split_folder(folder: Path, layout: str) -> Path:
    """Return the folder that holds train/ and test/: BAIR's archive has one more around them."""
    within = folder / _BAIR_FOLDER
    return within if layout == "bair" and within.is_dir() else folder


def found_in(folder: Path, root: Path, layout: str, notes: list[str]) -> Iterator[Clip]:
    """Yield the clips of one side in the layout's forms, at any depth; names start with the side."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        inside = path.relative_to(root).with_suffix("" if path.is_file() else path.suffix).as_posix()
        name = f"{root.name}/{inside}"
        if path.is_dir():
            if layout != "mgif" and any(p.suffix.lower() in PICTURE_SUFFIXES for p in path.iterdir()):
                yield Clip(name, person_in(inside, layout) or name, path)
            else:
                yield from found_in(path, root, layout, notes)
        elif layout == "bair" and path.suffix.lower() in _RECORD_SUFFIXES:
            spans, damage = record_spans(path)
            if damage:
                notes.append(f"{path}: {damage}: the {len(spans)} whole records before it are used")
            for i, span in enumerate(spans):
                yield Clip(f"{name}/{i}", f"{name}/{i}", path, span)
        elif path.suffix.lower() in ({".gif"} if layout == "mgif" else CLIP_SUFFIXES):
            yield Clip(name, person_in(inside, layout) or name, path)


def person_in(name: str, layout: str) -> str | None:
    """Return the person in a clip's name; None if the data set distinguishes clips only."""
    if layout != "voxceleb":
        return None
    match = re.search(_VOXCELEB_PERSON, name)
    if not match:
        raise KinecastError(
            f"layout voxceleb: expected names that start with the person, such as id10291#video#001217#001424.mp4; "
            f"found {name}: rename it, or use --layout clips with --validate"
        )
    return match.group(1)


def _without_leaks(training: list[Clip], test: list[Clip], drop: bool, notes: list[str]) -> list[Clip]:
    people, contents = {clip.person for clip in test}, {clip.content for clip in test}
    same_person = [clip for clip in training if clip.person in people]
    same_content = [clip for clip in training if clip.content in contents and clip not in same_person]
    done = "taken out of training" if drop else "left in training (as released): figures are not of unseen people"
    if same_person:
        who = sorted({clip.person for clip in same_person})
        notes.append(f"{named(who)}: on both sides, {len(same_person)} training clips {done}")
    if same_content:
        names = [clip.name for clip in same_content]
        notes.append(f"{named(names)}: the same file is on the test side, {len(names)} training clips {done}")
    leaks = {*same_person, *same_content} if drop else set()
    return [clip for clip in training if clip not in leaks]


def named(names: Iterable[str]) -> str:
    """Return the first few names and the number of the others."""
    names = list(names)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _bair_frames(path: Path, span: Span) -> list[np.ndarray]:
    features = bytes_features(read_record(path, span))
    frames: list[np.ndarray] = []
    while (data := features.get(f"{len(frames)}/{_BAIR_VIEW}/encoded")) is not None:
        if len(data) != 3 * _BAIR_SIDE**2:
            raise KinecastError(
                f"{path}: expected pictures of {_BAIR_SIDE}x{_BAIR_SIDE} RGB bytes, found {len(data)} bytes in frame "
                f"{len(frames)}"
            )
        frames.append(np.frombuffer(data, np.uint8).reshape(_BAIR_SIDE, _BAIR_SIDE, 3))
    if not frames:
        raise KinecastError(f"{path}: expected features 0/{_BAIR_VIEW}/encoded and on, found {sorted(features)[:4]}")
    return frames


def _feed(digest: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(_HASHED):
            digest.update(chunk)
