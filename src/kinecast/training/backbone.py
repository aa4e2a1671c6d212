"""End-to-end training of a backbone in reconstruction mode, on folders of clips ([FOMM] section 3.4)."""

import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kinecast.backbones import BACKBONES, AnyBackbone, Backbone
from kinecast.backbones.checkpoints import load_backbone_file, save_backbone
from kinecast.backbones.face_vid2vid import FaceVid2VidConfig
from kinecast.backbones.fomm import FOMMConfig, GeneratorConfig, HourglassConfig
from kinecast.backbones.tps import TPSConfig
from kinecast.data.video_folder import PERSON_PATTERN, CachedClip, PairSampler, list_clips, load_clip, on_device
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_distinct, check_folder, existing_file, make_folder
from kinecast.metrics.pixel import mae, ssim
from kinecast.pictures import grid, to_tensor, to_uint8, write_image
from kinecast.training.augment import Augmentation
from kinecast.training.checkpoint import load_state, save_state
from kinecast.training.discriminator import MultiScaleDiscriminator, adversarial_losses, discriminator_loss
from kinecast.training.losses import RandomTransform
from kinecast.training.motion_losses import PUBLISHED_WEIGHTS, motion_losses
from kinecast.training.perceptual import PerceptualLoss, load_features
from kinecast.training.synchronised import synchronise

AnyConfig = FOMMConfig | TPSConfig | FaceVid2VidConfig
_CONFIGS: dict[str, Any] = {"fomm": FOMMConfig, "tps": TPSConfig, "face-vid2vid": FaceVid2VidConfig}
# Parts that make motion; with `train_motion = false` they stay as they are.
_MOTION_PARTS = (
    *("kp_detector", "generator.dense_motion_network"),
    *("dense_motion_network", "bg_predictor", "avd_network", "he_estimator"),
)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; the defaults are the published ones. A weight of 0 leaves its part out.

    From `equivariance_value` on they are of motion, and apply where the backbone has that loss; a config file's own
    defaults for them are those of its backbone (`PUBLISHED_WEIGHTS`). face-vid2vid's loss of the head's pose is not
    among them: it needs another estimator's angles.
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


@dataclass(frozen=True)
class BackboneTrainingConfig:
    """One run. Saved beside its results; a file with unknown keys is refused."""

    data: tuple[str, ...] = ()
    output: str = "runs/backbone"
    validate: str = ""  # persons matching this pattern are kept out of training and validated on
    person: str = PERSON_PATTERN
    crop: str = "center"
    balance: float = 0.5
    backbone: str = "fomm"  # or tps, face-vid2vid: what `model` has the sizes of
    model: AnyConfig = field(default_factory=FOMMConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    initialise: str = ""  # weights to start from; tensors that do not fit are left as they are
    train_motion: bool = True  # False: the detector and dense motion stay as initialised
    dropout_splines: float = 0.0  # of a TPS: the share left out, from 0 at the start
    steps: int = 100_000
    batch_size: int = 16
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    warmup_steps: int = 0
    decay_from: float = 0.5  # the learning rate falls linearly to 0 from this fraction of the steps on
    average: float = 0.999  # decay of the weights' moving average, which is what is validated and exported
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1  # processes on this machine; under torchrun its own numbers hold
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 2000
    validation_frames: int = 16  # evenly spaced a clip

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "devices", "checkpoint_every", "validate_every", "log_every")
        for name in (*counts, "learning_rate"):
            if getattr(self, name) <= 0:
                raise KinecastError(f"training config: expected {name} above 0, found {getattr(self, name)}")
        if self.batch_size % self.devices:
            raise KinecastError(
                f"training config: expected a batch_size that {self.devices} devices can share, found {self.batch_size}"
            )
        if not isinstance(self.model, _CONFIGS[_known(self.backbone)]):
            raise KinecastError(
                f"training config: expected the sizes of a {self.backbone} in model, found {type(self.model).__name__}"
            )
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
        backbone = _known(values.get("backbone", "fomm"))
        of_backbone = {k: v for k, v in PUBLISHED_WEIGHTS[backbone].items() if k in LossConfig.__dataclass_fields__}
        kinds: dict[str, Any] = {"loss": LossConfig, "augmentation": Augmentation}
        try:
            values["model"] = _CONFIGS[backbone].from_dict(values.get("model", {}))
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


