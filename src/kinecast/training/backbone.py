"""End-to-end training of a backbone in reconstruction mode, on folders of clips (Siarohin et al. 2019, section 3.4)."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kinecast.data.video_folder import CachedClip, list_clips, load_clip
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_distinct, check_folder, existing_file, make_folder
from kinecast.machine.process_state import denormals_flushed, kernels_measured, seeded
from kinecast.training.backbone_config import (
    BackboneTrainingConfig,
    LossConfig,
    changed_settings,
    compact_recipe,
)
from kinecast.training.loop import BackboneTrainer, learning_rate_factor
from kinecast.training.methods import method_named
from kinecast.training.validation import validate

__all__ = [
    "BackboneTrainingConfig",
    "LossConfig",
    "compact_recipe",
    "learning_rate_factor",
    "train_backbone",
    "validate",
]


def train_backbone(config: BackboneTrainingConfig, log: Callable[[str], None] = print) -> dict[str, float]:
    """Train or resume the run in `config.output`; return the last validation figures.

    The folder receives `config.json`, `last.ckpt` (atomic, every `checkpoint_every` steps), TensorBoard events,
    `validation-<step>.jpg` and at the end `model.safetensors`. The same call resumes an interrupted run.

    Several processes, of `config.devices` or started by torchrun, take slices of the same global batch and share
    batch statistics and gradients: the weights are those of one process up to rounding. Only the first writes, logs and
    returns figures; it also reads the checkpoint for all.

    Raises:
        KinecastError: no data, no matching validation person, another run's folder, or a batch that the processes
            cannot share.
    """
    # Gradients of peaked heatmaps are full of irrelevant denormals, which cost half of a CPU's time.
    with denormals_flushed(), seeded(config.seed), kernels_measured():
        return _train(config, log)


def _train(config: BackboneTrainingConfig, log: Callable[[str], None]) -> dict[str, float]:
    from lightning_fabric import Fabric

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
    trainer = BackboneTrainer(fabric, config, run, training, validation, log)
    trainer.resume()
    trainer.train()
    trainer.export()
    return trainer.last_figures()


def _silence(line: str) -> None:
    pass


def _processes(config: BackboneTrainingConfig) -> tuple[int, int]:
    """Return processes per machine, and machines: from torchrun, otherwise from the config."""
    local, machines = config.devices, 1
    if dist.is_available() and dist.is_torchelastic_launched():
        local, world = (int(os.environ[name]) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        machines = world // local
        if world != local * machines:
            raise KinecastError(
                f"torchrun: expected as many processes on every machine, found {world} in total and {local} here: "
                "give each the same --nproc-per-node"
            )
    if config.batch_size % (local * machines):
        raise KinecastError(
            f"training: expected a batch_size that {local * machines} processes can share, found {config.batch_size}"
        )
    return local, machines


def _folder(config: BackboneTrainingConfig) -> Path:
    """Create the folder of a run, which must not be an input; the weights it names must exist.

    Raises:
        KinecastError: they do not, or the existing run has settings that a resumed run may not change.
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
                f"{run}: expected the run of this config, found one with another {', '.join(changed)}: name a new "
                "output folder"
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
