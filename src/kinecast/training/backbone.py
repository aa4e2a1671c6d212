"""End-to-end training of a backbone in reconstruction mode, on folders of clips ([FOMM] section 3.4)."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kinecast.data.video_folder import CachedClip, Pairs, PairSampler, list_clips, load_clip, on_device
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_distinct, check_folder, existing_file, make_folder
from kinecast.media.pictures import grid, to_tensor, to_uint8, write_image
from kinecast.metrics.pixel import mae, ssim
from kinecast.models import BACKBONES, Backbone
from kinecast.models.checkpoints import load_backbone_file, save_backbone
from kinecast.runtime.process_state import denormals_flushed, kernels_measured, seeded
from kinecast.training.backbone_config import (
    BackboneTrainingConfig,
    LossConfig,
    changed_settings,
    compact_recipe,
)
from kinecast.training.checkpoint import load_state, save_state
from kinecast.training.discriminator import MultiScaleDiscriminator, discriminator_loss
from kinecast.training.methods import method_named
from kinecast.training.step import Batch, TrainingLosses
from kinecast.training.synchronised import synchronise

__all__ = [
    "BackboneTrainingConfig",
    "LossConfig",
    "compact_recipe",
    "learning_rate_factor",
    "train_backbone",
    "validate",
]


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
    with denormals_flushed(), seeded(config.seed), kernels_measured():
        return _train(config, log)


def _train(config: BackboneTrainingConfig, log: Callable[[str], None]) -> dict[str, float]:
    from lightning_fabric import Fabric
    from torch.utils.tensorboard import SummaryWriter

    devices, machines = _processes(config)
    options: Any = {"accelerator": config.accelerator, "precision": config.precision}
    fabric = Fabric(devices=devices, num_nodes=machines, **options)
    fabric.launch()
    run = _folder(config)
    if fabric.is_global_zero:
        with atomic_path(run / "config.json") as temporary:
            temporary.write_text(json.dumps(asdict(config), indent=2))
    else:
        log = _silence
    training, validation = _split(config, Path(config.cache) if config.cache else run / "frames")
    sampler = PairSampler(training, config.seed, config.balance, config.far_pairs)

    model = _untrained(config)
    if config.initialise:
        log(_initialise(model, config.initialise))
    if fabric.world_size > 1:
        synchronise(model)
    losses = TrainingLosses(config, model)
    if losses.method.prepare:
        losses.method.prepare(model, training)
    frozen = [] if config.train_motion else losses.method.parts_of_motion(model)
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

    step = 0
    checkpoint = run / "last.ckpt"
    # One process reads for all: what the others find may be older, or on another machine's disk.
    state = fabric.broadcast(load_state(checkpoint) if fabric.is_global_zero and checkpoint.exists() else None)
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = {name: tensor.to(fabric.device) for name, tensor in state["average"].items()}
        step = state["step"]
        if ("opponent" in state) != (opponent is not None):
            raise KinecastError(
                f"{checkpoint}: expected a run {'with' if opponent else 'without'} a discriminator, found one "
                f"{'without' if opponent else 'with'}: name a new output folder"
            )
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
        pairs = next(batches)
        source, driving = on_device(pairs.frames, fabric.device)
        if config.downscale > 1:
            source, driving = (F.avg_pool2d(frames, config.downscale) for frames in (source, driving))
        points = None if pairs.points is None else torch.from_numpy(pairs.points).to(fabric.device)
        source, driving, target, points = config.augmentation.apply_to_faces(source, driving, points, random)
        transform = losses.method.transform(config.model, config.batch_size, random, fabric.device)
        mine = slice(fabric.global_rank * local, (fabric.global_rank + 1) * local)
        guide = transform[mine] if points is None else points[mine]
        source, driving, target = (
            x[mine].contiguous(memory_format=torch.channels_last) for x in (source, driving, target)
        )
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(config, step)
        parts, prediction = wrapped(Batch(source, driving, target, guide), opponent.network if opponent else None)
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


def _read_ahead(sampler: PairSampler, steps: range, size: int) -> Iterator[Pairs]:
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
        first, *others = clip.usable
        picked = np.array(others)[np.linspace(0, len(others) - 1, min(frames, len(others))).astype(int)]
        source, driving = (to_tensor(clip.frames[i]).to(model.device) for i in ([first], picked))
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
    """Make the folder of a run, which must be none that is read; the weights that it names must be there.

    Raises:
        KinecastError: they are not, or the run there has other settings than a resumed run may have.
    """
    loss = config.loss
    given = [path for path in (config.initialise, loss.network_weights if loss.perceptual else None) if path]
    _check_resumed(check_folder(config.output, [*config.data, *given]), config)
    for path in given:
        existing_file(path, "weights file")
    run = make_folder(config.output)
    check_distinct(run / "model.safetensors", given)
    return run


def _check_resumed(run: Path, config: BackboneTrainingConfig) -> None:
    path = run / "config.json"
    if path.exists() and (run / "last.ckpt").exists():
        try:
            changed = changed_settings(json.loads(path.read_text()), config)
        except (ValueError, KinecastError) as error:
            raise KinecastError(
                f"{path}: expected the config of a run, found another file ({error}): name a new output folder"
            ) from error
        if changed:
            raise KinecastError(
                f"{run}: expected the run of this config, found one with another {', '.join(changed)}: "
                "name a new output folder"
            )


def _split(config: BackboneTrainingConfig, cache: Path) -> tuple[list[CachedClip], list[CachedClip]]:
    settings = config.model.frame_size, config.crop, cache, config.person, config.every
    find = method_named(config.backbone).find
    clips = [load_clip(path, *settings, find) for path in list_clips(config.data)]
    clips = [clip for clip in clips if len(clip.usable) > 1]
    if not config.validate:
        return clips, []
    validation = [clip for clip in clips if re.search(config.validate, clip.person)]
    training = [clip for clip in clips if not re.search(config.validate, clip.person)]
    if not validation or not training:
        people = ", ".join(sorted({clip.person for clip in clips})[:8])
        raise KinecastError(
            f"validate = {config.validate!r}: expected it to match some persons and not all, found "
            f"{len(validation)} of {len(clips)} clips; persons are {people}"
        )
    return training, validation


def _initialise(model: Backbone, path: str) -> str:
    """Copy the tensors of a weights file that fit. Down-sampling kernels belong to the architecture and stay."""
    mine, other = model.state_dict(), load_backbone_file(path).state_dict()
    fitting = {
        name: tensor
        for name, tensor in other.items()
        if name in mine and mine[name].shape == tensor.shape and not name.endswith("down.weight")
    }
    model.load_state_dict(fitting, strict=False)
    return f"initialised {len(fitting)} of {len(mine)} tensors from {path}"


def _update_average(average: dict[str, Tensor], model: Backbone, decay: float) -> None:
    state = model.state_dict()
    moving = [name for name, tensor in state.items() if tensor.is_floating_point()]
    get_ema_multi_avg_fn(decay)([average[name] for name in moving], [state[name] for name in moving], None)
    for name in state.keys() - set(moving):
        average[name].copy_(state[name])


def _averaged(config: BackboneTrainingConfig, average: dict[str, Tensor]) -> Backbone:
    model = _untrained(config)
    model.load_state_dict(average)
    return model.eval()


def _untrained(config: BackboneTrainingConfig) -> Backbone:
    return BACKBONES[config.backbone](config.model)
