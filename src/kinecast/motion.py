"""Motion: the output of a backbone's keypoint detector for T frames, without appearance.

Notation: T frames, K keypoints, D numbers per frame.
"""

import json
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import atomic_path, existing_file
from kinecast.media.resampling import even, frames_before, usual_rate
from kinecast.motion_spec import MotionSpec, motion_spec

_CONSTANT, _TIMED, _MARKED = 1, 2, 3  # formats: a constant rate; with times of the frames; with `valid` too
_TIMES, _VALID = "times", "valid"


@dataclass(frozen=True)
class Motion:
    """Keypoint motion of T frames.

    `components` maps a name to a float32 tensor whose first axis is time: for FOMM `value` (T, K, 2), x and y in
    [-1, 1], and `jacobian` (T, K, 2, 2); for TPS `value` (T, 5 K, 2), five points per spline; for face-vid2vid
    `expression` (T, K, 3), `rotation` (T, 3), yaw, pitch and roll in radians, and `translation` (T, 3): its canonical
    keypoints are not motion: the receiver computes them from the source picture.

    `fps` is the frame rate, or the mean one if frames have `times`: (T,) float64, increasing, seconds since the clip's
    first frame. The last of them is shown until `end`. Without times, frame i is shown at i / fps.

    `valid` (T,) bool, on the CPU, is False for frames without a detection, such as no face: they hold the motion of a
    neighbouring frame. It is None if all are valid.
    """

    backbone: str
    components: Mapping[str, Tensor]
    fps: float | None = None
    frame_size: tuple[int, int] | None = None  # height, width of the analysed frames
    clip: str = ""
    times: Tensor | None = None
    end: float | None = None
    valid: Tensor | None = None
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        known = self.spec.names
        foreign = sorted(set(self.components) - set(known))
        if foreign or not self.components:
            found = ", ".join(foreign) or "none"
            raise KinecastError(f"{self.backbone} motion: expected components {', '.join(known)}; found {found}")
        for group in self.spec.groups:
            names = [component.name for component in group if component.name in self.components]
            missing = [each.name for each in group if not each.optional and each.name not in names]
            if missing:
                found = ", ".join(self.components)
                raise KinecastError(f"{self.backbone} motion: expected a component {missing[0]}, found {found}")
            shapes = [tuple(self.components[name].shape) for name in names]
            if not shapes:
                continue
            if min(map(len, shapes)) < 2 or len({shape[1] for shape in shapes}) > 1:
                raise KinecastError(
                    f"motion: expected {', '.join(names)} with the same number of keypoints, (T, K, ...), "
                    f"found {', '.join(map(str, shapes))}"
                )
        lengths = {name: len(tensor) for name, tensor in self.components.items()}
        if len(set(lengths.values())) > 1:
            raise KinecastError(f"motion: expected components of one length, found {lengths}")
        self._check_times(next(iter(lengths.values())))
        self._check_valid(next(iter(lengths.values())))
        object.__setattr__(self, "_names", tuple(name for name in known if name in self.components))

    def _check_times(self, frames: int) -> None:
        if self.times is None:
            return
        if self.times.shape != (frames,) or self.times.dtype != torch.float64:
            found = f"{self.times.dtype} {tuple(self.times.shape)}"
            raise KinecastError(f"motion: expected times of float64 ({frames},), found {found}")
        edges = torch.cat([self.times, torch.tensor([self.end or 0.0], dtype=torch.float64)])
        if frames and not (torch.isfinite(edges).all() and (edges.diff() > 0).all()):
            raise KinecastError("motion: expected times that increase up to the end, found others: extract it again")

    def _check_valid(self, frames: int) -> None:
        if self.valid is None:
            return
        if self.valid.shape != (frames,) or self.valid.dtype != torch.bool:
            found = f"{self.valid.dtype} {tuple(self.valid.shape)}"
            raise KinecastError(f"motion: expected valid of bool ({frames},), found {found}")
        if self.valid.all():
            object.__setattr__(self, "valid", None)

    def __len__(self) -> int:
        return len(self.components[self._names[0]])

    def __getitem__(self, index: int | slice | Tensor) -> "Motion":
        """Return selected frames, always as a motion: by index, slice or mask (T,)."""
        if not isinstance(index, slice) and not (isinstance(index, Tensor) and index.ndim == 1):
            index = operator.index(index)  # numpy integers too: they would drop the time axis
            if not -len(self) <= index < len(self):
                raise IndexError(f"frame {index} of a motion of {len(self)} frames")
            index = slice(index, index + 1 or None)
        times, end = self.times, self.end
        if times is not None:
            chosen = torch.arange(len(self))[index]
            times = times[index]
            end = float(self.edges()[chosen[-1] + 1]) if len(chosen) else None
        components = {name: tensor[index] for name, tensor in self.components.items()}
        valid = None if self.valid is None else self.valid[index]
        return replace(self, components=components, times=times, end=end, valid=valid)

    def valid_frames(self) -> Tensor:
        """Return which frames are valid, (T,) bool, even if all are."""
        return torch.ones(len(self), dtype=torch.bool) if self.valid is None else self.valid

    def held(self) -> "Motion":
        """Return motion whose invalid frames hold the last valid one before them, or at the start the first valid one.

        Raises:
            KinecastError: no frame is valid.
        """
        if self.valid is None:
            return self
        if not self.valid.any():
            raise KinecastError("expected a face in the frames, found none: show one, larger or more from the front")
        last = torch.where(self.valid, torch.arange(len(self)), -1).cummax(dim=0).values
        index = torch.where(last < 0, self.valid.int().argmax(), last)
        return replace(self, components={name: tensor[index] for name, tensor in self.components.items()})

    def valid_runs(self) -> list["Motion"]:
        """Return the stretches of valid frames, the only ones used for training and forecasting."""
        if self.valid is None:
            return [self]
        marks = torch.cat([torch.zeros(1, dtype=torch.bool), self.valid, torch.zeros(1, dtype=torch.bool)]).int().diff()
        starts, ends = (torch.nonzero(marks == sign).flatten().tolist() for sign in (1, -1))
        return [self[start:end] for start, end in zip(starts, ends, strict=True)]

    def edges(self) -> np.ndarray:
        """Return the display times of frames, float64 (T + 1,): frame i is shown from edge i to edge i + 1.

        Raises:
            KinecastError: there are neither times nor a rate.
        """
        if self.times is not None:
            return np.append(self.times.numpy(), self.end or 0.0)
        if not self.fps:
            raise KinecastError("motion: expected times or a frame rate, found neither: extract it again")
        return np.arange(len(self) + 1) / self.fps

    @property
    def duration(self) -> float:
        """Seconds from the first frame until the last one has been shown."""
        edges = self.edges()
        return float(edges[-1] - edges[0])

    def evenly_timed(self) -> "Motion":
        """Return motion with approximately evenly spaced frames, as forecasts and windows assume.

        Motion of variable frame rate is resampled to its usual rate, with a KinecastWarning; other motion is returned
        unchanged. Jitter of less than a frame does not justify repeating and dropping frames.
        """
        if self.times is None or even(self.edges()):
            return self
        fps = usual_rate(self.edges())
        warnings.warn(
            KinecastWarning(
                f"{self.clip or 'motion'}: its frame rate varies; it is resampled to a constant {fps:g} fps"
            ),
            stacklevel=3,
        )
        return self.at_rate(fps)

    def at_rate(self, fps: float) -> "Motion":
        """Return this motion resampled to a constant rate: at each time the frame shown then."""
        edges = self.edges()
        counts = torch.tensor([0] + [frames_before(float(end - edges[0]), fps) for end in edges[1:]]).diff()
        index = torch.repeat_interleave(torch.arange(len(self)), counts)
        components = {name: tensor[index] for name, tensor in self.components.items()}
        valid = None if self.valid is None else self.valid[index]
        return replace(self, components=components, fps=fps, times=None, end=None, valid=valid)

    @property
    def spec(self) -> MotionSpec:
        """The components' specification."""
        return motion_spec(self.backbone)

    @property
    def dim(self) -> int:
        """D, the numbers per frame."""
        return sum(int(np.prod(self.components[name].shape[1:])) for name in self._names)

    def vectors(self) -> Tensor:
        """Return the flat layout (T, D), float32: the layout in `kinecast.motion_spec`."""
        parts = []
        for group in self.spec.groups:
            present = [self.components[each.name] for each in group if each.name in self.components]
            if present:
                per_keypoint = [p.reshape(*p.shape[:2], int(np.prod(p.shape[2:]))) for p in present]
                parts.append(torch.cat(per_keypoint, dim=2).flatten(1))
        return torch.cat(parts, dim=1).float()

    def with_vectors(self, vectors: Tensor) -> "Motion":
        """Return a motion of this one's kind (component shapes, fps, frame size) holding `vectors` (T, D).

        The inverse of `vectors()`, bit for bit. T may differ from this motion's; then its times and `valid` are
        dropped.

        Raises:
            KinecastError: D is not this motion's.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise KinecastError(f"motion vectors: expected (T, {self.dim}), found {tuple(vectors.shape)}")
        components, start = {}, 0
        for group in self.spec.groups:
            names = [each.name for each in group if each.name in self.components]
            if not names:
                continue
            keypoints = self.components[names[0]].shape[1]
            shapes = [tuple(self.components[name].shape[1:]) for name in names]
            widths = [int(np.prod(shape)) // keypoints for shape in shapes]
            block = vectors[:, start : start + keypoints * sum(widths)].reshape(len(vectors), keypoints, sum(widths))
            for name, shape, part in zip(names, shapes, block.split(widths, dim=2), strict=True):
                components[name] = part.reshape(len(vectors), *shape).contiguous()
            start += keypoints * sum(widths)
        if len(vectors) != len(self):
            return replace(self, components=components, times=None, end=None, valid=None)
        return replace(self, components=components)

    def to(self, device: torch.device | str) -> "Motion":
        """Return the same motion on another device."""
        return replace(self, components={name: tensor.to(device) for name, tensor in self.components.items()})

    def save(self, path: str | Path) -> None:
        """Write an .npz without pickles: components, times and `valid` if it has them, and a JSON string `header`."""
        header = {
            "format": _MARKED if self.valid is not None else _CONSTANT if self.times is None else _TIMED,
            "backbone": self.backbone,
            "fps": self.fps,
            "frame_size": self.frame_size,
            "clip": self.clip,
        }
        arrays = {name: tensor.detach().cpu().float().numpy() for name, tensor in self.components.items()}
        if self.times is not None:
            header["end"] = self.end
            arrays[_TIMES] = self.times.numpy()
        if self.valid is not None:
            arrays[_VALID] = self.valid.numpy()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]

    @staticmethod
    def load(path: str | Path) -> "Motion":
        """Read what `save` wrote.

        Raises:
            KinecastError: the file is missing, not a motion file, of a later format, or holds NaN.
        """
        path = existing_file(path, "motion file (.npz)")
        expected = "expected a motion file of `kinecast extract`"
        try:
            with np.load(path, allow_pickle=False) as archive:
                if "header" not in archive.files:
                    raise KinecastError(f"{path}: {expected}, found an .npz with {', '.join(archive.files[:4])}")
                header = json.loads(str(archive["header"]))
                if header.get("format") not in (_CONSTANT, _TIMED, _MARKED):
                    raise KinecastError(
                        f"{path}: expected motion format {_CONSTANT} to {_MARKED}, found {header.get('format')}: "
                        "update kinecast"
                    )
                times, end, valid = None, None, None
                if header["format"] == _MARKED:
                    valid = torch.from_numpy(np.array(archive[_VALID], dtype=np.bool_))
                if header["format"] == _TIMED or _TIMES in archive.files:
                    times = torch.from_numpy(np.array(archive[_TIMES], dtype=np.float64))
                    end = None if header["end"] is None else float(header["end"])
                names = [name for name in archive.files if name not in ("header", _TIMES, _VALID)]
                arrays = {name: np.array(archive[name], dtype=np.float32, order="C") for name in names}
                size = tuple(header["frame_size"]) if header["frame_size"] else None
                backbone, fps, clip = str(header["backbone"]), header["fps"], header["clip"]
        except KinecastError:
            raise
        except Exception as error:  # zipfile, numpy and json raise many kinds of error for a damaged file
            raise KinecastError(f"{path}: {expected}, found {archive_fault(path, error)}") from error
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                found = f"NaN or infinity in {name}"
                raise KinecastError(f"{path}: expected finite numbers, found {found}: extract it again")
        components = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            return Motion(backbone, components, fps, size, clip, times, end, valid)
        except KinecastError as error:
            raise KinecastError(f"{path}: {error}") from error


def archive_fault(path: Path, error: Exception) -> str:
    """Describe a file that numpy could not read, with advice."""
    with path.open("rb") as file:
        head = file.read(6)
    if not head.startswith((b"PK", b"\x93NUMPY")):  # numpy treats anything else as a pickle
        return "a file of another kind: name a motion file"
    return f"{type(error).__name__}: {' '.join(str(error).split())}: extract it again"


def concatenate(motions: Sequence[Motion]) -> Motion:
    """Concatenate motions of one kind in time.

    If one has times, those that start before the end of the previous one are moved there.

    Raises:
        KinecastError: no motion, different kinds, or only some of them can be placed in time.
    """
    if not motions:
        raise KinecastError("motion: expected at least one frame, found none: use a clip with frames")
    first = motions[0]
    if any(m.backbone != first.backbone or _shapes(m) != _shapes(first) for m in motions):
        raise KinecastError("motions of different backbones cannot be joined: extract all with one model")
    components = {name: torch.cat([m.components[name] for m in motions]) for name in first.components}
    valid = torch.cat([m.valid_frames() for m in motions])
    if all(m.times is None for m in motions):
        return replace(first, components=components, valid=valid)
    times, end = [], 0.0
    for motion in motions:
        edges = motion.edges()
        edges += max(end - edges[0], 0.0)
        times.append(torch.from_numpy(edges[:-1]))
        end = float(edges[-1])
    return replace(first, components=components, times=torch.cat(times), end=end, valid=valid)


def _shapes(motion: Motion) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape[1:]) for name, tensor in motion.components.items()}
