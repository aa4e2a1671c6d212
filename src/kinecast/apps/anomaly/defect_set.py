"""A set of synthetic defects on disk, labelled: what another detector is trained on.

    FOLDER/manifest.json   settings, the normal clips and the forecaster, each with a hash of its content
    FOLDER/motion/         freeze-00012.npz and so on: a motion file where the normal ones are a backbone's, else (T, D)
    FOLDER/clips/          freeze-00012.mp4, if asked for: the normal clip's own first frame, moved
    FOLDER/labels.csv      a row a sample, `synthesis.COLUMNS`; written last
    FOLDER/model.safetensors   the forecaster, if it was trained for the set

A run goes on where one was interrupted; of more samples only those that are missing are made. What is there is never
written again: a folder of other settings, clips or weights is refused.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.anomaly.synthesis import COLUMNS, Futures, Planned, SynthesisConfig, make, plan
from kinecast.data.windows import Series
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder

MANIFEST, LABELS, MOTION, CLIPS = "manifest.json", "labels.csv", "motion", "clips"
WEIGHTS = "model.safetensors"  # of a forecaster that was trained for the set
_FORMAT = 1


def manifest_of(normal: Series, config: SynthesisConfig, model: Mapping[str, str], clips: bool) -> dict[str, Any]:
    """Return what a set depends on. `model` says what the forecaster is, and the hash of its weights.

    How many samples there are is no part of it: more may be asked for later.
    """
    hashes = {name: hashlib.sha256(motion.numpy().tobytes()).hexdigest() for name, motion in sorted(normal.items())}
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items() if key != "count"}
    return {"format": _FORMAT, "settings": settings, "normal": hashes, "model": dict(model), "clips": clips}


def check_manifest(folder: Path, wanted: Mapping[str, Any], but: tuple[str, ...] = ()) -> None:
    """Check that a folder is free, or holds a set of the same settings, clips and model.

    `but` are keys that are not known yet, such as the hash of a forecaster that is still to be trained.

    Raises:
        KinecastError: it holds another set.
    """
    path = folder / MANIFEST
    if not path.exists():
        taken = [name for name in (MOTION, CLIPS, LABELS, WEIGHTS) if (folder / name).exists()]
        if taken:
            raise KinecastError(f"{folder}: expected a free folder, found {', '.join(taken)}: name another folder")
        return
    try:
        found = json.loads(path.read_text())
        other = [key for key in wanted if key not in but and found.get(key) != wanted[key]]
        if "settings" in other:
            other += [key for key, value in wanted["settings"].items() if found["settings"].get(key) != value]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KinecastError(f"{path}: expected the manifest of a defect set, found another file") from error
    if other:
        raise KinecastError(f"{path}: expected a set of these {', '.join(other)}, found another: name another folder")


def write_set(
    folder: Path,
    model: Futures,
    normal: Series,
    config: SynthesisConfig,
    manifest: Mapping[str, Any],
    save: Callable[[Path, str, Tensor], None] | None = None,
    render: Callable[[Path, Planned, Tensor], None] | None = None,
    done: Callable[[str, int], None] = lambda kind, count: None,
) -> int:
    """Make what is not there yet; return how many samples that were.

    Args:
        folder: of the set.
        model: a scorer of the forecaster.
        normal: the normal clips (T, D).
        config: what is made.
        manifest: of `manifest_of`.
        save: writes the motion (T, D) of a name; an .npz of one array by default.
        render: writes the clip of a sample, if clips are wanted.
        done: is told of each sample.

    Raises:
        KinecastError: the folder holds another set.
    """
    if (folder / MANIFEST).exists() or not (folder / WEIGHTS).exists():  # weights alone: just trained for this set
        check_manifest(folder, manifest)
    samples = list(plan(normal, config))
    if not (folder / MANIFEST).exists():
        make_folder(folder)
        _write_text(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    motions = make_folder(folder / MOTION)
    clips = make_folder(folder / CLIPS) if render else None
    written = 0
    for each in samples:
        path = motions / f"{each.name}.npz"
        clip = clips / f"{each.name}.mp4" if clips else None
        if not path.exists() or (clip and not clip.exists()):
            motion = make(model, normal, each, config)
            if not path.exists():
                (save or _save_array)(path, each.name, motion)
            if clip and render and not clip.exists():
                render(clip, each, motion)
            written += 1
        done("defects", 1)
    _write_labels(folder / LABELS, samples)
    return written


def read_set(folder: Path) -> tuple[dict[str, Tensor], dict[str, Mapping[str, str]]]:
    """Return the motion (T, D) and the row of labels.csv of each sample, by name.

    Raises:
        KinecastError: there is no whole set.
    """
    from kinecast.data.keypoint_store import load_series

    if not (folder / LABELS).exists():
        raise KinecastError(f"{folder}: expected a set of defects with its labels.csv, found none: make it to its end")
    with (folder / LABELS).open(newline="") as file:
        rows: dict[str, Mapping[str, str]] = {row["name"]: row for row in csv.DictReader(file)}
    series = load_series(folder / MOTION)
    return {name: series[name] for name in rows}, rows


def _write_labels(path: Path, samples: list[Planned]) -> None:
    """Write the table; one that has further rows already, of a larger count, stays."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(each.row() for each in samples)
    if path.exists():
        with path.open(newline="") as file:
            known = {row["name"] for row in csv.DictReader(file)}
        if known >= {each.name for each in samples}:
            return
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _save_array(path: Path, name: str, motion: Tensor) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name: motion.numpy().astype(np.float32)})  # type: ignore[arg-type]


def hash_of(model: torch.nn.Module) -> str:
    """Return a hash of a forecaster's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
