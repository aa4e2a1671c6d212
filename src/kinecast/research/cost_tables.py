"""Tables 11 and 12 of arXiv 2504.05537v2 on this machine: MACs, seconds, rate and error of each system.

The published networks are built at their sizes with random weights, which determines their cost but not their output.
So coded rates and errors are given for trained weights only, on a clip.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from kinecast.apps.pipeline import PLAIN_VIDEO_KBPS, AnimateOptions, animate_clip, extract, forecast_mask
from kinecast.apps.stream.clips import DEFAULT_QUALITY, layout_for_quality, profile_named
from kinecast.codec import FILE, encode_motion
from kinecast.codec.quantizer import dequantize, quantize
from kinecast.codec.schedule import Blocks
from kinecast.device import choose_device
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.media.framing import check_reading
from kinecast.models import FOMM, TPS, FaceVid2Vid
from kinecast.models.base import Backbone
from kinecast.models.face_vid2vid import FaceVid2VidConfig, GeneratorConfig
from kinecast.models.fomm import FOMMConfig
from kinecast.models.tps import TPSConfig
from kinecast.motion import Motion
from kinecast.research.cost import (
    FPS,
    FRAMES,
    HORIZON,
    OBSERVED,
    PUBLISHED,
    Published,
    check_whole_windows,
    cost_table,
)
from kinecast.research.tables import markdown, provenance
from kinecast.runtime import accelerate
from kinecast.zoo import forecaster_for, load_backbone

NETWORKS: dict[str, Callable[[], Backbone]] = {  # of the published sizes, at 256x256
    "FOMM": lambda: FOMM(FOMMConfig()),
    "TPS": lambda: TPS(TPSConfig()),
    "face-vid2vid": lambda: FaceVid2Vid(FaceVid2VidConfig(generator=GeneratorConfig(spade=None))),
    "face-vid2vid SPADE": lambda: FaceVid2Vid(FaceVid2VidConfig()),
}


@dataclass(frozen=True)
class Contender:
    """One row: `weights` and `forecaster` are names or files, or None for a network of `NETWORKS`, untrained."""

    label: str
    weights: str | None = None
    forecaster: str | None = None

    @staticmethod
    def parse(text: str, forecaster: str) -> "Contender":
        """Read [LABEL=]BACKBONE[+FORECASTER]."""
        label, equals, models = text.rpartition("=")
        weights, _, other = models.partition("+")
        return Contender(
            label if equals else Path(weights).name.removesuffix(".safetensors"), weights, other or forecaster
        )

    def open(self, device: str, engine: str, precision: str) -> tuple[Backbone, Forecaster]:
        """Load both models, or build them: then with the VRNN of published sizes.

        Raises:
            KinecastError: an unknown name, a damaged file, a forecaster of another D, an engine that cannot run it.
        """
        if self.weights is not None:
            backbone = load_backbone(self.weights, device, engine, precision)
            return backbone, forecaster_for(self.forecaster or "vrnn", backbone.motion_dim, device)
        where = choose_device(device)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)  # `auto` remembers its choice by the weights
            network = NETWORKS[self.label]().to(where).eval()
            forecaster = build_forecaster("vrnn", network.motion_dim, "paper").to(where).eval()
        return accelerate(network, engine, precision), forecaster


@dataclass(frozen=True)
class HeldOutClip:
    """A clip of a person not in any model's training; `true_fps` if its times are wrong, at most `limit` frames."""

    path: Path
    true_fps: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_reading(fps=self.true_fps, limit=self.limit)


@dataclass(frozen=True)
class Timing:
    """Engine and measurement settings: the median of `rounds` of `frames` output frames."""

    device: str = "auto"
    engine: str = "auto"
    precision: str = "exact"
    rounds: int = 1
    frames: int = 12

    def __post_init__(self) -> None:
        check_whole_windows(self.frames)


def cost_rows(
    contenders: Sequence[Contender],
    timing: Timing,
    clip: HeldOutClip | None,
    report: Callable[[str, Backbone], None] = lambda label, backbone: None,
) -> list[dict[str, Any]]:
    """Measure every contender, calling `report` before each; rows as plain values.

    Raises:
        KinecastError: a model that cannot be opened, one label twice, a clip that cannot be read or is too short.
    """
    labels = [each.label for each in contenders]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise KinecastError(f"models: expected different labels, found {sorted(twice)[0]} twice: write LABEL=FILE")
    how = timing.device, timing.engine, timing.precision
    opened: dict[str, tuple[Backbone, Forecaster]] = {}
    judged: dict[str, dict[str, Any]] = {}
    for each in (
        each for each in contenders if each.weights
    ):  # first: a wrong name should not be reported minutes later
        opened[each.label] = backbone, forecaster = each.open(*how)
        if clip is not None:
            motion, coded = coded_motion(backbone, str(each.weights), clip)
            judged[each.label] = {"coded": coded, "mae": errors(backbone, forecaster, clip, motion)}
    rows = []
    for each in contenders:
        backbone, forecaster = opened.pop(each.label) if each.label in opened else each.open(*how)
        report(each.label, backbone)
        names = {"model": each.label, "weights": each.weights, "forecaster": each.forecaster or forecaster.name}
        costs = cost_table(backbone, forecaster, timing.rounds, timing.frames)
        rows.append(names | costs | judged.get(each.label, {}))
    return rows


