"""FOMM, TPS and face-vid2vid side by side: trained alike, on the same clips of a person that none of them has seen.

Reconstruction from true keypoints, with the products of a frame (`kinecast benchmark --model` times them); kbps as
32-bit floats and as coded (`kinecast encode`, no tables of its own for any of them) with the MAE of what the decoder
gets; and predicted frames of a VRNN of each backbone's keypoints, trained on the training people. Keypoints of
different backbones have different units: forecasts are compared on the frames that they become.

    for b in fomm tps face-vid2vid; do kinecast train backbone recipes/compare-$b.toml; done
    python benchmarks/three_backbones.py runs/compare-*/model.safetensors --data ../shared/data/voxceleb -o out/three
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbone_quality import rebuild

from kinecast import load_backbone
from kinecast.apps.pipeline import published_kbps
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip
from kinecast.data.video_folder import list_clips
from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.files import make_folder
from kinecast.media.video import caption, grid, read_batches, to_uint8, write_image
from kinecast.metrics.pixel import mae
from kinecast.models.base import Backbone
from kinecast.research.cost import count_macs
from kinecast.research.distortions import Distortions
from kinecast.research.run import evaluate
from kinecast.research.study import RunConfig, Study
from kinecast.research.summary import summarise
from machine import describe, table, write_results

TRUE_FPS = 25  # of the VoxCeleb clips, whose containers say 10
HORIZONS = Horizon(6, 6), Horizon(12, 12)
MODELS = "repeat", "damped", "vrnn"
QUALITIES = 3, 5
WINDOWS, SAMPLES = 4, 20  # windows of a clip that are forecast
SHOWN = 0.4, 0.8  # of a clip, in the picture


def name_of(model: Backbone) -> str:
    """Return what a row is called."""
    return f"{model.name}, {model.frame_size[0]}x{model.frame_size[1]}"


def coded(model: Backbone, clip: Path, quality: int) -> tuple[float, float]:
    """Return kbps of coded motion, and the MAE of the decoded clip, lossless as far as a writer of video can be."""
    with tempfile.TemporaryDirectory() as folder:
        stream, seen = Path(folder) / "c.kcm", Path(folder) / "c.mp4"
        figures = encode_clip(model, clip, stream, EncodeOptions(quality, picture_quality=95, true_fps=TRUE_FPS))
        decode_clip(model, stream, seen, quality=4)
        pairs = zip(*(read_batches(path, model.frame_size, "center", 32) for path in (clip, seen)), strict=True)
        return figures["motion_kbps"], float(torch.cat([mae(a, b) for a, b in pairs]).mean())


def forecasts(path: str, data: Path, person: str, output: Path, steps: int | None) -> dict[str, Any]:
    """Return MAE and SSIM of predicted frames by horizon and row."""
    study = Study("single", "reconstruction", HORIZONS, MODELS, windows=WINDOWS, samples=SAMPLES)
    training = {} if steps is None else {"steps": steps}
    config = RunConfig(data, "clips", (study,), validate=person, backbone=path, training=training)
    result = evaluate(config, output, log=lambda line: print(line, file=sys.stderr))
    keys = ("mae_predicted", "ssim_predicted")
    return {
        str(t.horizon): {row.name: {key: row.figures[key] for key in keys} for row in summarise(t)}
        for t in result.tables
    }


def pictures(models: dict[str, Backbone], clips: list[Path], side: int) -> np.ndarray:
    """Return one row a clip: the source, and for each moment the true frame and what each backbone makes of it."""
    rows = []
    for clip in clips:
        count = sum(len(batch) for batch in read_batches(clip, (side, side), "center", 64))
        columns: list[list[np.ndarray]] = []
        for name, model in models.items():
            frames = torch.cat(list(read_batches(clip, model.frame_size, "center", 64)))
            picked = frames[[0, *(int(share * (count - 1)) for share in SHOWN)]]
            anchor = model.detect(picked[:1])
            seen = model.animate(model.encode_source(picked[:1]), anchor, model.detect(picked[1:]))
            columns.append([caption(_enlarged(x, side), name.split(",")[0]) for x in seen])
        true = [_enlarged(x, side) for x in picked]
        row = [caption(true[0], "source")]
        for i in range(len(SHOWN)):
            row += [caption(true[i + 1], "true"), *(column[i] for column in columns)]
        rows.append(row)
    return grid(rows)


def _enlarged(frame: torch.Tensor, side: int) -> np.ndarray:
    large = torch.nn.functional.interpolate(frame[None], (side, side), mode="bilinear", align_corners=False)
    return to_uint8(large.clamp(0, 1))[0]


def main() -> None:
    """Measure all, print the tables, write results.json and three.jpg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="trained backbones, names or files")
    parser.add_argument("--data", type=Path, required=True, help="folder of clips")
    parser.add_argument("--person", default="id10291", help="regular expression of who is tested on (%(default)s)")
    parser.add_argument("--steps", type=int, help="training steps of each VRNN (its own)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of results")
    args = parser.parse_args()
    clips = [clip for clip in list_clips([args.data]) if re.search(args.person, clip.stem)]
    if not clips:
        raise KinecastError(f"{args.data}: expected clips whose names match {args.person!r}, found none")
    make_folder(args.output)
    measures = Distortions(face_every=16)
    results: dict[str, Any] = {"machine": describe(), "models": {}}
    models: dict[str, Backbone] = {}
    for path in args.model:
        model = load_backbone(path, "cpu", engine="eager")
        name = name_of(model)
        models[name] = model
        found = [rebuild(model, clip, "center", measures)[0] for clip in clips]
        kinds = [kind for kind in found[0] if kind not in ("clip", "frames")]
        figures: dict[str, Any] = {kind: float(np.mean([each[kind] for each in found])) for kind in kinds}
        figures["macs"] = count_macs(model)
        figures["raw_kbps"] = published_kbps(model.motion_dim, TRUE_FPS)
        figures["coded"] = {}
        for quality in QUALITIES:
            pairs = [coded(model, clip, quality) for clip in clips]
            figures["coded"][quality] = dict(zip(("kbps", "mae"), np.mean(pairs, axis=0).tolist(), strict=True))
        figures["forecasts"] = forecasts(path, args.data, args.person, args.output / model.name, args.steps)
        results["models"][name] = figures
        print(f"{name}: done", file=sys.stderr)
    print(report(results["models"]))
    write_image(args.output / "three.jpg", pictures(models, clips, 128))
    write_results(args.output / "results.json", results)