def _known(backbone: str) -> str:
    if backbone not in BACKBONES:
        raise KinecastError(f"training config: expected backbone {', '.join(BACKBONES)}, found {backbone!r}")
    return backbone


def compact_recipe(**changes: Any) -> BackboneTrainingConfig:
    """Return the recipe of the bundled 128x128 model (recipes/face-128.toml), for clips of the user's own."""
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


class _Losses(nn.Module):
    """The model and everything that its training loss needs, in one forward pass, so that Fabric can wrap it."""

    def __init__(self, config: BackboneTrainingConfig, model: AnyBackbone) -> None:
        super().__init__()
        self.model = model
        self.weights = config.loss
        self.dropout = config.dropout_splines
        self.perceptual: PerceptualLoss | None = None
        if config.loss.perceptual:
            features = load_features(config.loss.network, config.loss.network_weights)
            self.perceptual = PerceptualLoss(features, config.loss.scales)
        self.train_motion = config.train_motion

    def forward(
        self,
        source: Tensor,
        driving: Tensor,
        target: Tensor,
        transform: RandomTransform,
        discriminator: MultiScaleDiscriminator | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        of_motion: dict[str, Tensor] = {}
        if self.train_motion:
            prediction, of_motion = motion_losses(self.model, source, driving, transform, self.dropout)
        else:
            prediction = self.model.reconstruct(source, driving)[0]
        parts: dict[str, Tensor] = {}
        if self.perceptual is not None:
            parts["perceptual"] = self.weights.perceptual * self.perceptual(prediction, target)
        if self.weights.pixel:
            parts["pixel"] = self.weights.pixel * (prediction - target).abs().mean()
        for name, value in of_motion.items():
            if weight := getattr(self.weights, name):
                parts[name] = weight * value
        if discriminator is not None:
            gan, matching = adversarial_losses(discriminator, prediction, target)
            parts["adversarial"] = self.weights.adversarial * gan
            parts["feature_matching"] = self.weights.feature_matching * matching
        return parts, prediction.detach()


def train_backbone(config: BackboneTrainingConfig, log: Callable[[str], None] = print) -> dict[str, float]:
    """Train, or go on with, the run in `config.output`; return the last validation figures.

    The folder receives `config.json`, `last.ckpt` (atomic, every `checkpoint_every` steps), TensorBoard events,
    `validation-<step>.jpg` and at the end `model.safetensors`. The same command after a kill continues the run.

    Several processes, of `config.devices` or started by torchrun, take slices of the same global batch and share
    batch statistics and gradients: the weights are those of one process up to rounding. The first of them alone
    writes, logs and returns figures; it also reads the checkpoint for all.

    Raises:
        KinecastError: no data, no validation person where some are asked for, another run's folder, or a batch that
            the processes cannot share.
    """
    # Gradients of peaked heatmaps are full of denormal numbers: half of a CPU's time, and they matter to nothing.
    # Set for good: worker threads take it from the one that starts them, once.
    torch.set_flush_denormal(True)
    from lightning_fabric import Fabric
    from torch.utils.tensorboard import SummaryWriter

    devices, machines = _processes(config)
    options: Any = {"accelerator": config.accelerator, "precision": config.precision}
    fabric = Fabric(devices=devices, num_nodes=machines, **options)
    fabric.launch()
    torch.manual_seed(config.seed)
    run = _folder(config)
    if fabric.is_global_zero:
        _claim(run, config)
    else:
        log = _silence
    training, validation = _split(config, run / "frames")
    sampler = PairSampler(training, config.seed, config.balance)

    model = _untrained(config)
    if config.initialise:
        log(_initialise(model, config.initialise))
    if fabric.world_size > 1:
        synchronise(model)
    losses = _Losses(config, model)
    frozen = [] if config.train_motion else _motion_parts(model)
    for part in frozen:
        part.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=config.betas)
    for module in losses.modules():  # not the whole: volumes have no such format
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped, optimizer = fabric.setup(losses, optimizer)
    opponent = _Opponent(fabric, config) if config.loss.adversarial else None
    if fabric.global_rank:
        torch.manual_seed(config.seed + fabric.global_rank)  # a slice leaves out splines of its own
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    torch.backends.cudnn.benchmark = True  # batches are all of one size

    step = 0
    checkpoint = run / "last.ckpt"
    # One process reads for all: what the others find may be older, or on another machine's disk.
    state = fabric.broadcast(load_state(checkpoint) if fabric.is_global_zero and checkpoint.exists() else None)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = {name: tensor.to(fabric.device) for name, tensor in state["average"].items()}
        step = state["step"]
        if opponent:
            opponent.load_state_dict(state["opponent"])
        log(f"going on from step {step}")

    def save() -> None:
        if fabric.is_global_zero:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
            save_state(checkpoint, state | ({"opponent": opponent.state_dict()} if opponent else {}))

    local = config.batch_size // fabric.world_size
    figures: dict[str, float] = {}
    writer = SummaryWriter(str(run)) if fabric.is_global_zero else None
    started, first = time.monotonic(), step
    batches = _read_ahead(sampler, range(step, config.steps), config.batch_size)
    while step < config.steps:
        model.train()
        for part in frozen:  # they keep their statistics too
            part.eval()
        random = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        source, driving = on_device(next(batches), fabric.device)
        source, driving, target = config.augmentation.apply(source, driving, random)
        transform = RandomTransform(config.batch_size, random, device=fabric.device)
        mine = slice(fabric.global_rank * local, (fabric.global_rank + 1) * local)
        transform.affine, transform.weights = transform.affine[mine], transform.weights[mine]
        source, driving, target = (
            x[mine].contiguous(memory_format=torch.channels_last) for x in (source, driving, target)
        )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(config, step)
        parts, prediction = wrapped(source, driving, target, transform, opponent.network if opponent else None)
        total = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise KinecastError(
                f"training stopped at step {step}: expected a finite loss, found {total.item()}: "
                "lower the learning rate"
            )
        optimizer.zero_grad()
        fabric.backward(total)
        fabric.clip_gradients(wrapped, optimizer, max_norm=10.0)
        optimizer.step()
        parts = {name: part.detach() for name, part in parts.items()}
        if opponent:
            parts["discriminator"] = opponent.step(prediction, target, optimizer.param_groups[0]["lr"])
        _update_average(average, model, min(config.average, (1 + step) / (10 + step)))
        step += 1
        if step % config.log_every == 0:
            values: Any = fabric.all_reduce(torch.stack([part.float() for part in parts.values()]), reduce_op="mean")
            shown = dict(zip(parts, values.tolist(), strict=True))
            if writer:
                for name, value in shown.items():
                    writer.add_scalar(f"loss/{name}", value, step)
            loss = sum(value for name, value in shown.items() if name != "discriminator")
            rate = (time.monotonic() - started) / (step - first) / config.batch_size
            log(
                f"step {step}/{config.steps}  loss {loss:.3f}  "
                + "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
                + f"  {rate:.3f} s/sample"
            )
        if writer and validation and (step % config.validate_every == 0 or step == config.steps):
            averaged = _averaged(config, average).to(fabric.device)
            figures, picture = validate(averaged, validation, config.validation_frames)
            write_image(run / f"validation-{step:07d}.jpg", picture)
            for name, figure in figures.items():
                writer.add_scalar(f"validation/{name}", figure, step)
            writer.add_image("validation", picture, step, dataformats="HWC")
            log(f"step {step}  validation " + "  ".join(f"{name} {figure:.4f}" for name, figure in figures.items()))
            with atomic_path(run / "metrics.json") as temporary:
                temporary.write_text(json.dumps({"step": step, **figures}, indent=2))
        if step % config.checkpoint_every == 0 or step == config.steps:  # after validation: a kill in it repeats it
            save()
    if fabric.is_global_zero:
        info = {"steps": str(step), "seed": str(config.seed), "training": json.dumps(asdict(config))}
        save_backbone(_averaged(config, average), run / "model.safetensors", info, half=True)
        log(f"wrote {run / 'model.safetensors'}")
    if writer:
        writer.close()
    fabric.barrier()  # nobody ends, and is missed, while the first one still writes
    if fabric.is_global_zero and not figures and (run / "metrics.json").exists():  # all was done by an earlier call
        figures = json.loads((run / "metrics.json").read_text())
        del figures["step"]
    return figures


