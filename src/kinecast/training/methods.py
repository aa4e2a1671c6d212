"""Training methods by backbone: its sizes, random warp, motion losses and their published weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinecast.data.video_folder import CachedClip, Find
from kinecast.errors import KinecastError
from kinecast.models import BACKBONES, FOMM, TPS, FaceVid2Vid, Mesh
from kinecast.models.face_vid2vid import FaceVid2VidConfig
from kinecast.models.fomm import FOMMConfig
from kinecast.models.mesh.network import MeshConfig
from kinecast.models.tps import TPSConfig
from kinecast.training import mesh_losses
from kinecast.training.losses import RandomTransform, manhattan_kernel, thin_plate_kernel
from kinecast.training.motion_losses import PUBLISHED_WEIGHTS, avd_loss, face_losses, fomm_losses, tps_losses

Guide = RandomTransform | Tensor  # input of the losses beside frames: a random warp, or the frames' points
Losses = Callable[[Any, Tensor, Tensor, Any, float], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Method:
    """The training method of one backbone.

    Attributes:
        sizes: the class of its config.
        weights: the published weights of its losses.
        warp: from a config to the options of `RandomTransform`.
        losses: from a model, sources, driving frames (B, 3, H, W), a `Guide` and the share of dropped splines to the
            prediction and the unweighted losses by name.
        motion_parts: names of the modules that produce motion; frozen with `train_motion = false`.
        find: computes points in the frames of a clip once, before training; they are then the guide.
        prepare: initialises a model from the training clips before its first step.
        closeups: from frames and points, crops that the perceptual loss compares as well.
        any_size: whether it can train on frames of another size than the model's.
    """

    sizes: type[Any]
    weights: Mapping[str, float]
    warp: Callable[[Any], Mapping[str, Any]]
    losses: Losses
    motion_parts: tuple[str, ...]
    find: Find | None = None
    prepare: Callable[[Any, Sequence[CachedClip]], None] | None = None
    closeups: Callable[[Tensor, Tensor], list[Tensor]] | None = None
    any_size: bool = False

    def transform(
        self, config: Any, batch: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> RandomTransform:
        """Sample the warp of a batch for a model of this config."""
        return RandomTransform(batch, generator, device=device, **self.warp(config))

    def parts_of_motion(self, model: nn.Module) -> list[nn.Module]:
        """Return the modules of a model that produce motion, as far as it has them."""
        return [part for name, part in model.named_modules() if name in self.motion_parts]


def _tps_losses_with_avd(
    model: TPS, source: Tensor, driving: Tensor, transform: RandomTransform, dropout: float
) -> tuple[Tensor, dict[str, Tensor]]:
    prediction, losses = tps_losses(model, source, driving, transform, dropout)
    if model.avd_network is not None:
        losses["avd"] = avd_loss(model, source, driving, transform)
    return prediction, losses


# One entry per class: a class without an entry cannot be trained.
METHODS: dict[type[nn.Module], Method] = {
    FOMM: Method(
        sizes=FOMMConfig,
        weights=PUBLISHED_WEIGHTS["fomm"],
        # Samples like the network, see `FOMMConfig.align_corners`.
        warp=lambda config: {"kernel": manhattan_kernel, "align_corners": config.align_corners},
        losses=lambda model, source, driving, transform, _: fomm_losses(model, source, driving, transform),
        motion_parts=("kp_detector", "generator.dense_motion_network"),
    ),
    TPS: Method(
        sizes=TPSConfig,
        weights=PUBLISHED_WEIGHTS["tps"],
        warp=lambda _: {"kernel": thin_plate_kernel, "align_corners": True},
        losses=_tps_losses_with_avd,
        motion_parts=("kp_detector", "dense_motion_network", "bg_predictor", "avd_network"),
    ),
    FaceVid2Vid: Method(
        sizes=FaceVid2VidConfig,
        weights=PUBLISHED_WEIGHTS["face-vid2vid"],
        warp=lambda _: {"kernel": manhattan_kernel, "align_corners": False},
        losses=lambda model, source, driving, transform, _: face_losses(model, source, driving, transform),
        motion_parts=("kp_detector", "generator.dense_motion_network", "he_estimator"),
    ),
    Mesh: Method(
        sizes=MeshConfig,
        weights=mesh_losses.WEIGHTS,
        warp=lambda _: {},
        losses=mesh_losses.mesh_losses,
        motion_parts=(),
        find=mesh_losses.find_points,
        prepare=mesh_losses.prepare,
        closeups=mesh_losses.closeups,
        any_size=True,
    ),
}


def register_method(kind: type[nn.Module], method: Method) -> None:
    """Register the training method of a class of backbones.

    Raises:
        KinecastError: another method is registered.
    """
    if METHODS.setdefault(kind, method) is not method:
        raise KinecastError(f"training of {kind.__name__}: expected none yet, found another method")


def trainable() -> list[str]:
    """Return the names of the backbones that can be trained."""
    return [name for name, kind in BACKBONES.items() if kind in METHODS]


def method_of(kind: type[nn.Module]) -> Method:
    """Return the training method of a class of backbones.

    Raises:
        KinecastError: it has no entry.
    """
    if kind not in METHODS:
        raise KinecastError(f"training: expected a backbone of {', '.join(trainable())}, found {kind.__name__}")
    return METHODS[kind]


def method_named(name: str) -> Method:
    """Return the training method of a backbone by name.

    Raises:
        KinecastError: an unknown name, or a backbone that cannot be trained.
    """
    if name not in trainable():
        raise KinecastError(f"training config: expected backbone {', '.join(trainable())}, found {name!r}")
    return METHODS[BACKBONES[name]]