def coded_motion(backbone: Backbone, name: str, clip: HeldOutClip) -> tuple[Motion, dict[str, Any]]:
    """Code a clip's motion as `kinecast encode` does, every frame of it and in the 6-6 pattern.

    Returns the motion of whole windows as a receiver decodes it, and the rates in kbps, without header and picture.

    Raises:
        KinecastError: a clip that cannot be read, or is shorter than a window.
    """
    motion = extract(backbone, clip.path, limit=clip.limit, true_fps=clip.true_fps)
    forecast_mask(len(motion), OBSERVED, HORIZON)  # checks the length
    motion = motion[: len(motion) - len(motion) % (OBSERVED + HORIZON)]
    layout, vectors = layout_for_quality(motion), motion.vectors().numpy()
    profile = profile_named("auto", Path(name).name, layout)
    assert motion.fps is not None  # `extract` sets it
    seconds = len(motion) / motion.fps
    rates = []
    for packing, schedule in ((FILE, None), (replace(FILE, skips=True), Blocks(OBSERVED, HORIZON))):
        packets = encode_motion(vectors, layout, profile, packing, schedule)
        rates.append(8 * sum(len(bytes(packet)) for packet in packets) / seconds / 1000)
    decoded = torch.from_numpy(dequantize(quantize(vectors, layout), layout))
    return motion.with_vectors(decoded), {
        "clip": clip.path.name,
        "frames": len(motion),
        "fps": motion.fps,
        "quality": DEFAULT_QUALITY,
        "profile": profile.name,
        "kbps_every_frame": rates[0],
        "kbps": rates[1],
        "saving": PLAIN_VIDEO_KBPS / rates[1],
    }


def errors(backbone: Backbone, forecaster: Forecaster, clip: HeldOutClip, motion: Motion) -> dict[str, float]:
    """Return the MAE of a clip rebuilt from its first frame and decoded motion in the 6-6 pattern, by kind of frame."""
    options = AnimateOptions(observed=OBSERVED, horizon=HORIZON, limit=len(motion), true_fps=clip.true_fps, sound=False)
    with TemporaryDirectory() as folder:
        output = Path(folder) / "rebuilt.mp4"
        found = animate_clip(backbone, None, clip.path, output, options, forecaster, motion=motion)
    return {kind: values["mae"] for kind, values in found.quality.items()}