def _processes(config: BackboneTrainingConfig) -> tuple[int, int]:
    """Return processes a machine, and machines: as torchrun started them, otherwise as the config says."""
    local, machines = config.devices, 1
    if dist.is_available() and dist.is_torchelastic_launched():
        local, world = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        machines = world // local
        if world != local * machines:
            raise KinecastError(
                f"torchrun: expected as many processes on every machine, found {world} in all and {local} here: "
                "give each the same --nproc-per-node"
            )
    if config.batch_size % (local * machines):
        raise KinecastError(
            f"training: expected a batch_size that {local * machines} processes can share, found {config.batch_size}"
        )
    return local, machines


def _read_ahead(sampler: PairSampler, steps: range, size: int) -> Iterator[np.ndarray]:
    """Give the pairs of each step; those of the next one are read while these are learned from."""
    with ThreadPoolExecutor(1) as reader:
        futures = (reader.submit(sampler.pairs, step, size) for step in steps)
        ahead = next(futures, None)
        while ahead:
            current, ahead = ahead, next(futures, None)
            yield current.result()


def _silence(line: str) -> None:
    pass


class _Opponent:
    """The discriminator of FOMM-adv with its optimiser (LSGAN)."""

    def __init__(self, fabric: Any, config: BackboneTrainingConfig) -> None:
        module = MultiScaleDiscriminator()
        optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=config.betas)
        self.fabric = fabric
        self.network, self.optimizer = fabric.setup(module, optimizer)

    def step(self, prediction: Tensor, target: Tensor, learning_rate: float) -> Tensor:
        self.optimizer.param_groups[0]["lr"] = learning_rate
        loss = discriminator_loss(self.network, prediction, target)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.inference_mode()
