"""Kilobits a second of `mesh` motion, and what they cost in pixels, on people who are in no table.

    python recipes/mesh_motion.py ../shared/data -o runs/mesh-motion
    python benchmarks/mesh_rate.py runs/mesh-motion ../shared/data -o docs/results/rate-mesh

Every way to send the motion is measured by its rate and by how far the landmarks move from those of unquantised motion,
in pixels of 256. With --draw frames are drawn as well, from the clip's first frame, and compared with the true ones.
Rates are bits a frame of all packets of a file, key frame and framing included, at 25 frames a second; neither header
nor picture is counted. Every frame of a clip is coded at its own rate, and counted as one in 25 a second: clips at 30
would need a little more than that at 25, whose changes are larger.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from kinecast.apps.stream.fillers import load_filler
from kinecast.apps.stream.options import layout_for_quality, profile_named
from kinecast.codec import FILE, MotionPacket, Packing, decode_motion, encode_motion, fill, interpolate
from kinecast.codec.filling import INTERPOLATE
from kinecast.codec.schedule import ClosedLoop, EveryKth, Schedule, in_steps
from kinecast.faces.tracking import OneEuro
from kinecast.files import atomic_path
from kinecast.models.base import Source
from kinecast.models.mesh.geometry import Pose, rotation_matrix
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from machine import describe, table

FPS = 25
SKIPPING = Packing(FILE.frames, FILE.key_every, FILE.wide, skips=True)


@dataclass(frozen=True)
class Way:
    """One way to send motion: steps, tables, and what is left out and shown instead."""

    name: str
    quality: float = 2
    profile: str = "auto"
    filler: str = "hold"
    every: int = 1
    tolerance: float | None = None  # of a closed loop, in steps
    smooth: bool = False  # landmarks by One Euro first


def ways(forecasts: list[str]) -> list[Way]:
    """Return all that are compared."""
    found = [Way(f"every frame, quality {q}, generic tables", q, "generic") for q in (4,)]
    found += [Way(f"every frame, quality {q}", q) for q in (5, 4, 3.8, 3.6, 3, 2)]
    found += [Way(f"every frame, quality {q}, smoothed", q, smooth=True) for q in (5, 4)]
    for q, k in ((5, 2), (4, 2), (3.6, 2), (3.4, 2), (4, 3)):
        found.append(Way(f"one frame in {k}, quality {q}, interpolated", q, filler=INTERPOLATE, every=k))
    for name in forecasts:
        found += [Way(f"closed loop, {name}, {t:g} steps, quality 4", 4, filler=name, tolerance=t) for t in (0.5, 1.0)]
    return found


def send(vectors: np.ndarray, motion: Motion, way: Way) -> tuple[np.ndarray, float, float]:
    """Send vectors (T, D) through bytes and back: as shown, kbps, share of frames sent."""
    layout = layout_for_quality(motion, way.quality)
    profile = profile_named(way.profile, "mesh", layout)
    forecast = load_filler("hold" if way.filler == INTERPOLATE else way.filler, vectors.shape[1])
    schedule: Schedule | None = None
    if way.every > 1:
        schedule = EveryKth(way.every)
    elif way.tolerance is not None:
        schedule = ClosedLoop(forecast, in_steps(layout), way.tolerance)
    packing = FILE if schedule is None else SKIPPING
    data = [bytes(packet) for packet in encode_motion(vectors, layout, profile, packing, schedule)]
    frames = list(decode_motion((MotionPacket.parse(one)[0] for one in data), layout, profile))
    shown = interpolate(frames) if way.filler == INTERPOLATE else fill(frames, forecast)
    kbps = sum(map(len, data)) * 8 / len(vectors) * FPS / 1000
    return np.stack([f.vector for f in shown]), kbps, float(np.mean([not f.concealed for f in frames]))


def landmarks(model: Mesh, motion: Motion) -> torch.Tensor:
    """Return where the mean face's landmarks (T, 478, 3) are under a motion, in pixels of 256 from the middle."""
    parts = motion.components
    depth = torch.zeros(len(motion), 1)
    pose = Pose(
        rotation_matrix(parts["rotation"]), torch.cat((parts["shift"], depth), dim=1), parts["scale"][:, 0].exp()
    )
    return pose.place(model.topology.mean + model.expression.offsets(parts["expression"])) * 128


