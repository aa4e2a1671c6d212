"""The training loop of a backbone: set up, resume, train, log, validate, save, export."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kinecast.data.video_folder import CachedClip, Pairs, PairSampler, on_device
from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.media.pictures import write_image
from kinecast.models import BACKBONES, Backbone
from kinecast.models.checkpoints import load_backbone_file, save_backbone
from kinecast.training.backbone_config import BackboneTrainingConfig
from kinecast.training.checkpoint import load_state, save_state
from kinecast.training.discriminator import MultiScaleDiscriminator, discriminator_loss
from kinecast.training.step import Batch, TrainingLosses
from kinecast.training.synchronised import synchronise
from kinecast.training.validation import validate


class BackboneTrainer:
    """A backbone in training, in one of its processes.

    Args:
        fabric: launched; only its first process writes files.
        config: config of the run.
        run: folder of the run.
        training: training clips.
        validation: validation clips, possibly none.
        log: called with a line.
    """

    def __init__(
        self,
        fabric: Any,
        config: BackboneTrainingConfig,
        run: Path,
        training: list[CachedClip],
        validation: list[CachedClip],
        log: Callable[[str], None],
    ) -> None:
        self.fabric, self.config, self.run, self.validation, self.log = fabric, config, run, validation, log
        self.sampler = PairSampler(training, config.seed, config.balance, config.far_pairs)
        self.model = _untrained(config)
        if config.initialise:
            log(_initialise(self.model, config.initialise))
        if fabric.world_size > 1:
            synchronise(self.model)
        self.losses = TrainingLosses(config, self.model)
        self.method = self.losses.method
        if self.method.prepare:
            self.method.prepare(self.model, training)
        self.frozen = [] if config.train_motion else self.method.parts_of_motion(self.model)
        self.wrapped, self.optimizer = self._set_up()
        self.adversary = _AdversarialStep(fabric, config) if config.loss.adversarial else None
        if fabric.global_rank:
            torch.manual_seed(config.seed + fabric.global_rank)  # each slice drops its own splines
        self.average = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.step = 0
        self.figures: dict[str, float] = {}
        self.writer: Any = None

    def resume(self) -> None:
        """Resume from the folder's checkpoint, if it has one.

        Raises:
            KinecastError: one of the two runs has a discriminator and the other does not.
        """
        fabric, path = self.fabric, self.checkpoint
        # One process reads for all: the others may see an older file, or another machine's disk.
        state = fabric.broadcast(load_state(path) if fabric.is_global_zero and path.exists() else None)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: tensor.to(fabric.device) for name, tensor in state["average"].items()}
        self.step = state["step"]
        if ("opponent" in state) != (self.adversary is not None):
            raise KinecastError(
                f"{path}: expected a run {'with' if self.adversary else 'without'} a discriminator, found one "
                f"{'without' if self.adversary else 'with'}: name a new output folder"
            )
        if self.adversary:
            self.adversary.load_state_dict(state["opponent"])
        self.log(f"resuming from step {self.step}")

    def train(self) -> None:
        """Train to the last step, logging, validating and saving regularly.

        Raises:
            KinecastError: the loss is not finite.
        """
        from torch.utils.tensorboard import SummaryWriter

        config = self.config
        self.writer = SummaryWriter(str(self.run)) if self.fabric.is_global_zero else None
        started, first = time.monotonic(), self.step
        batches = _read_ahead(self.sampler, range(self.step, config.steps), config.batch_size)
        while self.step < config.steps:
            parts = self._learn(next(batches))
            self.step += 1
            last = self.step == config.steps
            if self.step % config.log_every == 0:
                self._log_losses(parts, (time.monotonic() - started) / (self.step - first) / config.batch_size)
            if self.writer and self.validation and (self.step % config.validate_every == 0 or last):
                self._validate()
            if self.step % config.checkpoint_every == 0 or last:  # after validation: an interrupted one is repeated
                self._save()

    def export(self) -> None:
        """Write the averaged weights as `model.safetensors`."""
        if self.fabric.is_global_zero:
            info = {"steps": str(self.step), "seed": str(self.config.seed), "training": json.dumps(asdict(self.config))}
            path = self.run / "model.safetensors"
            save_backbone(_averaged(self.config, self.average), path, info, half=True)
            self.log(f"wrote {path}")
        if self.writer:
            self.writer.close()
        self.fabric.barrier()  # no process exits while the first one still writes

    def last_figures(self) -> dict[str, float]:
        """Return the last validation's figures, from an earlier call if this one had nothing to do."""
        path = self.run / "metrics.json"
        if self.fabric.is_global_zero and not self.figures and path.exists():
            self.figures = json.loads(path.read_text())
            del self.figures["step"]
        return self.figures

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the run."""
        return self.run / "last.ckpt"

    def _set_up(self) -> tuple[Any, Any]:
        """Freeze untrained parts; return losses and optimiser wrapped by Fabric."""
        for part in self.frozen:
            part.requires_grad_(False)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.config.learning_rate, betas=self.config.betas)
        for module in self.losses.modules():  # not all: volumes have no such format
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        wrapped, optimizer = self.fabric.setup(self.losses, optimizer)
        return wrapped, optimizer

    def _learn(self, pairs: Pairs) -> dict[str, Tensor]:
        """Do one step on a batch; return its losses by name, detached."""
        config, fabric = self.config, self.fabric
        self.model.train()
        for part in self.frozen:  # including their statistics
            part.eval()
        batch = self._batch(pairs)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(config, self.step)
        parts, prediction = self.wrapped(batch, self.adversary.network if self.adversary else None)
        total = torch.stack(list(parts.values())).sum()
        if not torch.isfinite(total):
            raise KinecastError(
                f"training stopped at step {self.step}: expected a finite loss, found {total.item()}: "
                "lower the learning rate"
            )
        self.optimizer.zero_grad()
        fabric.backward(total)
        fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=10.0)
        self.optimizer.step()
        parts = {name: part.detach() for name, part in parts.items()}
        if self.adversary:
            rate = self.optimizer.param_groups[0]["lr"]
            parts["discriminator"] = self.adversary.step(prediction, batch.target, rate)
        _update_average(self.average, self.model, min(config.average, (1 + self.step) / (10 + self.step)))
        return parts

    def _batch(self, pairs: Pairs) -> Batch:
        """Augment the pairs of a step, the same in every process, and return this process's slice of them."""
        config, device = self.config, self.fabric.device
        random = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        source, driving = on_device(pairs.frames, device)
        if config.downscale > 1:
            source, driving = (F.avg_pool2d(frames, config.downscale) for frames in (source, driving))
        points = None if pairs.points is None else torch.from_numpy(pairs.points).to(device)
        source, driving, target, points = config.augmentation.apply_to_faces(source, driving, points, random)
        transform = self.method.transform(config.model, config.batch_size, random, device)
        local = config.batch_size // self.fabric.world_size
        mine = slice(self.fabric.global_rank * local, (self.fabric.global_rank + 1) * local)
        guide = transform[mine] if points is None else points[mine]
        source, driving, target = (
            x[mine].contiguous(memory_format=torch.channels_last) for x in (source, driving, target)
        )
        return Batch(source, driving, target, guide)

    def _log_losses(self, parts: dict[str, Tensor], seconds: float) -> None:
        """Log losses, their means over processes; `seconds` per sample so far."""
        stacked = torch.stack([part.float() for part in parts.values()])
        values: Any = self.fabric.all_reduce(stacked, reduce_op="mean")
        means = dict(zip(parts, values.tolist(), strict=True))
        if self.writer:
            for name, value in means.items():
                self.writer.add_scalar(f"loss/{name}", value, self.step)
        loss = sum(value for name, value in means.items() if name != "discriminator")
        self.log(
            f"step {self.step}/{self.config.steps}  loss {loss:.3f}  "
            + "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            + f"  {seconds:.3f} s/sample"
        )

    def _validate(self) -> None:
        """Validate the averaged weights, and write figures and a picture."""
        averaged = _averaged(self.config, self.average).to(self.fabric.device)
        self.figures, picture = validate(averaged, self.validation, self.config.validation_frames)
        write_image(self.run / f"validation-{self.step:07d}.jpg", picture)
        for name, figure in self.figures.items():
            self.writer.add_scalar(f"validation/{name}", figure, self.step)
        self.writer.add_image("validation", picture, self.step, dataformats="HWC")
        shown = "  ".join(f"{name} {figure:.4f}" for name, figure in self.figures.items())
        self.log(f"step {self.step}  validation {shown}")
        with atomic_path(self.run / "metrics.json") as temporary:
            temporary.write_text(json.dumps({"step": self.step, **self.figures}, indent=2))

    def _save(self) -> None:
        """Write the checkpoint, by the first process."""
        if not self.fabric.is_global_zero:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        if self.adversary:
            state["opponent"] = self.adversary.state_dict()
        save_state(self.checkpoint, state)


class _AdversarialStep:
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


def learning_rate_factor(config: BackboneTrainingConfig, step: int) -> float:
    """Return the learning rate factor at a step: linear warm-up, constant, and linear decay to 0."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    start = config.decay_from * config.steps
    return rise * (1.0 if step < start else (config.steps - step) / max(1.0, config.steps - start))


def _read_ahead(sampler: PairSampler, steps: range, size: int) -> Iterator[Pairs]:
    """Yield the pairs of each step, prefetching those of the next one."""
    with ThreadPoolExecutor(1) as reader:
        futures = (reader.submit(sampler.pairs, step, size) for step in steps)
        ahead = next(futures, None)
        while ahead:
            current, ahead = ahead, next(futures, None)
            yield current.result()


def _initialise(model: Backbone, path: str) -> str:
    """Copy the tensors of a weights file that fit. Down-sampling kernels belong to the architecture and are kept."""
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
