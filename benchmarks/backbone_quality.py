"""How well backbones rebuild and transfer the motion of people they were not trained on, with pictures to judge by eye.

Reconstruction: over all frames of each clip, the first included, at the model's frame size, from the first frame and
true keypoints: the distortions of the rebuilt frames, and of copying the first frame instead. Two means over clips are
stated: of the clips' own ratios of MAE, and the ratio of the means. Landmark distance is relative to the distance of
the eyes, identity is that of face descriptions (kinecast.metrics.face); on every --face-every-th frame.

Transfer (--sources): each picture, cut around its face, is animated by the relative motion of each clip. There is no
true frame: `identity` is the distance of the animated face to the picture's, `motion` how far its landmarks have moved
otherwise than the driving face's since the first frame (both relative to their eyes' distance), and `motion of a still`
what not moving at all would score.

    python benchmarks/backbone_quality.py face-128 ../shared/data/voxceleb --output quality.json --picture quality.jpg
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast import load_backbone
from kinecast.data.video_folder import list_clips
from kinecast.errors import KinecastError
from kinecast.faces.topology import LEFT_EYE_CORNER, RIGHT_EYE_CORNER
from kinecast.media.video import caption, grid, read_batches, read_frames, read_image, to_uint8, write_image
from kinecast.metrics.face import FaceDistances
from kinecast.models.base import Backbone
from kinecast.motion import Motion
from kinecast.research.cost import count_macs
from kinecast.research.distortions import Distortions
from machine import describe, table, write_results

BATCH = 8
PAIRS = 4  # true and rebuilt, in the picture
TRANSFER_FRAMES = 24  # of each clip, evenly spaced
Pictures = list[np.ndarray]


def rebuild(model: Backbone, clip: Path, crop: str, measures: Distortions) -> tuple[dict[str, Any], Pictures]:
    """Return a clip's figures and its row of the picture; frames are read in batches and not kept."""
    count = sum(1 for _ in read_frames(clip, crop="none"))
    shown = set(np.linspace(0, count - 1, PAIRS + 1).round().astype(int)[1:].tolist())
    source = read_image(clip, model.frame_size, crop)
    state, anchor = model.encode_source(source.to(model.device)), model.detect(source.to(model.device))
    values: dict[str, list[np.ndarray]] = {}
    row, start = [caption(to_uint8(source)[0], clip.stem)], 0
    for frames in read_batches(clip, model.frame_size, crop, BATCH):
        rebuilt = model.animate(state, anchor, model.detect(frames.to(model.device))).cpu()
        truth = measures.against(frames)
        for suffix, seen in (("", rebuilt), ("_copy", source.expand_as(frames))):
            for name, each in truth.compare(seen).items():
                values.setdefault(name + suffix, []).append(each)
        pictures = to_uint8(frames), to_uint8(rebuilt)
        for i in range(len(frames)):
            if start + i in shown:
                error = values["mae"][-1][i]
                row += [caption(pictures[0][i], f"frame {start + i}"), caption(pictures[1][i], f"MAE {error:.3f}")]
        start += len(frames)
    figures = {name: float(np.nanmean(np.concatenate(each))) for name, each in values.items()}
    if not figures["mae_copy"]:
        raise KinecastError(
            f"{clip}: expected a clip that moves, found {start} frames that are all alike: leave it out"
        )
    row += row[-2:] * ((2 * PAIRS + 1 - len(row)) // 2)  # a clip of few frames
    return {"clip": clip.stem, "frames": start, **figures, "mae_ratio": figures["mae"] / figures["mae_copy"]}, row


@dataclass(frozen=True)
class Driver:
    """What drives pictures: some frames of a clip, their motion and their landmarks."""

    frames: Tensor
    motion: Motion
    landmarks: list[np.ndarray | None]

    @classmethod
    def of(cls, model: Backbone, clip: Path, crop: str, faces: FaceDistances) -> "Driver":
        """Read a clip, once for all pictures."""
        frames = torch.cat(list(read_batches(clip, model.frame_size, crop, BATCH)))
        frames = frames[np.linspace(0, len(frames) - 1, TRANSFER_FRAMES).astype(int)]
        return cls(frames, model.detect(frames), _normalised(faces, frames))


def transfer(
    model: Backbone, source: Tensor, driver: Driver, faces: FaceDistances
) -> tuple[dict[str, float], Pictures]:
    """Return the figures of one picture animated by one clip, and driving and animated frames by turns."""
    motion, anchor = driver.motion, model.detect(source)
    moved = model.relative_motion(anchor, motion, motion[:1], model.adapts_scale(anchor, motion[:1]))
    animated = model.animate(model.encode_source(source), anchor, moved)
    face = faces.look(source[0])
    found: dict[str, list[float]] = {"identity": [], "motion": [], "motion_still": []}
    if face is not None:
        driving, own = driver.landmarks, _normalised(faces, animated)
        for t in range(1, len(animated)):
            if (there := faces.look(animated[t])) is not None and there.description is not None:
                assert face.description is not None
                found["identity"].append(float(torch.linalg.vector_norm(there.description - face.description)))
            if all(points is not None for points in (driving[0], driving[t], own[0], own[t])):
                change = driving[t] - driving[0]  # type: ignore[operator]
                found["motion"].append(_length(own[t] - own[0] - change))  # type: ignore[operator]
                found["motion_still"].append(_length(change))
    shown = np.linspace(0, len(animated) - 1, PAIRS + 1).astype(int)[1:]
    pairs = zip(to_uint8(driver.frames[shown]), to_uint8(animated[shown]), strict=True)
    row = [to_uint8(source)[0], *(picture for pair in pairs for picture in pair)]
    return {name: float(np.mean(each)) if each else float("nan") for name, each in found.items()}, row


def _normalised(faces: FaceDistances, frames: Tensor) -> list[np.ndarray | None]:
    """Return the landmarks of each frame relative to the eyes' distance in the first; None without a face."""
    found = [faces.landmarker.detect(frame) for frame in frames]
    points = [each[0].landmarks[:, :2] if each else None for each in found]
    if points[0] is None:
        return [None] * len(frames)
    eyes = float(np.linalg.norm(points[0][RIGHT_EYE_CORNER] - points[0][LEFT_EYE_CORNER]))
    return [None if each is None else each / max(eyes, 1.0) for each in points]


def _length(change: np.ndarray) -> float:
    return float(np.linalg.norm(change, axis=1).mean())


def reconstruction(model: Backbone, clips: list[Path], measures: Distortions, crop: str) -> tuple[dict, list[Pictures]]:
    """Return the figures of all clips with their means, printing the table, and the rows of the picture."""
    figures, rows = [], []
    for number, clip in enumerate(clips, 1):
        figure, row = rebuild(model, clip, crop, measures)
        figures.append(figure)
        rows.append(row)
        print(f"{number}/{len(clips)} {clip.stem}: MAE ratio {figure['mae_ratio']:.3f}", file=sys.stderr)
    names = [name for name in figures[0] if name not in ("clip", "frames", "mae_ratio", "mse", "mse_copy")]
    means = {name: float(np.mean([figure[name] for figure in figures])) for name in names}
    means["mean_of_ratios"] = float(np.mean([figure["mae_ratio"] for figure in figures]))
    means["ratio_of_means"] = means["mae"] / means["mae_copy"]
    kinds = [name for name in names if not name.endswith("_copy")]
    head = ["clip", "frames", "MAE ratio", *(part for kind in kinds for part in (kind, "copying"))]
    lines = [_cells(f["clip"], str(f["frames"]), f["mae_ratio"], f, kinds) for f in figures]
    total = str(sum(figure["frames"] for figure in figures))
    lines.append(_cells("mean over clips", total, means["mean_of_ratios"], means, kinds))
    print(table(head, [*lines, ["ratio of the means", "", f"{means['ratio_of_means']:.3f}", *[""] * (2 * len(kinds))]]))
    return {"clips": figures, "means": means}, rows


def _cells(name: str, frames: str, ratio: float, figures: dict[str, Any], kinds: list[str]) -> list[str]:
    values = [f"{figures[kind + suffix]:.4f}" for kind in kinds for suffix in ("", "_copy")]
    return [name, frames, f"{ratio:.3f}", *values]


def transfers(
    model: Backbone, pictures: list[Path], clips: list[Path], crop: str, faces: FaceDistances
) -> tuple[dict, list[Pictures]]:
    """Return the figures of every picture by every clip, printing the table, and a row for each picture."""
    figures, rows = [], []
    drivers = [Driver.of(model, clip, crop, faces) for clip in clips]
    for i, picture in enumerate(pictures):
        try:
            source = read_image(picture, model.frame_size, "face")
        except KinecastError as error:  # a drawing, or a face from the side
            print(f"left out: {error}", file=sys.stderr)
            continue
        each = []
        for j, driver in enumerate(drivers):
            found, row = transfer(model, source, driver, faces)
            each.append(found)
            if j == i % len(drivers):
                rows.append(row)
        figures.append({"picture": picture.stem} | _means(each))
    if not figures:
        raise KinecastError("--sources: expected pictures with a face, found none: name another folder")
    means = _means(figures)
    head = ["picture", "identity", "motion", "motion of a still"]
    lines = [[f["picture"], *(f"{f[k]:.4f}" for k in means)] for f in [*figures, {"picture": "mean"} | means]]
    print(table(head, lines))
    return {"pictures": figures, "means": means}, rows


def _means(figures: list[dict[str, Any]]) -> dict[str, float]:
    names = [name for name in figures[0] if name != "picture"]
    values = {name: np.array([figure[name] for figure in figures]) for name in names}
    return {
        name: float(np.nanmean(each)) if not np.isnan(each).all() else float("nan") for name, each in values.items()
    }


def main() -> None:
    """Measure all models on all clips, print the tables, and write JSON and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="name or file")
    parser.add_argument("folder", type=Path, help="folder of clips")
    parser.add_argument("--person", default="id10291", help="regular expression that clip names match (%(default)s)")
    parser.add_argument("--crop", default="center", help="center, face or none (%(default)s)")
    parser.add_argument("--face-api", help="folder of @vladmandic/face-api's weights, for identity")
    parser.add_argument("--face-every", type=int, default=4, help="frames between looks at the face (%(default)s)")
    parser.add_argument("--sources", type=Path, help="folder of pictures to animate as well; needs --face-api")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads of torch (its own default)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--picture", type=Path, help="picture to write, .jpg or .png; -transfer is added for transfer")
    args = parser.parse_args()
    machine = describe()
    if args.threads:
        torch.set_num_threads(args.threads)
    clips = [clip for clip in list_clips([args.folder]) if re.search(args.person, clip.stem)]
    if not clips:
        raise KinecastError(f"{args.folder}: expected clips whose names match {args.person!r}, found none")
    if args.sources and not args.face_api:
        raise KinecastError("--sources: expected --face-api, whose network measures identity, found none: name it")
    measures = Distortions(args.face_api, args.face_every)
    for line in measures.missing.values():
        print(line, file=sys.stderr)
    faces = FaceDistances(args.face_api) if args.sources else None
    results: dict[str, Any] = {"machine": machine, "models": {}}
    for name in args.model:
        model = load_backbone(name, device=args.device)
        macs = count_macs(model)
        print(f"\n{name}, {model.frame_size[0]}x{model.frame_size[1]}, reconstruction; GMAC a frame: ", end="")
        print(", ".join(f"{stage} {count / 1e9:.2f}" for stage, count in macs.items()) + "\n")
        found, rows = reconstruction(model, clips, measures, args.crop)
        results["models"][name] = {"frame_size": model.frame_size, "macs": macs, "reconstruction": found}
        pictures: list[tuple[Path | None, Any, list[str]]] = [(args.picture, rows, ["true", "rebuilt"])]
        if faces is not None:
            print(f"\n{name}, transfer by relative motion\n")
            sources = sorted(path for path in args.sources.iterdir() if path.suffix in (".png", ".jpg"))
            found, rows = transfers(model, sources, clips, args.crop, faces)
            results["models"][name]["transfer"] = found
            pictures.append((_suffixed(args.picture, "transfer"), rows, ["driving", "animated"]))
        for path, rows, titles in pictures:
            if path:
                path = _suffixed(path, Path(name).stem) if len(args.model) > 1 else path
                write_image(path, grid(rows, titles=["source", *titles * PAIRS]))
                print(f"wrote {path}", file=sys.stderr)
    write_results(args.output, results)


def _suffixed(path: Path | None, suffix: str) -> Path | None:
    return path and path.with_stem(f"{path.stem}-{suffix}")


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
