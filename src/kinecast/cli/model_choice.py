"""Which bundled backbone animates, where none is named: the mesh for faces, a self-supervised one for all else."""

from itertools import islice
from pathlib import Path
from typing import Any

from kinecast.cli.common import DEFAULT_BACKBONE, say
from kinecast.files import existing_file

AUTO = "auto"
FACES = "mesh"
_LOOKED_AT = (0, 30, 10)  # the frames in which a face is looked for: from, to, every


def choose_model(
    named: str, driving: Any, source: Path | None, crops: tuple[str, str], forecaster: str | None = None
) -> str:
    """Return the name of the backbone to load, and say why if it was left open.

    Args:
        named: what the user named, or AUTO.
        driving: the clip, as readers take it, or a motion file.
        source: the picture, if it is another's.
        crops: how driving and source are cut.
        forecaster: what forecasts, if anything: a bundled one is of one backbone's motion.

    Raises:
        KinecastError: unreadable input.
    """
    from kinecast.forecasting.storage import WEIGHTLESS

    if named != AUTO:
        return named
    if forecaster is not None and forecaster not in WEIGHTLESS:
        return DEFAULT_BACKBONE
    if isinstance(driving, Path) and driving.suffix.lower() in (".npz", ".kcm"):
        return _model_of(driving)
    missing = [
        name
        for name, clip, crop in (("driving clip", driving, crops[0]), ("source", source, crops[1]))
        if clip is not None and not _shows_face(clip, crop)
    ]
    if missing:
        say(f"no face in the {' and the '.join(missing)}: animated by {DEFAULT_BACKBONE}, which needs none")
        return DEFAULT_BACKBONE
    return FACES


def _model_of(motion: Path) -> str:
    """Return the backbone of a motion file, or the one that a stream names, if it is bundled."""
    from kinecast.codec.stream import StreamReader
    from kinecast.motion import Motion
    from kinecast.zoo import names

    if motion.suffix.lower() == ".npz":
        return FACES if Motion.load(motion).backbone == FACES else DEFAULT_BACKBONE
    with existing_file(motion, "motion stream (.kcm)").open("rb") as file:
        named = StreamReader(file).header.model_name
    return named if named in names("backbone") else DEFAULT_BACKBONE


def _shows_face(clip: Any, crop: str) -> bool:
    from kinecast.media.framing import find_face
    from kinecast.media.video import read_frames

    return find_face(islice(read_frames(clip, 256, crop), *_LOOKED_AT)) is not None
