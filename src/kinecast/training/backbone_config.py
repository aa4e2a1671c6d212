"""The settings of a training run: its data, losses and schedule, and which of them a resumed run may change."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kinecast.data.video_folder import PERSON_PATTERN
from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.models.face_vid2vid import FaceVid2VidConfig
from kinecast.models.fomm import FOMMConfig, GeneratorConfig, HourglassConfig
from kinecast.models.mesh.network import MeshConfig
from kinecast.models.tps import TPSConfig
from kinecast.training.augment import Augmentation
from kinecast.training.methods import method_named

AnyConfig = FOMMConfig | TPSConfig | FaceVid2VidConfig | MeshConfig


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; the defaults are the published ones. A weight of 0 disables a loss.

    From `equivariance_value` on they are motion losses, and apply if the backbone has them; their defaults in a config
    file are those of its backbone (`kinecast.training.methods`). face-vid2vid's head pose loss is not included: it
    needs another estimator's angles.
    """

    network: str = "vgg19"
    network_weights: str | None = None
    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    perceptual: float = 10.0
    pixel: float = 0.0
    adversarial: float = 0.0
    feature_matching: float = 10.0
    equivariance_value: float = 10.0
    equivariance_jacobian: float = 10.0
    warp: float = 10.0
    background: float = 10.0
    avd: float = 1.0
    prior: float = 10.0
    expression: float = 5.0
    region: float = 0.0  # mesh only, from here on
    warped: float = 0.0
    gradient: float = 0.0
    shown: float = 0.0
    closeup: float = 0.0


@dataclass(frozen=True)
class BackboneTrainingConfig:
    """One run. Saved beside its results; a file with unknown keys is refused."""

    data: tuple[str, ...] = ()
    output: str = "runs/backbone"
    validate: str = ""  # persons matching this pattern are held out of training for validation
    person: str = PERSON_PATTERN
    crop: str = "center"
    balance: float = 0.5
    every: int = 1  # use every n-th frame of a clip
    cache: str = ""  # a folder for decoded frames shared by several runs; by default each has its own
    downscale: int = 1  # mesh only: train on frames of 1/n their size
    far_pairs: float = 0.0  # mesh only: share of pairs whose frames are far apart in pose or expression
    backbone: str = "fomm"  # or tps, face-vid2vid, mesh: what `model` has the sizes of
    model: AnyConfig = field(default_factory=FOMMConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    initialise: str = ""  # initial weights; tensors that do not fit are ignored
    train_motion: bool = True  # False: the detector and dense motion stay as initialised
    dropout_splines: float = 0.0  # TPS only: share of splines dropped, from 0 at the start
    steps: int = 100_000
    batch_size: int = 16
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    warmup_steps: int = 0
    decay_from: float = 0.5  # the learning rate falls linearly to 0 from this fraction of the steps on
    average: float = 0.999  # decay of the weights' moving average, which is validated and exported
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1  # processes on this machine; torchrun's own numbers take precedence
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 2000
    validation_frames: int = 16  # per clip, evenly spaced

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "batch_size",
            "devices",
            "checkpoint_every",
            "validate_every",
            "log_every",
            "every",
            "downscale",
        )
        for name in (*counts, "learning_rate"):
            if getattr(self, name) <= 0:
                raise KinecastError(f"training config: expected {name} above 0, found {getattr(self, name)}")
        if self.batch_size % self.devices:
            raise KinecastError(
                f"training config: expected a batch_size that {self.devices} devices can share, found {self.batch_size}"
            )
        if not isinstance(self.model, method_named(self.backbone).sizes):
            raise KinecastError(
                f"training config: expected the sizes of a {self.backbone} in model, found {type(self.model).__name__}"
            )
        if self.downscale > 1 and not method_named(self.backbone).any_size:
            raise KinecastError(f"training config: expected downscale 1 of a {self.backbone}, found {self.downscale}")
        if not self.train_motion and not method_named(self.backbone).motion_parts:
            raise KinecastError(
                f"training config: expected no train_motion for a {self.backbone}, which learns no motion"
            )
        if not 0 <= self.far_pairs <= 1:
            raise KinecastError(f"training config: expected far_pairs in [0, 1], found {self.far_pairs}")
        if not 0 <= self.dropout_splines < 1:
            raise KinecastError(f"training config: expected dropout_splines in [0, 1), found {self.dropout_splines}")
        if not self.data:
            raise KinecastError("training config: expected data, a list of folders of clips, found none")
        for name in ("validate", "person"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                found = f"{getattr(self, name)!r} ({error})"
                raise KinecastError(
                    f"training config: expected {name} to be a regular expression, found {found}"
                ) from error
        height, width = self.model.frame_size
        if height % self.model.frame_multiple or width % self.model.frame_multiple:
            raise KinecastError(
                f"training config: expected a frame_size in multiples of {self.model.frame_multiple} for this model, "
                f"found {height}x{width}"
            )

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "BackboneTrainingConfig":
        """Build from nested plain values.

        Raises:
            KinecastError: an unknown key or a value out of range.
        """
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        method = method_named(values.get("backbone", "fomm"))
        of_backbone = {k: v for k, v in method.weights.items() if k in LossConfig.__dataclass_fields__}
        kinds: dict[str, Any] = {"loss": LossConfig, "augmentation": Augmentation}
        try:
            values["model"] = method.sizes.from_dict(values.get("model", {}))
            values["loss"] = of_backbone | values.get("loss", {})
            for name, kind in kinds.items():
                if name in values:
                    part: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values[name].items()}
                    values[name] = kind(**part)
            return BackboneTrainingConfig(**values)
        except TypeError as error:
            raise KinecastError(f"training config: {error}: see BackboneTrainingConfig for the keys") from error

    @staticmethod
    def read(path: str | Path) -> "BackboneTrainingConfig":
        """Read a TOML file."""
        try:
            return BackboneTrainingConfig.from_dict(tomllib.loads(existing_file(path, "config (.toml)").read_text()))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise KinecastError(f"{path}: expected TOML: {error}") from error


