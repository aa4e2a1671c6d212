"""Write the golden vectors of the backbones anew: what small networks of the published designs give.

To be run only where a network was changed on purpose. It needs the shared reference folder, and refuses where a full
network does not give what the published one gives, so that the small ones stand for those:

    KINECAST_DATA=../shared/data python tests/golden/make_backbones.py
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from golden_backbones import NETWORKS, by_rule, names_of, network, outputs, sampled  # noqa: E402
from kinecast.models import FOMM, TPS, Backbone, FaceVid2Vid  # noqa: E402
from kinecast.models.face_vid2vid import FaceVid2VidConfig  # noqa: E402
from kinecast.models.fomm import FOMMConfig  # noqa: E402
from kinecast.models.tps import TPSConfig  # noqa: E402

# Largest and mean difference of a picture; face-vid2vid's magnifies the rounding of its own points (README there).
TOLERANCES = {"fomm": (1e-4, 1e-5), "tps": (1e-4, 1e-5), "face-vid2vid": (0.1, 1e-4)}


class Shape:
    """Stands for a tensor of which only the shape is known."""

    def __init__(self, shape: list[int]) -> None:
        self.shape = tuple(shape)


def full_size(name: str) -> Backbone:
    """Return a network of the published sizes with the weights of the rule."""
    made: dict[str, Backbone] = {
        "fomm": FOMM(FOMMConfig()),
        "tps": TPS(TPSConfig()),
        "face-vid2vid": FaceVid2Vid(FaceVid2VidConfig()),
    }
    model = made[name]
    model.load_state_dict(by_rule(name, model.state_dict()))
    return model.eval()


def check(reference: Path, name: str) -> None:
    """See that the full network gives the published picture."""
    with np.load(reference / f"{name}_vox-256.npz") as archive:
        source, driving = torch.from_numpy(archive["images"]).split(1)
        plain = "prediction_without_bg" if name == "tps" else "prediction"
        wanted = torch.from_numpy(archive[plain])
    model: Any = full_size(name)
    found = model.animate(model.encode_source(source), model.detect(source), model.detect(driving))
    difference = (found - wanted).abs()
    largest, mean = TOLERANCES[name]
    print(f"{name}: largest difference {difference.max():.1e}, mean {difference.mean():.1e}")
    if difference.max() > largest or difference.mean() > mean:
        sys.exit(f"{name}: expected the published picture, found another: nothing was written")


def main() -> None:
    reference = Path(os.environ["KINECAST_DATA"]).parent / "reference"
    names: dict[str, dict[str, str]] = {}
    for name in TOLERANCES:
        check(reference, name)
        parts = json.loads((reference / f"{name}_vox-256.keys.json").read_text())
        names[name] = {part: names_of({n: Shape(s) for n, s in shapes.items()}) for part, shapes in parts.items()}
    (HERE / "published_names.json").write_text(json.dumps(names, indent=1) + "\n")
    for name in NETWORKS:
        values = {key: sampled(tensor) for key, tensor in outputs(network(name)).items()}
        np.savez_compressed(HERE / f"backbone_{name}.npz", **values)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
