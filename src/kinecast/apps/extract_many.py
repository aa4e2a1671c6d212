"""The motion of many clips, one file per clip: resumable, with any number of workers.

Beside the motion files a journal, `extract.jsonl`, has a line for each finished one, with a digest of its inputs: a
file is redone only if the clip, the weights or an option changed.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kinecast.apps.backbone_worker import BackboneWorker, model_files
from kinecast.apps.extraction import extract
from kinecast.data.datasets import Clip
from kinecast.data.video_folder import CLIP_SUFFIXES, list_clips
from kinecast.errors import KinecastError
from kinecast.files import make_folder
from kinecast.jobs.pool import WorkerPool
from kinecast.jobs.tasks import Task, TaskResult, as_bytes, digest
from kinecast.media.video import READING

JOURNAL = "extract.jsonl"
EXTRACT_VERSION = 3  # part of every key: increase it when the same clip gives different motion


@dataclass(frozen=True)
class ExtractSettings:
    """A worker's settings."""

    model: str
    weights: str  # digest of the backbone
    device: str
    engine: str
    precision: str
    crop: str
    fps: float | None
    limit: int | None
    true_fps: float | None = None


class ExtractWorker(BackboneWorker):
    """Detects motion."""

    settings: ExtractSettings

    def extract(self, clip: Path, output: Path) -> TaskResult:
        """Write the motion file of a clip; the value is its number of frames, why it is unusable, and remarks."""
        how, backbone = self.settings, self.backbone
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                motion = extract(backbone, clip, how.crop, how.fps, how.limit, true_fps=how.true_fps)
            except KinecastError as error:
                return TaskResult((0, str(error), []))
        remarks = [str(warning.message) for warning in caught]
        return TaskResult((len(motion), None, remarks), {output: as_bytes(motion.save, ".npz")})


def clips_in(paths: Sequence[Path]) -> tuple[list[Path], bool]:
    """Return clips, with folders replaced by their clips, and whether several were given.

    A folder without clips is a clip itself: a folder of pictures.

    Raises:
        KinecastError: two motion files would have the same name.
    """
    clips: list[Path] = []
    for path in paths:
        holds = path.is_dir() and any(p.suffix.lower() in CLIP_SUFFIXES for p in path.iterdir())
        clips += list_clips([path]) if holds else [path]
    names: dict[str, Path] = {}
    for clip in clips:
        if (other := names.setdefault(_name(clip), clip)) is not clip:
            raise KinecastError(f"{clip}: expected clips of different names, found {other} too: rename one")
    return clips, len(paths) > 1 or clips != list(paths)


def extract_all(
    pool: WorkerPool,
    settings: ExtractSettings,
    clips: Sequence[Path],
    output: Path,
    log: Callable[[str], None],
    progress: Callable[[str, int], None] = lambda stage, count: None,
) -> tuple[dict[str, int], dict[str, str]]:
    """Write OUTPUT/NAME.npz of each clip without one of these settings; return frames of clips, and faults of others.

    Raises:
        KinecastError: no clip could be read.
    """
    journal = make_folder(output) / JOURNAL
    finished = _finished(journal)
    about = asdict(replace(settings, model=Path(settings.model).name, device=""))
    keys: dict[Path, str] = {}
    faults: dict[str, str] = {}
    for clip in clips:
        try:
            content = Clip(clip.name, "", clip).hashed().content
        except OSError as error:
            faults[_name(clip)] = f"{clip}: {error.strerror or error}"
            log(f"skipped: {faults[_name(clip)]}")
            continue
        keys[clip] = digest(EXTRACT_VERSION, READING, content, clip.name, about)
    motions = {clip: output / f"{_name(clip)}.npz" for clip in keys}
    frames = {
        _name(clip): finished[_name(clip)][1]
        for clip, key in keys.items()
        if finished.get(_name(clip), ("", 0))[0] == key and motions[clip].exists()
    }
    left = [clip for clip in keys if _name(clip) not in frames]
    log(f"{len(left)} of {len(clips)} clips to do")
    given = model_files(settings.model)
    tasks = [Task("extract", (clip, motions[clip]), reads=(clip, *given)) for clip in left]
    cut_off = journal.exists() and not journal.read_text().endswith("\n")
    with journal.open("a") as lines:
        lines.write("\n" if cut_off else "")
        for i, (count, fault, remarks) in pool.run(tasks):
            name = _name(left[i])
            for line in (*remarks, *([f"skipped: {fault}"] if fault else [])):
                log(line)
            if fault:
                faults[name] = fault
            else:
                frames[name] = count
                lines.write(json.dumps({"clip": name, "key": keys[left[i]], "frames": count}) + "\n")
                lines.flush()
            progress("detect", 1)
    if not frames:
        raise KinecastError(f"expected clips that can be read, found none among {len(clips)}: see the lines above")
    return frames, faults


def _finished(journal: Path) -> dict[str, tuple[str, int]]:
    """Return key and frames of each clip's last complete line; a truncated line is ignored."""
    found: dict[str, tuple[str, int]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        try:
            entry = json.loads(line)
            found[entry["clip"]] = entry["key"], entry["frames"]
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _name(clip: Path) -> str:
    return clip.name if clip.is_dir() else clip.stem