def smoothed(model: Mesh, points: torch.Tensor) -> np.ndarray:
    """Return motion vectors (T, D) of points (T, 478, 3) after One Euro, which `--smooth` filters landmarks by."""
    smoother = OneEuro(FPS)
    filtered = np.stack([smoother(frame) for frame in points.numpy()])
    return Motion(model.name, model.motion_of(torch.from_numpy(filtered).float() / 128)).vectors().numpy()


def openings(points: torch.Tensor) -> np.ndarray:
    """Return how far mouth and eyes (2, T) of points (T, 478, 3) are open, in heights of the face."""
    up = points[:, 10] - points[:, 152]
    upper, lower = points[:, [13, 159, 386]], points[:, [14, 145, 374]]
    gaps = ((upper - lower) * up[:, None]).sum(dim=2) / up.square().sum(dim=1, keepdim=True)
    return torch.stack([gaps[:, 0], gaps[:, 1:].mean(dim=1)]).numpy()


def frames_of(clip: Path, indices: list[int]) -> torch.Tensor:
    """Read some frames (T, 3, H, W) in [0, 1] of a square clip."""
    found = []
    with av.open(str(clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in indices:
                found.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255)
            if index >= max(indices):
                break
    return torch.stack(found)


def pixels(model: Mesh, source: Source, motion: Motion, vectors: np.ndarray, truth: torch.Tensor) -> float:
    """Return the mean absolute error of drawn frames from true ones."""
    drawn = model.render(source, motion.with_vectors(torch.from_numpy(vectors)), 256)
    return float((drawn - truth).abs().mean())


def measure(
    model: Mesh, path: Path, clip: Path, asked: list[Way], frames: int, drawn: list[str], every: int
) -> dict[str, Any]:
    """Measure all ways on one clip; those named in `drawn` are drawn too, every so many-th frame."""
    motion = Motion.load(path)
    vectors = motion.vectors().numpy()[:frames]
    true_points = landmarks(model, motion[: len(vectors)])
    picked = list(range(every, len(vectors), every))
    result: dict[str, Any] = {"clip": clip.name, "frames": len(vectors), "ways": {}}
    if drawn:
        pictures = frames_of(clip, [0, *picked])
        source, truth = model.source(pictures[:1]), pictures[1:]
        result["mae"] = pixels(model, source, motion, vectors[picked], truth)
        result["mae_of_copying"] = float((pictures[:1] - truth).abs().mean())
    for way in asked:
        shown, kbps, sent = send(smoothed(model, true_points) if way.smooth else vectors, motion, way)
        points = landmarks(model, motion.with_vectors(torch.from_numpy(shown)))
        one = {"kbps": kbps, "sent": sent, "landmarks_px": float((points - true_points)[..., :2].norm(dim=2).mean())}
        both = zip(openings(true_points), openings(points), strict=True)
        one |= {k: float(np.corrcoef(a, b)[0, 1]) for k, (a, b) in zip(("mouth", "eyes"), both, strict=True)}
        if way.name in drawn:
            one["mae"] = pixels(model, source, motion, shown[picked], truth)
        result["ways"][way.name] = one
    return result


def spread(values: list[float], digits: int) -> str:
    """Return mean and standard deviation over people."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def by_person(clips: list[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> list[float]:
    """Return the mean over each person's clips that have the value."""
    people: dict[str, list[float]] = {}
    for clip in clips:
        if (found := value(clip)) is not None:
            people.setdefault(clip["person"], []).append(found)
    return [float(np.mean(values)) for values in people.values()]


def page(results: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    clips, about = results["clips"], results["about"]
    rows = []
    for name in clips[0]["ways"]:
        cells = [spread(by_person(clips, lambda c, k=key, n=name: c["ways"][n][k]), 2) for key in ("kbps",)]
        cells.append(f"{np.mean(by_person(clips, lambda c, n=name: c['ways'][n]['sent'])):.2f}")
        cells.append(spread(by_person(clips, lambda c, n=name: c["ways"][n]["landmarks_px"]), 2))
        more = by_person(
            clips, lambda c, n=name: 100 * (c["ways"][n]["mae"] / c["mae"] - 1) if "mae" in c["ways"][n] else None
        )
        for key in ("mouth", "eyes"):
            cells.append(f"{np.mean(by_person(clips, lambda c, k=key, n=name: c['ways'][n][k])):.2f}")
        drawn = [(c["ways"][name]["mae"], c["mae"]) for c in clips if "mae" in c["ways"][name]]
        coded, own = np.sum(drawn, axis=0) if drawn else (1.0, 1.0)
        rows.append([name, *cells, f"{100 * (coded / own - 1):.1f} ({spread(more, 1)})" if more else ""])
    header = ["", "kbps at 25 fps", "frames sent", "landmarks off, px of 256", "mouth", "eyes", "MAE, % more"]
    each = []
    shown = results["per_clip"]
    for clip in clips:
        each.append([f"{clip['person']}: {clip['clip']}", *(f"{clip['ways'][n]['kbps']:.2f}" for n in shown)])
    people = len({clip["person"] for clip in clips})
    pictured = len({clip["person"] for clip in clips if "mae" in clip})
    text = (
        f"# How few bits does a face of `mesh` need?\n\nMade by `{about['command']}`, {about['date'][:10]}, "
        f"{about['processor']}. {people} people, {len(clips)} "
        f"clips of at most {results['frames']} frames, none of them in a table; mean ± standard deviation over people. "
        "Mouth and eyes: correlation over time of their opening with that of unquantised motion. MAE: more than with "
        f"unquantised motion, every {results['every']}th frame of {pictured} "
        "people: of all their errors together (mean ± deviation over people).\n\n"
    )
    return text + table(header, rows) + "\n\nkbps by clip:\n\n" + table(["", *shown], each) + "\n"


def measured(motion: Path, most: int) -> list[Path]:
    """Return the clips of so many people who validate, evenly taken from all, the first among them."""
    clips = sorted(motion.glob("validate-*.npz"))
    people = sorted({path.stem.split("-", 2)[1] for path in clips})
    taken = {people[i * len(people) // min(most, len(people))] for i in range(min(most, len(people)))}
    return [path for path in clips if path.stem.split("-", 2)[1] in taken]


def main() -> None:
    """Read the options, measure, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motion", type=Path, help="folder of mesh_motion.py: those that validate are measured")
    parser.add_argument("data", type=Path, help="the development data")
    parser.add_argument("-o", "--output", type=Path, required=True, help="without suffix: .json and .md are written")
    parser.add_argument("--people", type=int, default=11)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--draw", type=int, default=0, help="people whose frames are drawn too")
    parser.add_argument(
        "--every",
        type=int,
        default=15,
        help="draw one frame in so many: odd, or ways that halve the rate look too good",
    )
    parser.add_argument("--drawn", nargs="*", default=["every frame, quality 4"], help="ways that are drawn")
    parser.add_argument("--forecast", nargs="*", default=["damped"], help="fillers of the closed loop")
    parser.add_argument("--only", nargs="*", help="ways that are measured. (default: all)")
    parser.add_argument("--per-clip", nargs="*", default=["every frame, quality 4"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_backbone("mesh", "cpu", "fast")
    assert isinstance(model, Mesh)
    clips = {p.stem: p for folder in ("people", "voxceleb") for p in (options.data / folder).glob("*.mp4")}
    asked = [way for way in ways(options.forecast) if options.only is None or way.name in options.only]
    results: dict[str, Any] = {"about": describe(), "frames": options.frames, "every": options.every}
    results |= {"per_clip": options.per_clip, "clips": []}
    seen: set[str] = set()
    for path in measured(options.motion, options.people):
        _, person, name = path.stem.split("-", 2)
        draw = options.drawn if person not in seen and len(seen) < options.draw else []
        seen.add(person)
        with torch.inference_mode():
            found = measure(model, path, clips[name], asked, options.frames, draw, options.every)
        results["clips"].append({"person": person, **found})
        print(person, name, round(found["ways"][options.per_clip[0]]["kbps"], 3), flush=True)
        for suffix, text in ((".json", json.dumps(results, indent=2) + "\n"), (".md", page(results))):
            with atomic_path(options.output.with_suffix(suffix)) as temporary:
                temporary.write_text(text)


if __name__ == "__main__":
    main()
