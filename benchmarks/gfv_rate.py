"""What motion costs in the messages of H.274 (generative face video) against the project's own stream, in bits a frame.

For each clip and model the same levels are coded both ways: the .kcm's packets as in a file, and GFV messages in plain
Exp-Golomb codes, as they are written (the shortest of numbers and differences to the base picture), without any
prediction, and with prediction from the message before, which the standard has for further frames of one coded picture.
Then what carries them: the SEI message's and NAL unit's bytes, and the skipped picture of x264 or x265. The first
frame, with the base picture and the network's address, is left out of all but the .kcm's, of which it is the key.

    python benchmarks/gfv_rate.py CLIP... --models face-128 mesh --limit 75 --output benchmarks/results/gfv_rate.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.stream.clips import profile_named
from kinecast.apps.stream.gfv.clips import backbone_layout
from kinecast.apps.stream.gfv.writing import GfvWriter
from kinecast.codec import FILE, encode_levels, quantize
from kinecast.codec.gfv import CODECS, PAYLOAD_TYPE, FrameCoder, GfvDecoder, GfvEncoder, Sender, sei_unit
from kinecast.codec.gfv.nal import START
from kinecast.codec.quantizer import Layout
from kinecast.media.footage import footage
from kinecast.media.video import to_uint8
from kinecast.zoo import load_backbone
from machine import describe, table, write_results

QUALITIES = 3, 5, 7
ROWS = {
    "kcm_payload": ".kcm: range-coded levels",
    "kcm": ".kcm: with packets",
    "plain": "GFV: numbers as they are",
    "base": "GFV: as written, differences to the base picture",
    "previous": "GFV: differences to the message before (many frames a picture)",
    "sei": "GFV: as written, with SEI and NAL unit",
    "h264": "GFV: as written, in skipped pictures of x264",
    "hevc": "GFV: as written, in skipped pictures of x265",
}


def motion(backbone: Any, clip: str, limit: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a clip's motion (T, D), its first frame and its rate."""
    seen = footage(clip, backbone.frame_size, limit=limit)
    detect = backbone.follow()
    batches = [
        (frames, detect(frames.to(backbone.device)).to("cpu").vectors().numpy()) for _, frames in seen.batches(8)
    ]
    return np.concatenate([vectors for _, vectors in batches]), to_uint8(batches[0][0][:1])[0], seen.rate


def payloads(levels: np.ndarray, layout: Layout, count: int = 0) -> list[bytes]:
    """Return the messages of a clip's frames; checked to give the levels back."""
    encoder, decoder, coder = GfvEncoder(layout, Sender(layout, bytes(32), "a-model")), GfvDecoder(), FrameCoder(layout)
    found = [encoder.push(frame, count) for frame in levels]
    for payload, frame in zip(found, levels, strict=True):
        read = decoder.push(payload)
        if read is None or not np.array_equal(coder.levels(read.values), frame):
            raise AssertionError("a message lost something")
    return found


def skipped(picture: np.ndarray, fps: float, frames: int, suffix: str) -> float:
    """Return the bytes of a skipped picture, the mean of some frames."""
    with tempfile.TemporaryDirectory() as folder:
        with GfvWriter(Path(folder) / f"x{suffix}", picture, fps) as writer:
            for _ in range(frames):
                writer.write(b"\x80")
        return writer.sizes["skipped_bytes"] / (frames - 1)


def measure(vectors: np.ndarray, layout: Layout, model: str, carried: dict[str, float]) -> dict[str, float]:
    """Return bits a frame of one clip."""
    levels = quantize(vectors, layout)
    packets = list(encode_levels(levels, layout, profile_named("auto", model, layout), FILE))
    written, coder = payloads(levels, layout)[1:], FrameCoder(layout)
    sei = {
        name: np.mean([len(START + sei_unit(codec, PAYLOAD_TYPE, p)) for p in written])
        for name, codec in CODECS.items()
    }
    found = {
        "kcm_payload": sum(len(packet.payload) for packet in packets) / len(levels),
        "kcm": sum(len(bytes(packet)) for packet in packets) / len(levels),
        "plain": np.mean([len(bytes(coder.exact_message(frame))) for frame in levels[1:]]),
        "base": np.mean([len(payload) for payload in written]),
        "previous": np.mean([len(payload) for payload in payloads(levels, layout, 1)[1:]]),
        "sei": sei["h264"],
    }
    found |= {name: sei[name] + carried[name] for name in CODECS}
    return {name: 8 * float(size) for name, size in found.items()}


def run(clips: list[str], model: str, limit: int) -> dict[str, Any]:
    """Return bits a frame by quality, row and clip."""
    backbone = load_backbone(model, "cpu")
    by_quality: dict[int, dict[str, list[float]]] = {q: {row: [] for row in ROWS} for q in QUALITIES}
    rates, first = [], []
    for clip in clips:
        vectors, picture, fps = motion(backbone, clip, limit)
        rates.append(fps)
        carried = {name: skipped(picture, fps, 30, suffix) for name, suffix in (("h264", ".h264"), ("hevc", ".h265"))}
        for quality in QUALITIES:
            layout = backbone_layout(backbone, quality)
            for row, bits in measure(vectors, layout, model, carried).items():
                by_quality[quality][row].append(bits)
        first.append(8 * len(payloads(quantize(vectors[:1], layout), layout)[0]))
    return {"clips": len(clips), "fps": rates, "first_message_bits": first, "bits_a_frame": by_quality}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", help="one of each person")
    parser.add_argument("--models", nargs="+", default=["face-128", "mesh"])
    parser.add_argument("--limit", type=int, default=75, help="frames of each clip")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    about = describe()
    results = {model: run(arguments.clips, model, arguments.limit) for model in arguments.models}
    for model, found in results.items():
        rows = []
        for row, name in ROWS.items():
            cells = [found["bits_a_frame"][quality][row] for quality in QUALITIES]
            kbps = np.mean(np.array(cells[1]) * found["fps"]) / 1000
            rows.append([name, *(f"{np.mean(c):.0f} ± {np.std(c, ddof=1):.0f}" for c in cells), f"{kbps:.2f}"])
        print(f"\n{model}, {found['clips']} people, bits a frame, mean ± standard deviation over people\n")
        print(table(["", *(f"quality {quality}" for quality in QUALITIES), "kbps at 5"], rows))
    write_results(arguments.output, {"about": about, **results})


if __name__ == "__main__":
    main()
