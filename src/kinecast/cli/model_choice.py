"""Which bundled backbone is used if none is named: the mesh for faces, a self-supervised one for everything else."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DEFAULT_BACKBONE, say
from kinecast.errors import KinecastError
from kinecast.files import existing_file

AUTO = "auto"
FACES = "mesh"
_LOOKED_AT = (0, 30, 10)  # frames searched for a face: from, to, step
AutoModelOption = Annotated[
    str,
    typer.Option(
        "--model", help="Backbone: a name of `kinecast zoo list`, or a file; auto is mesh for faces, else face-128."
    ),
]


def choose_model(
    named: str, driving: Any, source: Path | None, crops: tuple[str | None, str | None], forecaster: str | None = None
) -> str:
    """Return the name of the backbone to load for an animation, and report why if none was named.

    Args:
        named: the user's choice, or AUTO.
        driving: the clip, in any form the readers accept, or a motion file.
        source: the picture, if it is not the clip's own first frame.
        crops: crop policies of driving and source; None searches the whole frames.
        forecaster: the forecaster, if any: its weights belong to one backbone's motion.

    Raises:
        KinecastError: unreadable input.
    """
    from kinecast.apps.stream.gfv.reading import carries_gfv

    if named != AUTO:
        return named
    if isinstance(driving, Path) and (driving.suffix.lower() in (".npz", ".csv", ".kcm") or carries_gfv(driving)):
        return model_of(driving)
    shown = [("driving clip", driving, crops[0]), ("source", source, crops[1])]
    return _faces_or_other(shown, "animated by", forecaster)


def choose_for_clip(named: str, clip: Any, crop: str, forecaster: str | None = None) -> str:
    """Return the name of the backbone that extracts one clip's motion, and report why if none was named.

    Raises:
        KinecastError: unreadable input.
    """
    return named if named != AUTO else _faces_or_other([("clip", clip, crop)], "selected", forecaster)


def choose_for_clips(named: str, clips: Sequence[Path], crop: str) -> str:
    """Return one backbone for several clips, so that their motion is of one kind: the first readable clip decides."""
    if named != AUTO:
        return named
    for clip in clips:
        try:
            return _faces_or_other([(f"first clip, {clip.name}", clip, crop)], "selected for all clips", None)
        except KinecastError:  # it is skipped and reported later
            continue
    return FACES


def choose_for_call(named: str, clip: Path | None, avatar: Path | None, crop: str, forecaster: str | None) -> str:
    """Return the backbone of a call, and report why if none was named. A camera is assumed to show a face.

    Raises:
        KinecastError: an unreadable clip or avatar.
    """
    if named != AUTO:
        return named
    return _faces_or_other([("clip", clip, crop), ("avatar", avatar, "center")], "selected", forecaster)


def model_of(motion: Path) -> str:
    """Return the backbone of a motion file, or the one a stream names, if it is bundled."""
    from kinecast.apps.stream.gfv.reading import GfvClip
    from kinecast.codec.stream import StreamReader
    from kinecast.motion import Motion
    from kinecast.zoo import names

    if motion.suffix.lower() == ".csv":
        return FACES
    if motion.suffix.lower() == ".npz":
        return FACES if Motion.load(motion).backbone == FACES else DEFAULT_BACKBONE
    if motion.suffix.lower() == ".kcm":
        with existing_file(motion, "motion stream (.kcm)").open("rb") as file:
            named = StreamReader(file).header.model_name
    else:
        sender = GfvClip.open(motion).sender
        named = sender.model_name if sender is not None else DEFAULT_BACKBONE
    return named if named in names("backbone") else DEFAULT_BACKBONE


def _faces_or_other(shown: Iterable[tuple[str, Any, str | None]], what: str, forecaster: str | None) -> str:
    """Return FACES if every given clip shows one; otherwise report which does not."""
    if forecaster is not None and not _knows_faces(forecaster):
        return DEFAULT_BACKBONE
    missing = [name for name, clip, crop in shown if clip is not None and not _shows_face(clip, crop)]
    if missing:
        say(f"no face in the {' and the '.join(missing)}: {what} {DEFAULT_BACKBONE}, which needs none")
        return DEFAULT_BACKBONE
    return FACES


def _knows_faces(forecaster: str) -> bool:
    """Return whether a forecaster, by name or file, can forecast the motion of FACES."""
    from kinecast.codec.filling import FILLERS
    from kinecast.forecasting.storage import WEIGHTLESS, motion_dim_of
    from kinecast.zoo import bundled, motion_of

    if forecaster in (AUTO, *WEIGHTLESS, *FILLERS) or motion_of(forecaster) == FACES:
        return True
    if bundled(forecaster, "forecaster") or not Path(forecaster).exists():
        return False
    return motion_dim_of(Path(forecaster)) == _dim_of_faces()


def _dim_of_faces() -> int:
    from kinecast.zoo import load_backbone

    return load_backbone(FACES, "cpu", "eager").motion_dim


def _shows_face(clip: Any, crop: str | None) -> bool:
    from kinecast.media.framing import find_face
    from kinecast.media.video import read_frames

    frames = read_frames(clip, crop="none") if crop is None else read_frames(clip, 256, crop)
    return find_face(islice(frames, *_LOOKED_AT)) is not None
