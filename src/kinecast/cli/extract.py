"""`kinecast extract`: a clip to its motion."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    FpsOption,
    JsonOption,
    LimitOption,
    ModelOption,
    SeedOption,
    load_model,
    print_json,
    progress,
    say,
)


def extract(
    clip: Annotated[Path, typer.Argument(help="mp4, mov, webm, gif, a folder of pictures, or a strip of frames.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Motion file to write (.npz).")],
    model: ModelOption = DEFAULT_BACKBONE,
    crop: CropOption = "center",
    fps: FpsOption = None,
    limit: LimitOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Reduce a clip to keypoint motion, streaming. (Nothing here is random; --seed changes nothing.)"""
    from kinecast import pipeline

    backbone = load_model(model, device)
    with progress() as update:
        motion = pipeline.extract(backbone, clip, crop, fps, limit, update)
    motion.save(output)
    assert motion.fps is not None
    kbps = pipeline.published_kbps(motion.dim, motion.fps)
    if json:
        print_json({"frames": len(motion), "fps": motion.fps, "motion_dim": motion.dim, "published_kbps": kbps})
    say(f"{output}: {len(motion)} frames of {motion.dim} numbers at {motion.fps:g} fps, {kbps:.1f} kbps as floats")