def report(models: dict[str, Any]) -> str:
    """Return the tables."""
    kinds = [k for k in ("mae", "ssim", "perceptual", "landmark") if k in next(iter(models.values()))]
    rows = [["copying", "", *(f"{next(iter(models.values()))[k + '_copy']:.4f}" for k in kinds)]]
    for name, f in models.items():
        macs = sum(count for stage, count in f["macs"].items() if stage not in ("source only", "canonical"))
        rows.append([name, f"{macs / 1e9:.2f}", *(f"{f[kind]:.4f}" for kind in kinds)])
    text = table(["reconstruction", "GMAC", *kinds], rows)
    rows = []
    for name, f in models.items():
        cells = [f"{f['coded'][q][key]:.{digits}f}" for q in QUALITIES for key, digits in (("kbps", 2), ("mae", 4))]
        rows.append([name, f"{f['raw_kbps']:.1f}", f"{f['raw_kbps'] / 2:.1f}", *cells, f"{f['mae']:.4f}"])
    head = [cell for q in QUALITIES for cell in (f"kbps, quality {q}", f"MAE, quality {q}")]
    text += "\n\n" + table(["rate", "kbps raw", "raw, half forecast", *head, "MAE, uncoded"], rows)
    rows = []
    for name, f in models.items():
        for row in next(iter(f["forecasts"].values())):
            cells = [f"{of[row][key]:.4f}" for of in f["forecasts"].values() for key in of[row]]
            rows.append([f"{name}: {row}", *cells])
    head = [f"{horizon} {what}" for horizon in map(str, HORIZONS) for what in ("MAE", "SSIM")]
    return text + "\n\n" + table(["predicted frames", *head], rows)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
