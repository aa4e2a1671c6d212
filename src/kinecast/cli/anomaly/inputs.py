"""What the commands of `kinecast anomaly` are given: motion of clips, files and cameras, and forecasters."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kinecast.cli.common import load_model, progress, say

_MOTION = (".npz", ".npy")


def trained_here(name: str) -> bool:
    """Return whether a model is one to train; of another, see that it can be loaded before anything is detected."""
    from kinecast.forecasting import FORECASTERS
    from kinecast.forecasting.storage import WEIGHTLESS
    from kinecast.zoo import load_forecaster, names

    if name in FORECASTERS and name not in (*names("forecaster"), *WEIGHTLESS):
        return True
    if name not in WEIGHTLESS:
        load_forecaster(name, "cpu")
    return False


def scorer_for(
    name: str, fit: Any, calibration: Any, config: Any, steps: int, seed: int, path: Path | None
) -> tuple[Any, dict[str, Any]]:
    """Return a scorer of a model that is loaded or trained, and the clips left to calibrate it: none it was fitted on.

    A model that is trained is kept at `path`; None loads it.
    """
    from kinecast.apps.anomaly import scorer_of, train_scorer
    from kinecast.errors import KinecastError
    from kinecast.forecasting.storage import save_forecaster
    from kinecast.zoo import forecaster_for

    if path is not None:
        say(f"training {name} on {len(fit)} normal clips, {steps} steps")
        scorer = train_scorer(fit, config, name, steps, seed)
        save_forecaster(scorer.model, path)
        return scorer, calibration
    model = forecaster_for(name, next(iter(fit.values())).shape[1], "cpu")
    known = set(model.about.get("clips", ()))
    left = {clip: motion for clip, motion in calibration.items() if clip not in known}
    if known and (len(left) < len(calibration)):
        say(f"{name}: {len(calibration) - len(left)} normal clips that it was trained on are not used to calibrate")
    if not left:
        raise KinecastError(f"{name}: expected normal clips that it was not trained on, found none: add others")
    return scorer_of(model, fit, config), left


class Extractor:
    """Motion of whatever the command is given; the backbone is loaded when a picture is first looked at."""

    def __init__(self, name: str, crop: str, device: str, engine: str, precision: str) -> None:
        self.name, self.crop, self.how = name, crop, (device, engine, precision)
        self.loaded: Any = None
        self.templates: dict[str, Any] = {}  # motion of the normal clips that a backbone looked at, by name
        self.paths: dict[str, Path] = {}  # their files

    @property
    def backbone(self) -> Any:
        """The backbone."""
        if self.loaded is None:
            self.loaded = load_model(self.name, *self.how)
        return self.loaded

    def check(self, source: str) -> None:
        """See that the input can be read, before the normal clips are; a camera is not asked."""
        from kinecast.media.video import probe

        if Path(source).suffix.lower() in _MOTION:
            self._one(source)
        elif not source.isdecimal():
            probe(source)

    def series(self, path: Path) -> dict[str, Any]:
        """Return the motion of normal clips: motion files, a clip, or a folder of either."""
        from kinecast.apps.pipeline import extract
        from kinecast.data.keypoint_store import load_series
        from kinecast.data.video_folder import CLIP_SUFFIXES, list_clips

        if path.is_dir() and any(p.suffix.lower() in CLIP_SUFFIXES for p in path.iterdir()):
            clips = list_clips([path])
        elif path.suffix.lower() in CLIP_SUFFIXES:
            clips = [path]
        else:
            self._note_motion(path)
            return load_series(path)
        with progress() as update:
            motions = {clip.stem: extract(self.backbone, clip, self.crop, None, None, update) for clip in clips}
        motions = {name: motion.evenly_timed() for name, motion in motions.items()}
        self.templates |= motions
        self.paths |= {clip.stem: clip for clip in clips}
        return {name: motion.vectors() for name, motion in motions.items()}

    def _note_motion(self, path: Path) -> None:
        """Remember what kind of motion files are, where they are of `kinecast extract`."""
        from kinecast.motion import Motion

        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if files and all(file.suffix.lower() == ".npz" and self._is_backbones(file) for file in files):
            self.templates |= {file.stem: Motion.load(file) for file in files}

    def check_clips(self, names: Any, wanted: bool) -> None:
        """Check that normal clips are pictures, if clips of samples are wanted.

        Raises:
            KinecastError: some are motion alone.
        """
        from kinecast.errors import KinecastError

        without = sorted(set(names) - self.paths.keys())
        if wanted and without:
            raise KinecastError(
                f"clips: expected normal clips with pictures, found motion alone ({without[0]}): name the clips "
                "themselves, or drop --clips"
            )

    def renderer(self) -> Any:
        """Return what writes a sample's clip: the first frame of its normal clip, moved."""
        import torch

        from kinecast.media.writer import VideoWriter

        states: dict[str, Any] = {}

        @torch.inference_mode()
        def render(path: Path, planned: Any, motion: Any) -> None:
            name = planned.clip
            if name not in states:
                states.clear()  # one at a time: a state is as large as its pictures
                first = self.pictures(self.paths[name], (0,))[0][None].to(self.backbone.device)
                states[name] = self.backbone.encode_source(first), self.backbone.detect(first)
            state, start = states[name]
            with VideoWriter(path, self.templates[name].fps or 25.0, quality=12) as writer:
                for part in motion.to(self.backbone.device).split(8):
                    writer.write(self.backbone.animate(state, start, self.backbone.unflatten(part)).cpu())

        return render

    def frames(self, source: str) -> Iterator[Any]:
        """Yield the motion (D,) of each frame of the input as it comes; clips of a variable rate are resampled."""
        from kinecast.apps.anomaly import frames_of
        from kinecast.apps.pipeline import extract
        from kinecast.media.camera import camera_frames
        from kinecast.media.pictures import to_tensor
        from kinecast.media.video import probe, read_frames

        if Path(source).suffix.lower() in _MOTION:
            yield from frames_of(self._one(source))
            return
        if not source.isdecimal() and not probe(source).constant_rate:
            yield from frames_of(extract(self.backbone, source, self.crop).evenly_timed().vectors())
            return
        size = self.backbone.frame_size
        pictures = camera_frames(int(source), size) if source.isdecimal() else read_frames(source, size, self.crop)
        for picture in pictures:
            yield self.backbone.detect(to_tensor(picture).to(self.backbone.device)).vectors()[0].cpu()

    def rate(self, source: str) -> float | None:
        """Return the frame rate of the input in frames per second, None where it is not known."""
        from kinecast.media.video import probe
        from kinecast.motion import Motion

        if source.isdecimal() or source.lower().endswith(".npy"):
            return None
        if Path(source).suffix.lower() in _MOTION:
            return Motion.load(source).fps if self._is_backbones(source) else None
        found = probe(source)
        return float(found.fps) if found.constant_rate else None

    def without_pictures(self, source: str) -> str | None:
        """Return why no pictures can be drawn of an input, None where they can."""
        from kinecast.media.video import probe

        if source.isdecimal():
            return "a camera's pictures are not kept"
        if Path(source).suffix.lower() in _MOTION:
            return "motion without pictures: name the clip"
        return None if probe(source).constant_rate else "the clip's frame rate varies"

    def pictures(self, source: Any, frames: tuple[int, ...]) -> list[Any]:
        """Return some frames of a clip, in order, each (3, H, W) as the backbone takes them."""
        from kinecast.media.pictures import to_tensor
        from kinecast.media.video import read_frames

        wanted = set(frames)
        read = islice(read_frames(source, self.backbone.frame_size, self.crop), max(frames) + 1)
        return [to_tensor(picture)[0] for number, picture in enumerate(read) if number in wanted]

    def _is_backbones(self, source: str | Path) -> bool:
        """Return whether a motion file is of `kinecast extract`, and not a plain array."""
        import numpy as np

        with np.load(source, allow_pickle=False) as archive:
            return "header" in archive.files

    def _one(self, source: str) -> Any:
        """Return the motion (T, D) in a file of one clip's."""
        from kinecast.data.keypoint_store import load_series
        from kinecast.errors import KinecastError

        series = load_series(source)
        if len(series) != 1:
            raise KinecastError(f"{source}: expected the motion of one clip, found {len(series)}: name one file")
        return next(iter(series.values()))
