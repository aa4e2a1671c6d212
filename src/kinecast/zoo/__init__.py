"""The bundled weights, and loading by name or path. Nothing is downloaded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kinecast.device import choose_device
from kinecast.errors import KinecastError
from kinecast.forecasting import Forecaster
from kinecast.forecasting.leading import Leading
from kinecast.forecasting.storage import WEIGHTLESS, load_forecaster_file, open_forecaster
from kinecast.models.base import Backbone
from kinecast.runtime import accelerate, check

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Entry:
    """One row of the table of weights. `card` is the model card beside the file."""

    name: str
    kind: str  # backbone or forecaster
    file: str
    sha256: str
    licence: str
    provenance: str

    @property
    def path(self) -> Path:
        """Path of the bundled file."""
        return _WEIGHTS / self.file

    @property
    def card(self) -> Path:
        """Path of the model card."""
        return self.path.with_suffix(".md")

    def verify(self) -> None:
        """Check the file against the table.

        Raises:
            KinecastError: it is missing or modified.
        """
        if not self.path.exists():
            raise KinecastError(f"{self.name}: expected {self.path}, found nothing there: reinstall kinecast")
        found = hashlib.sha256(self.path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise KinecastError(
                f"{self.name}: expected sha256 {self.sha256[:16]}..., found {found[:16]}... in {self.path}: "
                "reinstall kinecast"
            )


TABLE: tuple[Entry, ...] = (
    Entry(
        "face-128",
        "backbone",
        "face-128.safetensors",
        "0075656e0d1aa30d9c749a5aa492f96ffb7e9cdc254c1cd922edfbd198cfc19a",
        "Apache-2.0",
        "compact FOMM, trained here on 21 people (recipes/face-128.toml)",
    ),
    Entry(
        "face-256",
        "backbone",
        "face-256.safetensors",
        "55059ce24591fc03ec27a55fbb6c678d514a6b19f27d37bd681fa26f43c67323",
        "Apache-2.0",
        "compact FOMM, trained here on 21 people (recipes/face-256.toml)",
    ),
    Entry(
        "tiny",
        "backbone",
        "tiny.safetensors",
        "66aa1940a2d7d57d3bc7689203c44bb12f4347b2d2dfa679f9d0beb1b3532db5",
        "Apache-2.0",
        "compact FOMM at 64x64 for tests and first tries, trained here on 21 people (recipes/tiny.toml)",
    ),
    Entry(
        "mesh",
        "backbone",
        "mesh.safetensors",
        "c2a12fa3a69816dd30f529633eba2feed33989dc47137e09d69e5614336589a0",
        "Apache-2.0",
        "face mesh, trained here on 244 people (recipes/mesh*.toml)",
    ),
    Entry(
        "gru",
        "forecaster",
        "gru.safetensors",
        "a4c58bc9e3dba21dfc659794343f81dd81f39a970ce16cf32c6d4074b23dd7e9",
        "Apache-2.0",
        "GRU, point forecasts of face-128 motion (recipes/bundle.py)",
    ),
    Entry(
        "vrnn",
        "forecaster",
        "vrnn.safetensors",
        "945ea6db3b45657d323462d731c016e544a6c74ff47ae64b3d458b3fce7719f7",
        "Apache-2.0",
        "VRNN with a trained prior, samples futures of face-128 motion (recipes/bundle.py)",
    ),
    Entry(
        "gru-snf",
        "forecaster",
        "gru-snf.safetensors",
        "5aafa593175c5fed6be8a54906bf48dfa5ef607576216e76c086d7b5536355e7",
        "Apache-2.0",
        "GRU-NF refined at sampling, samples futures of face-128 motion (recipes/bundle.py)",
    ),
    Entry(
        "direct",
        "forecaster",
        "direct.safetensors",
        "dff9a1d514096a5113b19b68598ba111f6ab7a68f9a6abae6eec6583a55de0df",
        "Apache-2.0",
        "Direct multi-step forecasts of face-128 motion (recipes/bundle.py)",
    ),
    Entry(
        "vrnn-face-256",
        "forecaster",
        "vrnn-face-256.safetensors",
        "062566d3d0803f6bdce00a58bb8de4e65b239292cd320e3d62556dac7bbc4220",
        "Apache-2.0",
        "VRNN with a trained prior, samples futures of face-256 motion (recipes/bundle.py)",
    ),
    Entry(
        "direct-face-256",
        "forecaster",
        "direct-face-256.safetensors",
        "f88d60e1404bb5f21964591aac2b86f492ce87ad637396fcd283bdd3f18735e9",
        "Apache-2.0",
        "Direct multi-step forecasts of face-256 motion (recipes/bundle.py)",
    ),
    Entry(
        "direct-vox256",
        "forecaster",
        "direct-vox256.safetensors",
        "bf201e1eacabbe89794ec403391c5c23c8ee0147d15433e1ded50d204b473717",
        "Apache-2.0",
        "Direct multi-step forecasts of the published FOMM vox-256 motion (recipes/bundle.py)",
    ),
    Entry(
        "transformer-mesh",
        "forecaster",
        "transformer-mesh.safetensors",
        "33569dc8a4837c7023182d66f66d8f199d23a708926ba3d63b3323217a07beaa",
        "Apache-2.0",
        "Transformer, direct multi-step forecasts of mesh motion, trained here on 244 people (recipes/bundle.py)",
    ),
)

# Of each backbone's motion: those that are bundled, the one with the best scores first (docs/results/keypoints.md and
# forecasts-by-person.md).
FORECASTERS: dict[str, tuple[str, ...]] = {
    "mesh": ("transformer-mesh",),
    "face-128": ("direct", "vrnn", "gru", "gru-snf"),
    "face-256": ("direct-face-256", "vrnn-face-256"),
}
# Forecasters whose backbone may have more numbers at the end of a frame, and how many: the mesh's of the scene.
_MAY_LEAD = {"transformer-mesh": 4}
_WEIGHTLESS_BEST = "repeat"  # velocity is off twice as far on mesh motion (benchmarks/results/mesh_forecast.json)


def names(kind: str) -> list[str]:
    """Return the names of a kind, "backbone" or "forecaster"."""
    return [entry.name for entry in TABLE if entry.kind == kind]


def bundled(name: str | Path, kind: str) -> bool:
    """Return whether the table has a name of this kind, "backbone" or "forecaster"."""
    return str(name) in names(kind)


def motion_of(forecaster: str | Path) -> str | None:
    """Return the bundled backbone whose motion a bundled forecaster predicts; None if there is none."""
    return next((backbone for backbone in names("backbone") if str(forecaster) in FORECASTERS.get(backbone, ())), None)


def default_forecaster(backbone: str | Path) -> str:
    """Return the best bundled forecaster for a backbone's motion, or one that needs no weights if there is none."""
    return FORECASTERS.get(str(backbone), (_WEIGHTLESS_BEST,))[0]