class Section(NamedTuple):
    """A table and the sentences under it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]


def sections(rows: Sequence[Mapping[str, Any]], machine: str) -> list[Section]:
    """Return the tables of `cost_rows`, the published rows below ours."""
    found = [_seconds(rows, machine), _products(rows), _tops(rows), _rates(rows)]
    return [*found, _errors(rows)] if any("mae" in row for row in rows) else found


def write_tables(folder: Path, tables: Sequence[Section], rows: Sequence[Mapping[str, Any]], machine: str) -> None:
    """Write cost.md and cost.json, with the command, date and machine that they are of."""
    facts = provenance()
    text = f"# Cost\n\nMade by `{facts['command']}` on {facts['date'][:10]}; {machine}, torch {torch.__version__}.\n"
    for table in tables:
        text += "\n" + markdown(table.title, table.header, table.rows)
        text += "".join(f"\n{note}\n" for note in table.notes)
    values = facts | {"rows": list(rows), "published": [asdict(row) for row in PUBLISHED]}
    make_folder(folder)
    with atomic_path(folder / "cost.md") as temporary:
        temporary.write_text(text)
    with atomic_path(folder / "cost.json") as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n")


def _seconds(rows: Sequence[Mapping[str, Any]], machine: str) -> Section:
    table = []
    for row in rows:
        where = f"{row['frame_size'][1]}x{row['frame_size'][0]}, {row['engine']} {row['precision']}"
        seconds = [row["seconds_30_frames"][stage] for stage in ("extract", "forecast", "generate", "total")]
        table.append((_name(row), where, *_fixed(seconds, 4), f"{row['fps']:.2f}"))
    for each in PUBLISHED:
        seconds = [each.extract_s, each.forecast_s, each.generate_s, each.total_s]
        table.append((_published(each), "256x256, RTX 3090", *_fixed(seconds, 4), f"{each.fps:.2f}"))
    frames, rounds = rows[0]["timed"]["frames"], rows[0]["timed"]["rounds"]
    scaled = "" if frames == FRAMES else f", scaled to {FRAMES}"
    of_many = f"the median of {rounds} rounds" if rounds > 1 else "one round"
    notes = [
        f"Ours on {machine}: {of_many} of {frames} output frames{scaled}, half of them detected and half forecast, one "
        "frame at a time, in float32 if exact; the source is encoded before the clock starts."
    ]
    title = f"Seconds for {FRAMES} frames in the {OBSERVED}-{HORIZON} pattern (Tables 11 and 12)"
    return Section(title, ("model", "runs", "extract", "forecast", "generate", "total", "fps"), table, notes)


def _products(rows: Sequence[Mapping[str, Any]]) -> Section:
    stages = ("detect", "dense motion", "generate", "source only", "canonical")
    table = []
    for row in rows:
        counts = [row["macs"].get(stage) for stage in stages]
        table.append((_name(row), *("-" if count is None else f"{count / 1e9:.3f}" for count in counts)))
    notes = [
        "Counted from the running network. `source only` is the part of `generate` that an encoded source saves on "
        "each frame after the first; `canonical` is face-vid2vid's keypoints of the source, once per source."
    ]
    return Section("GMAC per frame", ("model", *stages), table, notes)


def _tops(rows: Sequence[Mapping[str, Any]]) -> Section:
    stages = ("extract", "generate", "total")
    table = [(_name(row), *_fixed([row["tops"][stage] for stage in stages], 4)) for row in rows]
    for each in PUBLISHED:
        table.append((_published(each), *_fixed([each.extract_tops, each.generate_tops, each.total_tops], 4)))
    notes = [
        f"MACs per output frame x {FPS} / (0.6 x 10^12), detection on half of the frames, dense motion and generator "
        "on "
        "all, the source on each frame, as published; forecasting, published as 0.0001, is omitted. The published TPS "
        "row omits dense motion, and the published face-vid2vid row is of the original generator."
    ]
    return Section(f"TOPS at {FPS} fps (Tables 11 and 12)", ("model", *stages), table, notes)


def _rates(rows: Sequence[Mapping[str, Any]]) -> Section:
    table = []
    for row in rows:
        coded, raw = row.get("coded"), [row["kbps_every_frame"], row["kbps"], row["saving"]]
        ours = ("-",) * 3 if coded is None else _fixed([coded["kbps_every_frame"], coded["kbps"], coded["saving"]], 2)
        table.append((_name(row), str(row["motion_dim"]), *_fixed(raw, 2), *ours))
    for each in PUBLISHED:
        table.append((_published(each), *("-",) * 3, f"{each.saving:.2f}", *("-",) * 3))
    notes = [
        f"Raw: D 32-bit floats per frame at {FPS} fps, every frame sent, and half of them; saving of the latter "
        "against "
        f"{PLAIN_VIDEO_KBPS:g} kbps. Stream header and reference picture are not counted."
    ]
    if known := [row for row in rows if "coded" in row]:
        first = known[0]["coded"]
        profiles = ", ".join(f"{row['coded']['profile']} ({row['model']})" for row in known)
        notes.append(
            f"Coded: motion packets of {first['clip']}, {first['frames']} frames at {first['fps']:g} fps, quality "
            f"{first['quality']}, prediction tables {profiles}."
        )
    if len(known) < len(rows):
        notes.append(
            "No coded rate: the output of an untrained detector is not motion, and its entropy is meaningless. Name "
            "trained weights with --model, and a clip with --clip."
        )
    header = ("model", "D", "raw, all", "raw, 6-6", "saving", "coded, all", "coded, 6-6", "saving coded")
    return Section("kbps of motion, and saving (Tables 11 and 12)", header, table, notes)


def _errors(rows: Sequence[Mapping[str, Any]]) -> Section:
    kinds = ("all frames", "observed", "predicted", "copy of the source", "copy of the source, predicted")
    table = [(_name(row), *_fixed([row["mae"][kind] for kind in kinds], 4)) for row in rows if "mae" in row]
    table += [(_published(each), f"{each.mae:.4f}", *("-",) * 4) for each in PUBLISHED]
    clip = next(row["coded"]["clip"] for row in rows if "mae" in row)
    notes = [
        f"{clip} reconstructed from its first frame and the coded motion, {OBSERVED}-{HORIZON}, one forecast per "
        "window, from only what was sent before it; copying repeats the first frame. The published figures are "
        "means over VoxCeleb. The released forecaster reads the true frame before each one that it predicts, and the "
        "figures probably share this: errors one frame ahead, where ours are up to 6 ahead."
    ]
    header = ("model", "all", "observed", "predicted", "copying", "copying, predicted")
    return Section("MAE (Tables 11 and 12)", header, table, notes)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['model']} + {Path(row['forecaster']).stem}"


def _published(row: Published) -> str:
    return row.model.replace("+ VRNN", "published")


def _fixed(values: Sequence[float], digits: int) -> tuple[str, ...]:
    return tuple(f"{value:.{digits}f}" for value in values)