def validate(model: Backbone, clips: list[CachedClip], frames: int) -> tuple[dict[str, float], np.ndarray]:
    """Reconstruct each clip from its first frame; means over clips, and a picture (source, true, rebuilt) a row.

    `mae_ratio` is MAE over that of copying the source frame.
    """
    rows: list[list[np.ndarray]] = []
    values: dict[str, list[float]] = {"mae": [], "mae_copy": [], "ssim": [], "ssim_copy": []}
    for clip in clips:
        picked = np.linspace(1, len(clip.frames) - 1, min(frames, len(clip.frames) - 1)).astype(int)
        source, driving = (to_tensor(clip.frames[i]).to(model.device) for i in ([0], picked))
        rebuilt = model.animate(model.encode_source(source), model.detect(source), model.detect(driving))
        copied = source.expand_as(driving)
        for name, other in (("", rebuilt), ("_copy", copied)):
            values["mae" + name].append(float(mae(other, driving).mean()))
            values["ssim" + name].append(float(ssim(other, driving).mean()))
        if len(rows) < 8:
            shown = [len(picked) // 3, 2 * len(picked) // 3, -1]
            pictures = [to_uint8(x) for x in (source, driving, rebuilt)]
            rows.append([pictures[0][0], *(p[i] for i in shown for p in pictures[1:])])
    figures = {name: float(np.mean(numbers)) for name, numbers in values.items()}
    return {"mae_ratio": figures["mae"] / figures["mae_copy"], **figures}, grid(rows)


def learning_rate_factor(config: BackboneTrainingConfig, step: int) -> float:
    """Return the factor at a step: a linear rise, level, and a linear fall to 0."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    start = config.decay_from * config.steps
    return rise * (1.0 if step < start else (config.steps - step) / max(1.0, config.steps - start))


def _folder(config: BackboneTrainingConfig) -> Path:
    """Make the folder of a run, which must be none that is read; the weights that it names must be there."""
    loss = config.loss
    given = [path for path in (config.initialise, loss.network_weights if loss.perceptual else None) if path]
    for path in given:
        existing_file(path, "weights file")
    run = make_folder(check_folder(config.output, [*config.data, *given]))
    check_distinct(run / "model.safetensors", given)
    return run


def _claim(run: Path, config: BackboneTrainingConfig) -> None:
    """Save the config, or see that the folder is this run's. Schedules may change, what the weights mean may not."""
    path = run / "config.json"
    values = json.loads(json.dumps(asdict(config)))
    if path.exists():
        saved = json.loads(path.read_text())
        changed = [k for k in ("model", "data", "validate", "seed") if saved.get(k) != values[k]]
        if changed and (run / "last.ckpt").exists():
            raise KinecastError(
                f"{run}: expected the run of this config, found one with another {', '.join(changed)}: "
                "name a new output folder"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2))


