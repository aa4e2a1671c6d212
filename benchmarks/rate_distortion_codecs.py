"""Rate against distortion of talking faces: `kinecast encode --kbps` beside H.264, H.265, AV1 and VP9.

    python benchmarks/rate_distortion_codecs.py ../shared/data --python JUDGE_ENV/bin/python -o runs/rate-distortion \\
        --output docs/results/rate-distortion

Clips of people on whom nothing was trained, 256x256 at 25 frames a second, up to 5 s. Rates count all that a receiver
needs: header, pictures and motion, or the packets of a codec, spread over the clip. Frames are compared with the true
ones at every eleventh frame: mean absolute error, SSIM, perceptual distance, landmarks by the network that also drives
`mesh` (circular for it), and landmarks and identity by dlib's, which knows nothing of either. Eleven shares no factor
with the periods of either side, one frame sent in 2, 3, 4 or 6 and the layers of AV1, and frame 0, a picture of its
own to all, is left out. What was measured is kept clip by clip in the folder, so that a run goes on where it ended.
Stages are measured one after the other, each for everybody; `--only` measures some of them.
"""

import argparse
import csv
import io
import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rate_distortion_tables
import torch

from kinecast.apps.stream.budget import Recording
from kinecast.apps.stream.clips import EncodeOptions, frames_of, layout_for_quality, profile_for, profile_named
from kinecast.apps.stream.drawing import Drawer
from kinecast.apps.stream.within import encode_recording
from kinecast.codec import Header, MotionDecoder, StreamReader, interpolate, stream_identity
from kinecast.codec.times import FrameClock
from kinecast.files import atomic_path
from kinecast.media.footage import footage
from kinecast.media.pictures import to_tensor, to_uint8
from kinecast.metrics.pixel import mae, ssim
from kinecast.research.distortions import Distortions, features_apart
from kinecast.research.video_codecs import CALL_CODECS, SLOW_CODECS, VideoCodec, code_clip
from kinecast.zoo import load_backbone

FPS, SIZE, MOST, FEW = 25, (256, 256), 125, 3
COMPARED = slice(5, None, 11)  # frames
# Constant qualities by what the sides of pictures are divided by: the least rates are those of small pictures.
_X_STEPS: dict[int, tuple[int, ...]] = {1: (36, 44), 2: (48,), 4: (51,)}
_AV_STEPS: dict[int, tuple[int, ...]] = {1: (44,), 2: (50, 63), 4: (63,)}
STEPS = {"x264": _X_STEPS, "x265": _X_STEPS, "av1": _AV_STEPS, "vp9": _AV_STEPS}
SIZES = {1: "", 2: ", half size", 4: ", quarter size"}
THINNED: dict[str, dict[int, tuple[int, ...]]] = {"av1": {2: (63,)}, "vp9": {2: (63,)}}  # at half the frames
SPEEDS: dict[str, dict[str, VideoCodec]] = {"slow": SLOW_CODECS, "call": CALL_CODECS}
Job = tuple[str, str, Any]  # curve, setting, and what measures a clip
# What matters most comes first; those of calls are the faster ones.
OURS = {"ours": (5, 20), "ours-2": (2,), "ours-10": (10,), "ours-60": (60,)}  # kbps
CODECS = {
    "call-vp9-av1": ("call", ("vp9", "av1")),
    "call-x264-x265": ("call", ("x264", "x265")),
    "slow-vp9-av1": ("slow", ("vp9", "av1")),
    "slow-x264-x265": ("slow", ("x264", "x265")),
}
STAGES = (
    *("ours", "call-vp9-av1", "ours-2", "call-x264-x265", "slow-vp9-av1"),
    *("ours-10", "slow-x264-x265", "ours-60", "thinned"),
)


