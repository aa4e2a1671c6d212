"""Does a forecast pay in a call? Landmarks, look and identity per kbps and per lost packet, by what fills the gaps.

    python recipes/mesh_motion.py ../shared/data -o runs/mesh-motion --train 80
    python benchmarks/pays.py runs/mesh-motion ../shared/data --fit ridge var --pictures 20 --face-api package/model \
        --cache runs/pays --json docs/results/pays.json --report docs/results/pays.md

Motion of `mesh` goes through the codec, steps of quality 4, and back. Frames that are left out (every second or third,
6 of 12, or those that the receiver's own guess would show well enough) or lost are filled by

    hold               the last frame that came
    damped             damped velocity
    interpolate        the straight line between the frames that came: waits for the next one
    forecasters        those bundled for this motion, those named by --fillers, and those fitted here (--fit)

Error: how far landmarks of the mean face move from those of unquantised motion, in pixels of 256, mean over all frames.
Losses are of packets of one frame, as in a call: key packets come as often as the call sends them at that loss, and
what a lost packet makes useless is filled, too. Interpolation then waits for one frame: a gap that is longer than one
holds until its last frame. With --pictures frames are drawn from each clip's first one and compared with the true ones.
People who validate come first, then, if they are fewer, people who train. One clip a person. Differences are paired by
person, 95 % intervals by resampling people.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mesh_rate import SKIPPING, frames_of, landmarks
from pays_report import page

from kinecast.apps.stream.fillers import load_fillers, of_forecaster
from kinecast.apps.stream.options import layout_for_quality, profile_named
from kinecast.codec import LIVE, MotionPacket, Packing, encode_motion, fill, interpolate
from kinecast.codec.decoder import DecodedFrame, MotionDecoder
from kinecast.codec.filling import INTERPOLATE, Forecast
from kinecast.codec.schedule import Blocks, ClosedLoop, EveryKth, Schedule, in_steps
from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import parse_horizon, training_windows
from kinecast.files import atomic_path
from kinecast.forecasting import build_forecaster
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.research.distortions import Distortions
from kinecast.research.gaps import lost_packets, one_late
from kinecast.zoo import load_backbone
from machine import describe

FPS = 25
QUALITY = 4
FEWEST = 48  # frames of a clip that is used
TOLERANCES = (0.15, 0.3, 0.5, 0.8)  # steps, of a closed loop
QUALITIES = (4, 3, 2, 1)
LOSSES = {"5 % lost": (0.05, 1 / 0.95), "10 % lost": (0.1, 1 / 0.9), "10 % lost, in bursts of 3": (0.1, 3.0)}
DRAWS = 3  # of losses, a person
LATE = "interpolate"  # with one frame of delay, of losses


@dataclass(frozen=True)
class Sent:
    """What a receiver shows (T, D), at which rate; which frames were filled, and how many packets were lost."""

    shown: np.ndarray
    kbps: float
    filled: np.ndarray
    lost: int = 0


def send(
    vectors: np.ndarray, motion: Motion, fillers: dict[str, Forecast], schedule: Callable[[Any], Schedule]
) -> dict[str, Sent]:
    """Send all frames that a schedule wants, lose none, and fill the same gaps by each filler."""
    layout = layout_for_quality(motion, QUALITY)
    profile = profile_named("auto", "mesh", layout)
    data = [bytes(packet) for packet in encode_motion(vectors, layout, profile, SKIPPING, schedule(layout))]
    frames = _decoded(data, layout, profile)
    kbps = sum(map(len, data)) * 8 / len(vectors) * FPS / 1000
    gaps = np.array([f.concealed for f in frames])
    shown = {name: fill(frames, forecast) for name, forecast in fillers.items()} | {INTERPOLATE: interpolate(frames)}
    return {name: Sent(np.stack([f.vector for f in each]), kbps, gaps) for name, each in shown.items()}


def every_frame(vectors: np.ndarray, motion: Motion, quality: int) -> Sent:
    """Send every frame, at a quality."""
    layout = layout_for_quality(motion, quality)
    profile = profile_named("auto", "mesh", layout)
    data = [bytes(packet) for packet in encode_motion(vectors, layout, profile, SKIPPING)]
    frames = _decoded(data, layout, profile)
    kbps = sum(map(len, data)) * 8 / len(vectors) * FPS / 1000
    return Sent(np.stack([f.vector for f in frames]), kbps, np.zeros(len(frames), bool))


def lossy(
    vectors: np.ndarray, motion: Motion, fillers: dict[str, Forecast], loss: float, burst: float
) -> Iterator[dict[str, Sent]]:
    """Send every frame in a packet of its own, lose some, fill the same gaps by each filler; again for each draw."""
    layout = layout_for_quality(motion, QUALITY)
    profile = profile_named("auto", "mesh", layout)
    packing = Packing(LIVE.frames, round(min(0.2 / loss, LIVE.key_every)))  # as apps.call.sending does
    data = [bytes(packet) for packet in encode_motion(vectors, layout, profile, packing)]
    kbps = sum(map(len, data)) * 8 / len(vectors) * FPS / 1000
    for draw in range(DRAWS):
        gone = lost_packets(len(data), loss, burst, np.random.default_rng([draw, len(data)]))
        frames = _decoded([one for one, lost in zip(data, gone, strict=True) if not lost], layout, profile, 0)
        filled = np.array([f.concealed for f in frames])
        shown = {name: np.stack([f.vector for f in fill(frames, fillers[name])]) for name in fillers}
        shown[LATE] = np.stack(list(one_late(frames)))
        yield {name: Sent(each, kbps, filled, int(gone.sum())) for name, each in shown.items()}


def _decoded(data: list[bytes], layout: Any, profile: Any, reorder: int = 4) -> list[DecodedFrame]:
    decoder = MotionDecoder(layout, profile, reorder)
    frames = [frame for one in data for frame in decoder.push(MotionPacket.parse(one)[0])]
    return frames + decoder.flush()


def error(model: Mesh, motion: Motion, shown: np.ndarray, truth: torch.Tensor) -> np.ndarray:
    """Return how far landmarks are off in each frame, (T,), in pixels of 256."""
    points = landmarks(model, motion.with_vectors(torch.from_numpy(shown)))
    return (points - truth)[..., :2].norm(dim=2).mean(dim=1).numpy()


SCHEDULES: dict[str, Callable[[Any], Schedule]] = {
    "one frame in 2": lambda layout: EveryKth(2),
    "one frame in 3": lambda layout: EveryKth(3),
    "6 of 12": lambda layout: Blocks(6, 6),
}


def _loop(forecast: Forecast, tolerance: float) -> Callable[[Any], Schedule]:
    return lambda layout: ClosedLoop(forecast, in_steps(layout), tolerance)


def of_motion(model: Mesh, motion: Motion, fillers: dict[str, Forecast], how: Any) -> dict[str, Any]:
    """Measure rates and landmarks of all but the closed loops, on one person's clip."""
    vectors, truth = motion.vectors().numpy(), landmarks(model, motion)
    full = {q: every_frame(vectors, motion, q) for q in QUALITIES}
    base = error(model, motion, full[QUALITY].shown, truth)
    found: dict[str, Any] = {
        "steps": [[full[q].kbps, float(error(model, motion, full[q].shown, truth).mean())] for q in QUALITIES],
        "every frame": {"kbps": full[QUALITY].kbps, "px": float(base.mean())},
        "schedules": {},
        "losses": {},
    }
    for schedule, maker in SCHEDULES.items():
        rows = send(vectors, motion, fillers, maker)
        found["schedules"][schedule] = {
            name: {"kbps": s.kbps, "px": float(error(model, motion, s.shown, truth).mean())} for name, s in rows.items()
        }
    for loss, (share, burst) in LOSSES.items():
        sums: dict[str, list[list[float]]] = {}
        for sent in lossy(vectors, motion, fillers, share, burst):
            for name, s in sent.items():
                off = error(model, motion, s.shown, truth)
                sums.setdefault(name, []).append(
                    [s.kbps, float(off.mean()), float((off - base).sum()), s.lost, int(s.filled.sum())]
                )
        found["losses"][loss] = {name: _per_packet(np.array(rows)) for name, rows in sums.items()}
    return found


