"""How well a backbone rebuilds clips from their first frame and their true keypoints, and a picture to judge by eye.

Over all frames of each clip, the first included, at the model's frame size: MAE and SSIM of the rebuilt frames, and of
copying the first frame instead. Two means over clips are stated: of the clips' own ratios, and the ratio of the means.

    python benchmarks/backbone_quality.py face-128 ../shared/data/voxceleb --output quality.json --picture quality.jpg
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, table, write_results

from kinecast import load_backbone
from kinecast.backbones.base import Backbone
from kinecast.data.video_folder import list_clips
from kinecast.errors import KinecastError
from kinecast.metrics.pixel import mae, ssim
from kinecast.video import caption, grid, read_batches, read_frames, read_image, to_uint8, write_image

BATCH = 8
PAIRS = 4  # true and rebuilt, in the picture
VALUES = ("mae", "mae_copy", "ssim", "ssim_copy")


def measure(model: Backbone, clip: Path, crop: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return a clip's figures and its row of the picture; frames are read in batches and not kept."""
    count = sum(1 for _ in read_frames(clip, crop="none"))
    shown = set(np.linspace(0, count - 1, PAIRS + 1).round().astype(int)[1:].tolist())
    source = read_image(clip, model.frame_size, crop)
    state, source_motion = model.encode_source(source.to(model.device)), model.detect(source.to(model.device))
    sums, start = np.zeros(len(VALUES)), 0
    row = [caption(to_uint8(source)[0], clip.stem)]
    for frames in read_batches(clip, model.frame_size, crop, BATCH):
        rebuilt = model.animate(state, source_motion, model.detect(frames.to(model.device))).cpu()
        errors = mae(rebuilt, frames)
        copied = source.expand_as(frames)
        parts = (errors, mae(copied, frames), ssim(rebuilt, frames), ssim(copied, frames))
        sums += [part.double().sum().item() for part in parts]
        pictures = to_uint8(frames), to_uint8(rebuilt)
        for i in range(len(frames)):
            if start + i in shown:
                row += [
                    caption(pictures[0][i], f"frame {start + i}"),
                    caption(pictures[1][i], f"MAE {errors[i]:.3f}"),
                ]
        start += len(frames)
    figures = dict(zip(VALUES, (sums / start).tolist(), strict=True))
    if not figures["mae_copy"]:
        raise KinecastError(
            f"{clip}: expected a clip that moves, found {start} frames that are all alike: leave it out"
        )
    row += row[-2:] * ((2 * PAIRS + 1 - len(row)) // 2)  # a clip of few frames
    return {"clip": clip.stem, "frames": start, **figures, "mae_ratio": figures["mae"] / figures["mae_copy"]}, row


def main() -> None:
    """Measure all clips, print the table, and write JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or file")
    parser.add_argument("folder", type=Path, help="folder of clips")
    parser.add_argument("--person", default="id10291", help="regular expression that clip names match (%(default)s)")
    parser.add_argument("--crop", default="center", help="center, face or none (%(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads of torch (its own default)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--picture", type=Path, help="picture to write, .jpg or .png")
    args = parser.parse_args()
    machine = describe()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_backbone(args.model, device=args.device)
    clips = [clip for clip in list_clips([args.folder]) if re.search(args.person, clip.stem)]
    if not clips:
        raise KinecastError(f"{args.folder}: expected clips whose names match {args.person!r}, found none")
    figures, rows = [], []
    for number, clip in enumerate(clips, 1):
        figure, row = measure(model, clip, args.crop)
        figures.append(figure)
        rows.append(row)
        print(f"{number}/{len(clips)} {clip.stem}: MAE ratio {figure['mae_ratio']:.3f}", file=sys.stderr)

    means = {name: float(np.mean([figure[name] for figure in figures])) for name in VALUES}
    ratios = {
        "mean_of_ratios": float(np.mean([figure["mae_ratio"] for figure in figures])),
        "ratio_of_means": means["mae"] / means["mae_copy"],
    }
    lines = [_cells(f["clip"], f["frames"], f, f"{f['mae_ratio']:.3f}") for f in figures]
    total = sum(figure["frames"] for figure in figures)
    lines.append(_cells("mean over clips", total, means, f"{ratios['mean_of_ratios']:.3f}"))
    lines.append(["ratio of the means", "", "", "", f"{ratios['ratio_of_means']:.3f}", "", ""])
    print(table(["clip", "frames", "MAE", "MAE of copying", "ratio", "SSIM", "SSIM of copying"], lines))
    if args.picture:
        write_image(args.picture, grid(rows, titles=["source", *["true", "rebuilt"] * PAIRS]))
        print(f"wrote {args.picture}", file=sys.stderr)
    results = {
        "machine": machine,
        "model": args.model,
        "frame_size": model.frame_size,
        "protocol": "reconstruction from the first frame with true keypoints, all frames of each clip",
        "clips": figures,
        "means": means | ratios,
    }
    write_results(args.output, results)


def _cells(name: str, frames: int, figures: dict[str, Any], ratio: str) -> list[str]:
    values = [f"{figures[key]:.4f}" for key in VALUES]
    return [name, str(frames), *values[:2], ratio, *values[2:]]


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