def compact_recipe(**changes: Any) -> BackboneTrainingConfig:
    """Return the recipe of the bundled 128x128 model (recipes/face-128.toml), for the user's own clips."""
    part = HourglassConfig(block_expansion=24, num_blocks=4, max_features=192, scale_factor=0.5)
    generator = GeneratorConfig(32, 96, 2, 5, shuffle=2, skips=True, num_refine_blocks=1, pass_through=True)
    defaults: dict[str, Any] = {
        "model": FOMMConfig(
            frame_size=(128, 128),
            single_jacobian_map=True,
            detector=part,
            dense_motion=part,
            generator=generator,
        ),
        "loss": LossConfig(
            network="mobilenet-v2", scales=(1.0, 0.5), perceptual=2.0, pixel=60.0, equivariance_jacobian=2.0
        ),
        "augmentation": Augmentation(saturation=0.2, hue=0.05, zoom=0.1, shift=0.05, turn=0.1),
        "learning_rate": 5e-4,
        "warmup_steps": 100,
    }
    return BackboneTrainingConfig(**(defaults | changes))


# Settings that a resumed run may change: length, pace, place and reporting. All others determine what is learned, and
# from whom: another split would train on people of the validation set.
_CHANGEABLE = frozenset(
    (
        *("output", "cache", "steps", "batch_size", "learning_rate", "warmup_steps", "decay_from", "average"),
        *("precision", "accelerator", "devices"),
        *("log_every", "checkpoint_every", "validate_every", "validation_frames"),
    )
)


def changed_settings(saved: Mapping[str, Any], config: BackboneTrainingConfig) -> list[str]:
    """Return the settings in which a saved run differs and may not, those of a part as `part.name`.

    `saved` is `asdict` of an older run's config; missing settings have that version's behaviour, the default.

    Raises:
        KinecastError: `saved` is not a config.
    """
    before, now = (_plain(c) for c in (BackboneTrainingConfig.from_dict(saved), config))
    found = []
    for name in now.keys() - _CHANGEABLE:
        if isinstance(now[name], dict) and name != "model":  # a model is compared as a whole
            found += [f"{name}.{part}" for part in now[name] if before[name][part] != now[name][part]]
        elif before[name] != now[name]:
            found.append(name)
    return sorted(found)


def _plain(config: BackboneTrainingConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values