def of_loops(model: Mesh, motion: Motion, fillers: dict[str, Forecast], how: Any) -> dict[str, Any]:
    """Measure closed loops: the rate and error of each tolerance."""
    vectors, truth = motion.vectors().numpy(), landmarks(model, motion)
    curves: dict[str, list[list[float]]] = {}
    for name, forecast in fillers.items():
        for tolerance in TOLERANCES:
            s = send(vectors, motion, {name: forecast}, _loop(forecast, tolerance))[name]
            curves.setdefault(name, []).append([s.kbps, float(error(model, motion, s.shown, truth).mean())])
    return {"closed loop": curves}


def of_pictures(model: Mesh, motion: Motion, fillers: dict[str, Forecast], how: Any) -> dict[str, Any]:
    """Compare drawn frames with the true ones: frames that were filled, and the same ones had they been sent."""
    vectors = motion.vectors().numpy()
    share, burst = LOSSES["10 % lost"]
    sent = every_frame(vectors, motion, QUALITY).shown
    ways = {
        "one frame in 2": send(vectors, motion, fillers, SCHEDULES["one frame in 2"]),
        "10 % lost": next(lossy(vectors, motion, fillers, share, burst)),
    }
    found: dict[str, dict[str, float]] = {}
    for kind, rows in ways.items():
        frames = np.flatnonzero(rows["hold"].filled)
        frames = frames[np.linspace(0, len(frames) - 1, min(how.drawn, len(frames))).round().astype(int)].tolist()
        pictures = frames_of(how.clip, [0, *frames])
        source = model.source(pictures[:1])
        truth = how.measures.against(pictures[1:])
        for name, shown in {"every frame": sent, **{n: s.shown for n, s in rows.items()}}.items():
            some = motion[: len(frames)].with_vectors(torch.from_numpy(shown[frames]))
            compared = truth.compare(model.render(source, some, 256))
            found[f"{kind}, {name}"] = {key: float(np.nanmean(v)) for key, v in compared.items() if key != "mse"}
    return {"pictures": found}


