"""A worker that computes with a backbone, and the backbone's key in results."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from functools import cached_property
from pathlib import Path

from kinecast.jobs.tasks import Worker
from kinecast.models.base import Backbone
from kinecast.zoo import load_backbone, names


class BackboneWorker(Worker):
    """A worker whose settings name a backbone, its device, engine and precision; loaded at the first task.

    It is loaded where it runs, since an engine may keep the number of threads at construction.
    """

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone of the run."""
        how = self.settings
        return load_backbone(how.model, how.device, how.engine, how.precision)


def model_files(backbone: str) -> tuple[Path, ...]:
    """Return the file of a backbone that is not bundled; bundled ones are on every node."""
    return () if backbone in names("backbone") else (Path(backbone),)


def backbone_digest(backbone: Backbone) -> str:
    """Return a digest of a backbone's tensors and of its config (frame size, temperature, ...)."""
    sha = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    config = getattr(backbone, "config", None)
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    sha.update(json.dumps([backbone.name, backbone.frame_size, values], default=str).encode())
    return sha.hexdigest()
