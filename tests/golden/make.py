"""Write the codec's golden files anew: what the format is, to the byte.

To be run only where the format was changed on purpose, in the same commit as docs/protocol.md:

    python tests/golden/make.py
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from codec.test_packets import UNITS  # noqa: E402
from codec.tracks import LADDER, LAYOUTS, layered_vectors, profile_of, smooth_levels  # noqa: E402  # noqa: E402
from kinecast.codec import FILE, EveryKth, Packing, encode_layers, encode_levels, quantize  # noqa: E402


def streams() -> dict[str, np.ndarray]:
    """Return packets, back to back, and the levels of their frames."""
    found: dict[str, np.ndarray] = {}
    for name in ("fomm", "tps", "skipping"):
        layout = LAYOUTS["fomm" if name == "skipping" else name]
        skipping = name == "skipping"
        levels = smooth_levels(layout, 58 if skipping else 20, seed=1)  # every third of 58: the last is sent too
        packing = replace(FILE, skips=True, frames=8) if skipping else Packing(4, 10)
        packets = encode_levels(levels, layout, profile_of(layout), packing, EveryKth(3) if skipping else None)
        found[f"{name}_bytes"] = np.frombuffer(b"".join(map(bytes, packets)), np.uint8)
        if skipping:
            levels = np.repeat(levels[::3], 3, axis=0)[:58]
        found[f"{name}_levels"] = levels
    vectors, every = layered_vectors(50, seed=1), (4, 2, 1)
    layered = encode_layers(vectors, LADDER, profile_of(LADDER[0]), every, replace(FILE, frames=20))
    found["layers_bytes"] = np.frombuffer(b"".join(map(bytes, layered)), np.uint8)
    found["layers_levels"] = quantize(vectors, LADDER[-1])
    return found


def main() -> None:
    for name, unit in UNITS.items():
        (HERE / f"codec_{name}.hex").write_text(bytes(unit).hex() + "\n")
    np.savez_compressed(HERE / "codec_stream.npz", **streams())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