class Dlib:
    """dlib's measures, in an environment of their own."""

    def __init__(self, python: Path) -> None:
        script = Path(__file__).with_name("rate_dlib.py")
        self._process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, clip: str, frames: np.ndarray, truth: bool) -> dict[str, float]:
        """Send frames (T, H, W, 3) uint8 of a clip, the true ones first; returns the answer."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None
        to.write(json.dumps({"clip": clip, "shape": frames.shape, "truth": truth}).encode() + b"\n")
        to.write(np.ascontiguousarray(frames).tobytes())
        to.flush()
        return dict(json.loads(back.readline()))


class Clip:
    """A clip under test; frames (T, 256, 256, 3) uint8, compared at COMPARED."""

    def __init__(self, path: Path, measures: Distortions, dlib: Dlib) -> None:
        self.path = path
        self.frames = np.stack([frame for *_, frame in footage(path, SIZE, "center", FPS, MOST).shown()])
        self.seconds = len(self.frames) / FPS
        self._truth, self._measures, self._dlib = to_tensor(self.frames[COMPARED]), measures, dlib
        self._features = measures.features(self._truth[::FEW])
        self._faces = [measures.faces.look(frame) for frame in self._truth]
        self.faces = dlib.ask(path.stem, self.frames[COMPARED], truth=True)["faces"]

    def compare(self, frames: np.ndarray) -> dict[str, float]:
        """Compare frames (T, 256, 256, 3) uint8 with the true ones: each measure's mean."""
        few = to_tensor(frames[COMPARED])
        apart = [
            self._measures.faces.compare(one, face)["landmark"] for one, face in zip(few, self._faces, strict=True)
        ]
        return {
            "mae": float(mae(few, self._truth).mean()),
            "ssim": float(ssim(few, self._truth).mean()),
            "perceptual": float(features_apart(self._measures.features(few[::FEW]), self._features).mean()),
            "landmark": float(np.nanmean(apart)),
            **self._dlib.ask(self.path.stem, frames[COMPARED], truth=False),
        }


