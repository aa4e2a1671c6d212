"""Rate against distortion of talking faces: `kinecast encode --kbps` beside H.264, H.265, AV1 and VP9.

    python benchmarks/rate_distortion_codecs.py ../shared/data --python JUDGE_ENV/bin/python -o runs/rate-distortion \\
        --output docs/results/rate-distortion

Clips of people on whom nothing was trained, 256x256 at 25 frames a second, at most 10 s. Rates count all that a receiver
needs: header, pictures and motion, or the packets of a codec, spread over the clip. Frames are compared with the true
ones at every eighth frame: mean absolute error, SSIM, perceptual distance, landmarks by the network that also drives
`mesh` (circular for it), and landmarks and identity by dlib's, which knows nothing of either. What was measured is kept
clip by clip in the folder, so that a run goes on where it ended; `--only` measures a part.
"""

import argparse
import csv
import json
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.files import atomic_path
from kinecast.media.footage import footage
from kinecast.media.pictures import to_tensor
from kinecast.metrics.pixel import mae, ssim
from kinecast.research.distortions import Distortions, features_apart
from kinecast.research.video_codecs import CALL_CODECS, SLOW_CODECS, VideoCodec, code_clip
from machine import describe

FPS, SIZE, MOST, EVERY, FEW = 25, (256, 256), 250, 8, 3
HALF_STEPS = {"x264": (51, 41), "x265": (51, 41), "av1": (63, 50), "vp9": (63, 50)}
SPEEDS: dict[str, dict[str, VideoCodec]] = {"slow": SLOW_CODECS, "call": CALL_CODECS}


class Dlib:
    """dlib's measures, in an environment of their own."""

    def __init__(self, python: Path) -> None:
        script = Path(__file__).with_name("rate_dlib.py")
        self._process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, frames: np.ndarray, truth: bool) -> dict[str, float]:
        """Send frames (T, H, W, 3) uint8; returns the answer."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None and back is not None
        to.write(json.dumps({"shape": frames.shape, "truth": truth}).encode() + b"\n")
        to.write(np.ascontiguousarray(frames).tobytes())
        to.flush()
        return dict(json.loads(back.readline()))


class Clip:
    """A clip under test; frames (T, 256, 256, 3) uint8, compared at every eighth."""

    def __init__(self, path: Path, measures: Distortions, dlib: Dlib) -> None:
        self.path = path
        self.frames = np.stack([frame for *_, frame in footage(path, SIZE, "center", FPS, MOST).shown()])
        self.seconds = len(self.frames) / FPS
        self._truth, self._measures, self._dlib = to_tensor(self.frames[::EVERY]), measures, dlib
        self._features = measures.features(self._truth[::FEW])
        self._faces = [measures.faces.look(frame) for frame in self._truth]
        self.faces = dlib.ask(self.frames[::EVERY], truth=True)["faces"]

    def compare(self, frames: np.ndarray) -> dict[str, float]:
        """Compare frames (T, 256, 256, 3) uint8 with the true ones: each measure's mean."""
        few = to_tensor(frames[::EVERY])
        apart = [self._measures.faces.compare(one, face)["landmark"] for one, face in zip(few, self._faces, strict=True)]
        return {
            "mae": float(mae(few, self._truth).mean()),
            "ssim": float(ssim(few, self._truth).mean()),
            "perceptual": float(features_apart(self._measures.features(few[::FEW]), self._features).mean()),
            "landmark": float(np.nanmean(apart)),
            **self._dlib.ask(frames[::EVERY], truth=False),
        }


def people(data: Path) -> list[Path]:
    """Return the longest clip of each validation person, and of id10291."""
    with (data / "people" / "index.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "validate"]
    rows.sort(key=lambda row: int(row["frames"]) / float(row["fps"]))
    clips = [data / "people" / name for name in {row["person"]: row["file"] for row in rows}.values()]
    return [*sorted(clips), data / "voxceleb" / "id10291_aQ6uxeakacs_000855_001332.mp4"]


def codec_jobs(speed: str) -> Iterator[tuple[str, str, Any]]:
    """Yield curve, setting and what measures a clip, of the codecs at one speed."""
    for name, codec in SPEEDS[speed].items():
        for shrink, steps in ((1, codec.crfs), (2, HALF_STEPS[name])):
            for crf in steps:
                curve = f"{codec.label}, {speed}{', half size' if shrink == 2 else ''}"

                def measure(clip: Clip, codec: VideoCodec = codec, crf: int = crf, shrink: int = shrink) -> Any:
                    coded = code_clip(codec, clip.frames, Fraction(FPS), crf, shrink)
                    return coded.frames, {"bytes": sum(coded.packet_bytes), "once_bytes": coded.packet_bytes[0]}

                yield curve, f"crf {crf}", measure


def run(args: argparse.Namespace, jobs: list[tuple[str, str, Any]]) -> None:
    """Measure what is missing, clip by clip."""
    measures, dlib = Distortions(), Dlib(args.python)
    for path in people(args.data)[: args.people]:
        left = [job for job in jobs if not unit(args.folder, path, *job[:2]).exists()]
        if not left:
            continue
        clip = Clip(path, measures, dlib)
        for curve, setting, measure in left:
            frames, facts = measure(clip)
            facts |= {"kbps": 8 * facts["bytes"] / clip.seconds / 1000, "seconds": clip.seconds, "faces": clip.faces}
            with atomic_path(unit(args.folder, path, curve, setting)) as temporary:
                temporary.write_text(json.dumps({**facts, "measures": clip.compare(frames)}) + "\n")
        print(f"{path.stem}: {len(left)} settings", flush=True)


def unit(folder: Path, clip: Path, curve: str, setting: str) -> Path:
    """Return where one setting on one clip is kept."""
    name = "__".join((clip.stem, curve, setting))
    return folder / f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in name).lower()}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the shared data folder, with people/ and voxceleb/")
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with dlib")
    parser.add_argument("--only", choices=("ours", *SPEEDS), action="append", help="measure this part; several times")
    parser.add_argument("--people", type=int, help="so many people only")
    parser.add_argument("-o", "--folder", type=Path, required=True, help="folder of what was measured")
    parser.add_argument("--output", type=Path, help="tables and figures: PATH.md, .json, .png")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    machine = describe()
    jobs = [job for speed in SPEEDS if speed in (args.only or SPEEDS) for job in codec_jobs(speed)]
    run(args, jobs)


if __name__ == "__main__":
    main()
