"""`kinecast extract`: the motion of clips."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
    CropOption,
    DeviceOption,
    EngineOption,
    FaceOption,
    FpsOption,
    JsonOption,
    LimitOption,
    PrecisionOption,
    SeedOption,
    StripOption,
    TrueFpsOption,
    clip_named,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.model_choice import AUTO, AutoModelOption, choose_for_clip, choose_for_clips
from kinecast.cli.outputs import WRITES_EITHER, WRITES_TABLE
from kinecast.cli.workers import RayOption, WorkersOption


def extract(
    clips: Annotated[
        list[Path],
        typer.Argument(help="Clips (mp4, mov, webm, gif), a folder of pictures or of clips, or - for standard input."),
    ],
    output: Annotated[
        Path, WRITES_EITHER, typer.Option("-o", "--output", help="Motion file (.npz); a folder for several clips.")
    ],
    model: AutoModelOption = AUTO,
    crop: CropOption = "center",
    face: FaceOption = None,
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    strip: StripOption = False,
    blendshapes: Annotated[
        Path | None,
        WRITES_TABLE,
        typer.Option("--blendshapes", help="CSV of the 52 ARKit blendshapes and the head pose per frame (model mesh)."),
    ] = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Extract the motion of clips, streaming. (Deterministic; --seed has no effect.)

    With several clips, finished ones are kept, and damaged ones are skipped and reported.
    """
    from kinecast.apps import pipeline
    from kinecast.apps.backbone_worker import backbone_digest
    from kinecast.apps.blendshapes import Blendshapes
    from kinecast.apps.extract_many import ExtractSettings, clips_in
    from kinecast.errors import KinecastError
    from kinecast.files import MOTION_OUTPUTS, check_folder, check_output
    from kinecast.media.framing import around_face, check_reading

    found, several = clips_in(clips)
    if several and strip:
        raise KinecastError("strip: expected one picture, found several clips: extract them one by one")
    if several and blendshapes is not None:
        raise KinecastError("blendshapes: expected one clip, found several: extract them one by one")
    crop = around_face(crop, face)
    check_reading(crop, fps, limit)
    check_reading(fps=true_fps)
    if not several and (workers is not None or ray is not None):
        raise KinecastError("workers and ray: expected several clips, or a folder of them, found one: drop the option")
    if several:
        check_folder(output)
    else:
        check_output(output, MOTION_OUTPUTS, "motion file")
    clip = clip_named(found[0], strip)
    model = choose_for_clips(model, found, crop) if several else choose_for_clip(model, clip, crop)
    backbone = load_model(model, device, engine, precision)
    if several:
        weights, used = backbone_digest(backbone), (backbone.engine, backbone.precision)
        settings = ExtractSettings(model, weights, device, *used, crop, fps, limit, true_fps)
        _extract_all(settings, found, output, workers, ray, backbone.motion_dim, json)
        return
    if blendshapes is not None and not backbone.needs_face:
        raise KinecastError(
            f"blendshapes: expected the model mesh, which finds faces, found {backbone.name}: drop --blendshapes"
        )
    faces = None if blendshapes is None else Blendshapes()
    with progress() as update:
        motion = pipeline.extract(backbone, clip, crop, fps, limit, update, true_fps, faces)
    motion.save(output)
    if faces is not None and blendshapes is not None:
        faces.save(blendshapes, motion)
    assert motion.fps is not None
    kbps = pipeline.published_kbps(motion.dim, motion.fps)
    if json:
        facts = {"frames": len(motion), "fps": motion.fps, "motion_dim": motion.dim, "published_kbps": kbps}
        print_json(facts if motion.times is None else {**facts, "constant_rate": False, "seconds": motion.duration})
    rate = f"{motion.fps:g} fps" if motion.times is None else f"original times, {motion.fps:.4g} fps on average"
    say(f"{output}: {len(motion)} frames of {motion.dim} numbers at {rate}, {kbps:.1f} kbps as floats")


def _extract_all(
    settings: Any, clips: list[Path], output: Path, workers: int | None, ray: str | None, dim: int, json: bool
) -> None:
    """Extract the motion of many clips, D = `dim` numbers per frame, and report the skipped ones."""
    from kinecast.apps.extract_many import ExtractWorker, extract_all
    from kinecast.jobs.pool import WorkerPool

    with WorkerPool(ExtractWorker(settings), workers, ray) as pool, progress(unit="clips") as update:
        frames, faults = extract_all(pool, settings, clips, output, say, update)
    if json:
        print_json({"clips": frames, "left_out": faults, "motion_dim": dim})
    left = f"; {len(faults)} skipped: {', '.join(faults)}" if faults else ""
    say(f"{output}: {sum(frames.values())} frames of {len(frames)} clips, {dim} numbers each{left}")
