"""What the other side sees of a person: clips as a call draws them, and how near they come to that person's face.

The pictures are as `mesh` draws them, from motion that was found once: of the person's own first frame ("me"), and of
one chosen picture, the same for all people, moved relatively (as a call does) and absolutely. Identity is the distance
of two pictures in dlib's network; it takes less than 0.6 as the same person.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anonymity_motion import interval

from kinecast.apps.heads.drawing import HeadDrawing
from kinecast.apps.heads.expression import Expressions
from kinecast.apps.heads.glb import own_head
from kinecast.apps.portrait.crops import head_crop
from kinecast.media.pictures import open_picture, to_tensor, to_uint8
from kinecast.media.video import read_frames
from kinecast.media.writer import VideoWriter
from kinecast.models.base import Source
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

SIDE, FRAMES, EVERY, LOOKED = 256, 96, 12, 2  # pixels; of a clip; drawn; looked at
MODES = ("relative", "absolute")


def of_picture(model: Mesh, picture: np.ndarray) -> Source:
    """Return the head of a picture (H, W, 3) as a source.

    Raises:
        KinecastError: no face in it.
    """
    face = model.landmarker.detect(picture)[0]
    crop = head_crop(face, picture.shape[:2])
    square = picture[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    return model.source(to_tensor(np.ascontiguousarray(square)))


def draw(model: Mesh, source: Source, motion: Motion, path: Path) -> None:
    """Write the source moved by absolute motion."""
    with VideoWriter(path, 25, quality=8) as writer:
        for start in range(0, len(motion), 8):
            for frame in to_uint8(model.render(source, motion[start : start + 8], SIDE)):
                writer.write(frame)


def draw_head(model: Mesh, motion: Motion, path: Path) -> None:
    """Write kinecast's own 3-D head moved so."""
    drawing = HeadDrawing(own_head(), SIDE)
    with VideoWriter(path, 25, quality=8) as writer:
        for pose in Expressions(model)(motion):
            writer.write(drawing.draw(pose))


def make(
    model: Mesh, clips: Mapping[str, Path], motions: Mapping[str, Motion], stills: Sequence[Path], folder: Path
) -> list[tuple[str, int, Path]]:
    """Draw what there is not yet; return by name every how many frames to look at which file, own clips among them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed: list[tuple[str, int, Path]] = [(f"person/{person}", EVERY * LOOKED, clip) for person, clip in clips.items()]
    sources = {still.stem: of_picture(model, _picture(still)) for still in stills}
    listed += [(f"picture/{still.stem}", 1, still) for still in stills]
    for person, clip in clips.items():
        motion = motions[person][:FRAMES]
        shown = ["me", *(f"{mode}/{name}" for name in sources for mode in MODES)]
        for name in shown:
            path = folder / f"{name.replace('/', '_')}_{person}.mp4"
            if not path.exists():
                source = model.source(to_tensor(_first(clip))) if name == "me" else sources[name.split("/")[1]]
                is_relative = name.startswith("relative")
                moved = model.retarget(source.motion, motion[0])(motion) if is_relative else motion
                draw(model, source, moved[::EVERY], path)
            listed.append((f"{name}/{person}", LOOKED, path))
        path = folder / f"head_{person}.mp4"
        if not path.exists():
            draw_head(model, model.retarget(model.neutral(), motion[0])(motion)[::EVERY], path)
        listed.append((f"head/{person}", LOOKED, path))
    return listed


def _picture(path: Path) -> np.ndarray:
    picture = open_picture(path)
    assert picture is not None
    return picture


def _first(clip: Path) -> np.ndarray:
    return next(iter(read_frames(clip)))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance between the pictures of two clips, described (n, 128) and (m, 128)."""
    if not len(one) or not len(other):
        return float("nan")
    return float(np.linalg.norm(one[:, None] - other[None], axis=2).mean())


def distances(
    seen: Mapping[str, np.ndarray], people: Sequence[str], others: Mapping[str, str], stills: Sequence[str]
) -> dict[str, Any]:
    """Return by row the distances to the person, by person, and how often the nearest of all people was the right one.

    Args:
        seen: descriptions by the names of `make`, and `other/person` of another clip of those who have one.
        people: who.
        others: what the second clips are: "same recording" or "another recording", by person.
        stills: names of the chosen pictures.
    """
    own = {person: seen[f"person/{person}"] for person in people}
    rows: dict[str, Any] = {}
    for kind in ("same recording", "another recording"):
        rows[f"the person, another clip ({kind})"] = _row(
            {p: seen[f"other/{p}"] for p in people if others.get(p) == kind}, own
        )
    rows["me, rebuilt by the call"] = _row({p: seen[f"me/{p}"] for p in people}, own)
    for still in stills:
        for mode in MODES:
            rows[f"{still}, {mode}"] = _row(
                {p: seen[f"{mode}/{still}/{p}"] for p in people}, own, seen[f"picture/{still}"]
            )
        rows[f"{still}, the picture itself"] = _row({p: seen[f"picture/{still}"] for p in people}, own)
    rows["a 3-D head"] = _row({p: seen[f"head/{p}"] for p in people}, own)
    rows["other people"] = {
        "to person": [float(np.nanmean([apart(own[p], own[q]) for q in people if q != p])) for p in people]
    }
    return rows


def _row(
    shown: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], picture: np.ndarray | None = None
) -> dict[str, Any]:
    """Return how far what is shown of each person is from that person, and whether everybody else is farther."""
    if not shown:
        return {"to person": []}
    to = {p: {q: apart(found, own[q]) for q in own} for p, found in shown.items()}
    row: dict[str, Any] = {"to person": [to[p][p] for p in shown]}
    row["named"] = [float(min(to[p], key=lambda q: to[p][q]) == p) if np.isfinite(to[p][p]) else 0.0 for p in shown]
    row["nearer"] = [float(to[p][p] < 0.6) for p in shown]
    if picture is not None:
        row["to picture"] = [apart(found, picture) for found in shown.values()]
    return row


def cells(name: str, row: Mapping[str, Any]) -> list[str]:
    """Return a row of the report's table."""

    def spread(values: Sequence[float]) -> str:
        known = [value for value in values if np.isfinite(value)]
        if not known:
            return "-"
        mean, low, high = interval(known)
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"

    shares = [f"{100 * float(np.mean(row[key])):.0f} %" if row.get(key) else "-" for key in ("nearer", "named")]
    return [
        name,
        str(len(row["to person"])),
        spread(row["to person"]),
        shares[0],
        spread(row.get("to picture", [])),
        shares[1],
    ]
