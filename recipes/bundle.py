"""Put a trained face-128 and forecasters of its keypoints into the package; print the rows of the zoo's table.

Run from the root of a checkout after the two training runs of recipes/README.md.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from kinecast.cli import main
from kinecast.data.video_folder import list_clips

WEIGHTS = Path("src/kinecast/zoo/weights")
TRUE_FPS = 25  # of the VoxCeleb clips, whose containers say 10
DIRECT = ("--model", "direct", "--preset", "general", "--horizon", "12-24", "--steps", 800, "--batch-size", 32)
FORECASTERS = {
    "gru": ("--model", "gru", "--horizon", "12-12"),
    "vrnn": ("--model", "vrnn", "--horizon", "12-12"),
    "gru-snf": ("--model", "gru-snf", "--horizon", "12-12"),
    "direct": DIRECT,
    "direct-vox256": DIRECT,  # of the published FOMM's keypoints, not of face-128's
}


def run(*arguments: object) -> None:
    """Run a kinecast command as a user would, or stop."""
    print("kinecast", *arguments, flush=True)
    if main([str(a) for a in arguments]) != 0:
        sys.exit(1)


def bundle(run_folder: Path, data: Path, only: list[str]) -> None:
    """Copy the backbone, extract every clip's motion with it, train and copy the forecasters."""
    if "face-128" in only:
        shutil.copyfile(run_folder / "model.safetensors", WEIGHTS / "face-128.safetensors")
    motion = run_folder / "motion"
    motion.mkdir(exist_ok=True)
    for clip in list_clips([data / "voxceleb", data / "portraits"]):
        target = motion / f"{clip.stem}.npz"
        if not target.exists():
            fps = ["--fps", TRUE_FPS] if clip.parent.name == "voxceleb" else []
            run("extract", clip, "-o", target, "--model", run_folder / "model.safetensors", *fps)
    for name, training in FORECASTERS.items():
        if name in only:
            source = data / "voxceleb" / "keypoints_fomm_vox256.npz" if name == "direct-vox256" else motion
            run(
                *("train", "forecaster", "--data", source, *training),
                *("--validate", "id10291", "-o", WEIGHTS / f"{name}.safetensors"),
            )
    for file in sorted(WEIGHTS.glob("*.safetensors")):
        print(
            f"{file.name}: {file.stat().st_size / 1e6:.2f} MB, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/face-128"), help="folder of the training run")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="development data")
    parser.add_argument("--only", nargs="*", default=["face-128", *FORECASTERS], help="what to make anew")
    options = parser.parse_args()
    bundle(options.run, options.data, options.only)