def _split(config: BackboneTrainingConfig, cache: Path) -> tuple[list[CachedClip], list[CachedClip]]:
    clips = [load_clip(p, config.model.frame_size, config.crop, cache, config.person) for p in list_clips(config.data)]
    if not config.validate:
        return clips, []
    validation = [clip for clip in clips if re.search(config.validate, clip.person) and len(clip.frames) > 1]
    training = [clip for clip in clips if not re.search(config.validate, clip.person)]
    if not validation or not training:
        people = ", ".join(sorted({clip.person for clip in clips})[:8])
        raise KinecastError(
            f"validate = {config.validate!r}: expected it to match some persons and not all, found "
            f"{len(validation)} of {len(clips)} clips; persons are {people}"
        )
    return training, validation


def _initialise(model: AnyBackbone, path: str) -> str:
    """Copy the tensors of a weights file that fit. Down-sampling kernels belong to the architecture and stay."""
    mine, other = model.state_dict(), load_backbone_file(path).state_dict()
    fitting = {
        name: tensor
        for name, tensor in other.items()
        if name in mine and mine[name].shape == tensor.shape and not name.endswith("down.weight")
    }
    model.load_state_dict(fitting, strict=False)
    return f"initialised {len(fitting)} of {len(mine)} tensors from {path}"


def _update_average(average: dict[str, Tensor], model: AnyBackbone, decay: float) -> None:
    state = model.state_dict()
    moving = [name for name, tensor in state.items() if tensor.is_floating_point()]
    get_ema_multi_avg_fn(decay)([average[name] for name in moving], [state[name] for name in moving], None)
    for name in state.keys() - set(moving):
        average[name].copy_(state[name])


def _averaged(config: BackboneTrainingConfig, average: dict[str, Tensor]) -> AnyBackbone:
    model = _untrained(config)
    model.load_state_dict(average)
    return model.eval()


def _untrained(config: BackboneTrainingConfig) -> AnyBackbone:
    return BACKBONES[config.backbone](config.model)  # type: ignore[arg-type]


def _motion_parts(model: AnyBackbone) -> list[nn.Module]:
    return [part for name, part in model.named_modules() if name in _MOTION_PARTS]