def _per_packet(rows: np.ndarray) -> dict[str, float]:
    """Return rate, error, and what a lost packet costs: pixels of 256 above no loss, summed over frames."""
    lost = max(1.0, rows[:, 3].sum())
    return {
        "kbps": float(rows[:, 0].mean()),
        "px": float(rows[:, 1].mean()),
        "px_per_lost": float(rows[:, 2].sum() / lost),
        "filled_per_lost": float(rows[:, 4].sum() / lost),
    }


def picked(folder: Path, most: int) -> list[Path]:
    """Return one motion file of each person: those who validate first, then those who train."""
    found: dict[str, Path] = {}
    for split in ("validate", "train"):
        for path in sorted(folder.glob(f"{split}-*.npz")):
            person = path.stem.split("-", 2)[1]
            motion = Motion.load(path)
            if person not in found and len(motion) >= FEWEST and bool(motion.valid_frames().all()):
                found[person] = path
    return list(found.values())[:most]


def fitted(folder: Path, names: Sequence[str], out: Sequence[Path]) -> dict[str, Forecast]:
    """Fit forecasters that need no gradient on training people who are not measured."""
    held = {path.stem.split("-", 2)[1] for path in out}
    series = {n: m for n, m in load_series(folder).items() if n.startswith("train-") and n.split("-", 2)[1] not in held}
    series = {n: m for n, m in series.items() if len(m) >= FEWEST}
    horizon = parse_horizon("12-12")
    found = {}
    for name in names:
        model = build_forecaster(name, next(iter(series.values())).shape[1])
        model.fit(training_windows(series, horizon).frames, horizon.observed)
        found[name] = of_forecaster(model)
    return found


def main() -> None:
    """Read the options, measure, write JSON and Markdown as people are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="folder of mesh_motion.py")
    parser.add_argument("data", type=Path, help="the development data")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--fillers", nargs="*", help="beside hold: names or files. (default: damped, and all bundled)")
    parser.add_argument("--fit", nargs="*", default=[], help="forecasters fitted on training people: ridge, var")
    parser.add_argument("--loops", type=int, help="people whose closed loops are measured, which takes long. (all)")
    parser.add_argument("--pictures", type=int, default=0, help="people whose frames are drawn too")
    parser.add_argument("--drawn", type=int, default=6, help="frames that are drawn of each kind")
    parser.add_argument("--face-api", type=Path, help="weights of @vladmandic/face-api, for identity")
    parser.add_argument(
        "--cache",
        type=Path,
        required=True,
        help="folder where an interrupted run goes on; of other weights of one name take another",
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_backbone("mesh", "cpu", "fast")
    assert isinstance(model, Mesh)
    options.measures = Distortions(options.face_api) if options.pictures else None
    clips = {p.stem: p for folder in ("people", "voxceleb", "portraits") for p in (options.data / folder).glob("*.mp4")}
    paths = picked(options.motion, options.people)
    fillers = load_fillers(options.fillers, model.motion_dim) | fitted(options.motion, options.fit, paths)
    settings = json.dumps([list(fillers), options.frames, options.drawn, QUALITY, TOLERANCES, QUALITIES, LOSSES, DRAWS])
    cache = options.cache / hashlib.sha256(settings.encode()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"about": describe(), "frames": options.frames, "fillers": list(fillers), "clips": []}
    results["validating"] = sum(path.name.startswith("validate-") for path in paths)
    for i, path in enumerate(paths):
        motion = Motion.load(path)[: options.frames]
        options.clip = clips[path.stem.split("-", 2)[2]]
        parts = {"motion": of_motion}
        parts |= {"loops": of_loops} if options.loops is None or i < options.loops else {}
        parts |= {"pictures": of_pictures} if i < options.pictures else {}
        found: dict[str, Any] = {"clip": path.stem}
        for name, part in parts.items():
            kept = cache / f"{path.stem}-{name}.json"
            if not kept.exists():
                with torch.inference_mode():
                    measured = part(model, motion, fillers, options)
                with atomic_path(kept) as temporary:
                    temporary.write_text(json.dumps(measured) + "\n")
            found |= json.loads(kept.read_text())
        results["clips"].append(found)
        print(path.stem, {n: round(r["px"], 2) for n, r in found["schedules"]["one frame in 2"].items()}, flush=True)
        if len(results["clips"]) > 1:
            text = page(results, __doc__)
            for where, content in ((options.json, json.dumps(results, indent=1) + "\n"), (options.report, text)):
                with atomic_path(where) as temporary:
                    temporary.write_text(content)


if __name__ == "__main__":
    main()
