"""Kilobits per second of coded key points, every frame sent, on people that no table has seen.

Rates are of whole clips: bits of all packets over the clip's duration at the given frame rate. `payload` counts coded
levels, key packets included; `file` adds packet headers and checksums as in a .kcm file; `live` is one frame a packet
with a key packet every two seconds. No reference picture and no stream header is counted.

Baselines: 32-bit floats; the empirical entropy of the differences of levels from frame to frame (one distribution a
number, of the very clips that are coded: no code with one table a number is shorter); zlib of those differences.

    python benchmarks/motion_rate.py KEYPOINTS.npz --person id10291 --output benchmarks/results/motion_rate.json
"""

import argparse
import time
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.codec import (
    FILE,
    LIVE,
    Layout,
    MotionPacket,
    Packing,
    decode_motion,
    encode_levels,
    load_profile,
    quantize,
)
from kinecast.codec.profiles import Profile
from kinecast.data.keypoint_store import load_series
from kinecast.data.video_folder import PERSON_PATTERN, person_of
from machine import describe, table, write_results

STEPS = {f"1/{value}, 1/{jacobian}": (1 / value, 1 / jacobian) for value, jacobian in ((256, 64), (128, 32))}


def measure(levels: np.ndarray, layout: Layout, profile: Profile, packing: Packing, fps: float) -> dict[str, float]:
    """Encode and decode one clip; rates in kbps, times in CPU seconds."""
    started = time.process_time()
    packets = list(encode_levels(levels, layout, profile, packing))
    encoded = time.process_time()
    data = [bytes(packet) for packet in packets]
    frames = list(decode_motion((MotionPacket.parse(one)[0] for one in data), layout, profile))
    decoded = time.process_time()
    if not np.array_equal(np.stack([frame.levels for frame in frames]), levels):
        raise AssertionError("the codec lost something")
    kilobits = fps / len(levels) * 8 / 1000
    return {
        "payload_kbps": sum(len(packet.payload) for packet in packets) * kilobits,
        "total_kbps": sum(map(len, data)) * kilobits,
        "encode_seconds": encoded - started,
        "decode_seconds": decoded - encoded,
    }


def baselines(clips: dict[str, np.ndarray], fps: float) -> dict[str, float]:
    """Rates in kbps over all clips."""
    changes = [np.diff(levels, axis=0) for levels in clips.values()]
    together = np.concatenate(changes)
    bits = 0.0
    for number in together.T:
        counts = np.unique(number, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / len(number))).sum()) / len(number)
    squeezed = sum(len(zlib.compress(change.astype(np.int16).tobytes(), 9)) for change in changes)
    return {
        "float32": together.shape[1] * 32 * fps / 1000,
        "entropy_of_differences": bits * fps / 1000,
        "zlib_of_differences": 8 * squeezed / len(together) * fps / 1000,
    }


def run(
    series: dict[str, np.ndarray],
    profiles: list[str],
    fps: float,
    live: bool,
    steps: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    """Return results by steps."""
    results: dict[str, Any] = {}
    for name, (value, jacobian) in steps.items():
        layout = Layout.fomm(value=value, jacobian=jacobian)
        clips = {clip: quantize(vectors, layout) for clip, vectors in series.items()}
        result: dict[str, Any] = {"baselines_kbps": baselines(clips, fps)}
        frames = np.array([len(levels) for levels in clips.values()])
        for profile_name in profiles:
            profile = load_profile(profile_name, layout)
            for mode, packing in (("file", FILE), *((("live", LIVE),) if live else ())):
                each = {clip: measure(levels, layout, profile, packing, fps) for clip, levels in clips.items()}
                columns = {key: np.array([one[key] for one in each.values()]) for key in next(iter(each.values()))}
                result[f"{profile_name} {mode}"] = {
                    "payload_kbps": float(np.average(columns["payload_kbps"], weights=frames)),
                    "total_kbps": float(np.average(columns["total_kbps"], weights=frames)),
                    "mean_of_clips_payload_kbps": float(columns["payload_kbps"].mean()),
                    "mean_of_clips_total_kbps": float(columns["total_kbps"].mean()),
                    "encode_fps": float(frames.sum() / columns["encode_seconds"].sum()),
                    "decode_fps": float(frames.sum() / columns["decode_seconds"].sum()),
                    "clips": each,
                }
        results[name] = result
    return results


def show(results: dict[str, Any]) -> str:
    """Return the table."""
    rows = []
    for steps, result in results.items():
        for name, kbps in result["baselines_kbps"].items():
            rows.append([f"{steps}: {name}", f"{kbps:.2f}", "", "", "", ""])
        for name, one in result.items():
            if name != "baselines_kbps":
                rates = [one["payload_kbps"], one["total_kbps"], one["mean_of_clips_total_kbps"]]
                speeds = [f"{one['encode_fps']:.0f}", f"{one['decode_fps']:.0f}"]
                rows.append([f"{steps}: {name}", *(f"{rate:.3f}" for rate in rates), *speeds])
    return table(["steps: coder", "payload kbps", "with packets", "mean of clips", "encode fps", "decode fps"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("--person", default="id10291", help="who is coded")
    parser.add_argument("--profiles", default="fomm-vox256,generic")
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--steps", help="instead of both: of positions and Jacobians, such as 1/128,1/16")
    parser.add_argument("--live", action="store_true", help="measure one frame a packet too")
    parser.add_argument("--clips", type=int, help="use the first so many clips")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    series = {
        clip: vectors.numpy()
        for clip, vectors in load_series(arguments.keypoints).items()
        if person_of(clip, PERSON_PATTERN) == arguments.person
    }
    series = dict(list(series.items())[: arguments.clips])
    steps = STEPS
    if arguments.steps:
        value, jacobian = (float(Fraction(step)) for step in arguments.steps.split(","))
        steps = {arguments.steps: (value, jacobian)}
    machine = describe()
    results = run(series, arguments.profiles.split(","), arguments.fps, arguments.live, steps)
    print(show(results))
    write_results(arguments.output, {"machine": machine, "fps": arguments.fps, "results": results})


if __name__ == "__main__":
    main()