def load_backbone(name: str | Path, device: str = "auto", engine: str = "auto", precision: str = "exact") -> Backbone:
    """Load a backbone by name, or from a `.safetensors` or published `.pth.tar` file, ready for inference.

    Args:
        name: a name of `kinecast zoo list`, or a path.
        device: auto, cpu, cuda or mps.
        engine: see `kinecast.runtime`: eager (plain torch), fast, openvino, or auto, which measures them once on this
            machine; the result's `reason` states the choice and why.
        precision: the lowest precision allowed: exact (float32), bf16 or int8.

    Raises:
        KinecastError: unknown name, engine or precision, an unsupported combination, or a file that is not a backbone.
    """
    from kinecast.models.checkpoints import load_backbone_file

    check(engine, precision)
    model = load_backbone_file(_resolve(name, "backbone"))
    return accelerate(model.to(choose_device(device)).eval(), engine, precision)


def load_forecaster(name: str | Path, device: str = "auto") -> Forecaster:
    """Load a forecaster by name or from a `.safetensors` file.

    Raises:
        KinecastError: an unknown name, or a file that is not a forecaster.
    """
    return load_forecaster_file(_resolve(name, "forecaster")).to(choose_device(device)).eval()


def forecaster_for(name: str | Path, motion_dim: int, device: str = "auto") -> Forecaster:
    """Load a forecaster for motion of D numbers: bundled, from a file, or a baseline that needs no weights.

    That of the mesh takes motion with the four numbers of the scene, too, and holds these.

    Raises:
        KinecastError: as `load_forecaster`, or the forecaster has another D.
    """
    where = str(name) if str(name) in WEIGHTLESS else str(_resolve(name, "forecaster"))
    more = _MAY_LEAD.get(str(name))
    if more is not None:
        model = load_forecaster_file(where)
        if motion_dim == model.motion_dim + more:
            return Leading(model, motion_dim).to(choose_device(device)).eval()
    return open_forecaster(where, motion_dim).to(choose_device(device)).eval()


def _resolve(name: str | Path, kind: str) -> Path:
    for entry in TABLE:
        if entry.name == str(name) and entry.kind == kind:
            entry.verify()
            return entry.path
    path = Path(name)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    known = names(kind) + (list(WEIGHTLESS) if kind == "forecaster" else [])
    raise KinecastError(f"{kind} {str(name)!r}: expected a path or one of {', '.join(known)}")