def people(data: Path) -> list[Path]:
    """Return the longest clip of each validation person, and of id10291."""
    with (data / "people" / "index.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "validate"]
    rows.sort(key=lambda row: int(row["frames"]) / float(row["fps"]))
    clips = [data / "people" / name for name in {row["person"]: row["file"] for row in rows}.values()]
    return [*sorted(clips), data / "voxceleb" / "id10291_aQ6uxeakacs_000855_001332.mp4"]


def codec_jobs(speed: str, names: Iterable[str], thin: int = 1) -> Iterator[Job]:
    """Yield the jobs of codecs at a speed, of one frame in `thin`, each of which is held until the next."""
    for name in names:
        codec = SPEEDS[speed][name]
        for shrink, steps in (STEPS if thin == 1 else THINNED)[name].items():
            for crf in steps:

                def measure(clip: Clip, codec: VideoCodec = codec, crf: int = crf, shrink: int = shrink) -> Any:
                    coded = code_clip(codec, clip.frames[::thin], Fraction(FPS, thin), crf, shrink)
                    shown = np.repeat(coded.frames, thin, axis=0)[: len(clip.frames)]
                    return shown, {"bytes": sum(coded.packet_bytes), "once_bytes": coded.packet_bytes[0]}

                frames = "" if thin == 1 else f", one frame in {thin}"
                yield f"{codec.label}, {speed}", f"crf {crf}{SIZES[shrink]}{frames}", measure


class Kinecast:
    """Our stream at budgets; the motion of a clip is found once for all of them."""

    def __init__(self, model: str) -> None:
        self._model, self._backbone = model, load_backbone(model, "cpu", "fast", "exact")
        self._recorded: dict[Path, Recording] = {}

    def jobs(self, budgets: tuple[int, ...]) -> Iterator[Job]:
        """Yield the jobs of budgets in kbps."""
        for kbps in budgets:
            yield "kinecast", f"{kbps:g} kbps", partial(self.measure, kbps)

    def measure(self, kbps: float, clip: Clip) -> tuple[np.ndarray, dict[str, float]]:
        """Send a clip through the bytes of a stream and back."""
        recording, options = self._recording(clip), EncodeOptions(kbps=kbps, filler=("interpolate", None))
        layout = layout_for_quality(self._backbone.unflatten(torch.empty(0, self._backbone.motion_dim)))
        tables = profile_named("auto", self._model, layout)
        identity, filler = stream_identity(self._backbone), options.filler[0]
        header = Header(layout, (FPS, 1), SIZE, identity, self._model, tables.name, tables.fingerprint(), filler)
        options = replace(options, model_name=self._model)
        file, frames = io.BytesIO(), to_tensor(clip.frames)
        _, sizes, facts = encode_recording(self._backbone, recording, frames, file, header, options)
        parts = {"once_bytes": sizes["header_bytes"], "picture_bytes": sizes["picture_bytes"]}
        return self._drawn(file, len(frames)), {"bytes": len(file.getvalue()), **parts, **facts}

    def _recording(self, clip: Clip) -> Recording:
        if clip.path not in self._recorded:
            detect = self._backbone.follow()
            motion = [detect(part) for part in to_tensor(clip.frames).split(8)]
            vectors = np.concatenate([one.vectors().numpy() for one in motion])
            present = np.concatenate([one.valid_frames().numpy() for one in motion])
            edges = np.arange(len(vectors) + 1) / FPS
            self._recorded[clip.path] = Recording(vectors, edges, present, own_times=False)
        return self._recorded[clip.path]

    def _drawn(self, file: io.BytesIO, count: int) -> np.ndarray:
        """Draw the frames that are compared (T, 256, 256, 3); all others are left black."""
        file.seek(0)
        reader = StreamReader(file)
        units, drawer = reader.units(), Drawer(self._backbone, reader.header, Path("stream"))
        drawer.start(units)
        decoder = MotionDecoder(reader.header.layout, profile_for(reader.header))
        shown = interpolate(frames_of(drawer.watch(units), decoder, FrameClock(reader.header.rate)))
        drawn, compared = np.zeros((count, *SIZE, 3), np.uint8), range(count)[COMPARED]
        for frame in shown:
            if frame.number in compared:
                drawn[frame.number] = to_uint8(drawer.draw([frame]))[0]
        return drawn


def run(args: argparse.Namespace, stages: dict[str, list[Job]]) -> None:
    """Measure what is missing, stage by stage and clip by clip."""
    measures, dlib = Distortions(), Dlib(args.python)
    clips: dict[Path, Clip] = {}
    for stage, jobs in stages.items():
        for path in people(args.data)[: args.people]:
            left = [job for job in jobs if not unit(args.folder, path, *job[:2]).exists()]
            if left and path not in clips:
                clips[path] = Clip(path, measures, dlib)
            for job in left:
                keep(args.folder, clips[path], job)
            print(f"{datetime.now(UTC):%H:%M:%S} {stage}: {path.stem}, {len(left)} settings", flush=True)


def keep(folder: Path, clip: Clip, job: Job) -> None:
    """Measure one setting on one clip and keep what was found."""
    curve, setting, measure = job
    frames, facts = measure(clip)
    facts |= {"kbps": 8 * facts["bytes"] / clip.seconds / 1000, "seconds": clip.seconds, "faces": clip.faces}
    facts |= {"clip": clip.path.stem, "curve": curve, "setting": setting}
    with atomic_path(unit(folder, clip.path, curve, setting)) as temporary:
        temporary.write_text(json.dumps({**facts, "measures": clip.compare(frames)}) + "\n")


def unit(folder: Path, clip: Path, curve: str, setting: str) -> Path:
    """Return where one setting on one clip is kept."""
    name = "__".join((clip.stem, curve, setting))
    return folder / f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in name).lower()}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the shared data folder, with people/ and voxceleb/")
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with dlib")
    parser.add_argument("--model", default="mesh", help="backbone of our stream (%(default)s)")
    parser.add_argument("--only", choices=STAGES, action="append", help="measure this stage; several times")
    parser.add_argument("--people", type=int, help="so many people only")
    parser.add_argument("-o", "--folder", type=Path, required=True, help="folder of what was measured")
    parser.add_argument("--output", type=Path, help="tables and figures: PATH.md, .json, .png")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    wanted, ours = args.only or STAGES, Kinecast(args.model)
    jobs = {name: list(ours.jobs(budgets)) for name, budgets in OURS.items()}
    jobs |= {name: list(codec_jobs(*codecs)) for name, codecs in CODECS.items()}
    jobs["thinned"] = [job for speed in SPEEDS for job in codec_jobs(speed, THINNED, 2)]
    run(args, {stage: jobs[stage] for stage in STAGES if stage in wanted})
    if args.output:
        rate_distortion_tables.write(args.folder, args.output)


if __name__ == "__main__":
    main()
