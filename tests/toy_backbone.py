"""A backbone that the package does not know: a grid of mean colours, which tint the source."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models import BACKBONES, register_backbone
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.motion import Motion
from kinecast.motion_spec import _SPECS, Component, MotionSpec
from kinecast.runtime.folded import Style, tensors_of
from kinecast.runtime.offers import OFFERS, Engined, Offer, Part, register_engine
from kinecast.training.losses import manhattan_kernel
from kinecast.training.methods import METHODS, Method, register_method

GRID = 2
MOTION = MotionSpec(((Component("tint", "mean colours of a grid", "1"),), (Component("light", "mean grey", "1", 2),)))


@dataclass(frozen=True)
class ToyConfig:
    """The size of its frames."""

    frame_size: tuple[int, int] = (32, 32)
    frame_multiple = 2

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "ToyConfig":
        return ToyConfig(tuple(values["frame_size"])) if values else ToyConfig()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Toy(Backbone):
    """Twelve colours and their mean; what is learned is how strongly they tint."""

    name = "toy"

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config, self.frame_size = config, config.frame_size
        self.strength = nn.Conv2d(3, 3, 1)

    def settings(self) -> dict[str, Any]:
        return {}

    @property
    def motion_dim(self) -> int:
        return 3 * GRID**2 + 1

    def reconstruct(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        tints = F.adaptive_avg_pool2d(driving - source, GRID)
        return source + self.strength(F.interpolate(tints, size=source.shape[2:])), tints

    def detect(self, frames: Tensor) -> Motion:
        check_frames(frames, 2)
        tint = F.adaptive_avg_pool2d(frames, GRID).flatten(2).mT
        components = {"tint": tint, "light": frames.mean(dim=(1, 2, 3))[:, None]}
        return Motion(self.name, components, frame_size=self.frame_size)

    def encode_source(self, image: Tensor) -> Tensor:
        check_source(image, 2)
        return image

    @torch.inference_mode()
    def animate(self, state: Tensor, source_motion: Motion, driving_motion: Motion) -> Tensor:
        self._check_pair(source_motion, driving_motion)
        change = driving_motion.components["tint"] - source_motion.components["tint"]
        tints = F.interpolate(change.mT.unflatten(2, (GRID, GRID)), size=state.shape[2:])
        return (state + self.strength(tints)).clamp(0, 1)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        moved = {n: driving.components[n] - initial.components[n] + source.components[n] for n in driving.components}
        return replace(driving, components=moved)

    def _template(self) -> Motion:
        return Motion(self.name, {"tint": torch.zeros(0, GRID**2, 3), "light": torch.zeros(0, 1)})

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "Toy":
        model = cls(ToyConfig.from_dict(extras or {}))
        model.load_state_dict(dict(state))
        return model.eval()


METHOD = Method(
    sizes=ToyConfig,
    weights={},
    warp=lambda _: {"kernel": manhattan_kernel},
    losses=lambda model, source, driving, guide, _: (model.reconstruct(source, driving)[0], {}),
    motion_parts=(),
)


class EngineToy(Engined, Toy):
    """The toy with another mixer of colours; all else is its own."""

    def __init__(self, model: Toy, parts: Mapping[str, nn.Module]) -> None:
        super().__init__(model)
        self.strength = parts["mixer"]  # type: ignore[assignment]


def folded_parts(model: Toy, precision: str, native: bool) -> dict[str, nn.Module]:
    style = Style(torch.bfloat16 if precision == "bf16" else torch.float32, native)
    return {"mixer": Mixer(model.strength, style, model.frame_size)}


class Mixer(nn.Module):
    """Its one convolution, float32 at both ends as the engines want it."""

    def __init__(self, conv: nn.Conv2d, style: Style, size: tuple[int, int]) -> None:
        super().__init__()
        self.style, self.conv = style, style.convolution(*tensors_of(conv), 0, size)

    def forward(self, tints: Tensor) -> Tensor:
        return self.conv(self.style.input(tints)).float()


OFFER = Offer(
    parts={"mixer": Part(single=True, outputs=("tinted",))},
    fold=folded_parts,
    examples=lambda model: {"mixer": {"tints": torch.zeros(1, 3, *model.frame_size)}},
    run=EngineToy,
    quantised="mixer",
)


def register() -> None:
    register_backbone(Toy, MOTION)
    register_method(Toy, METHOD)
    register_engine(Toy, OFFER)


@contextmanager
def registered() -> Iterator[None]:
    """Register the toy, and forget it afterwards: other tests count what there is."""
    tables: tuple[dict[Any, Any], ...] = (BACKBONES, METHODS, _SPECS, OFFERS)
    before = [dict(table) for table in tables]
    register()
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)
