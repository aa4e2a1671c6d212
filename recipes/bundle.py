"""Put trained backbones and forecasters of their keypoints into the package; print the rows of the zoo's table.

Run from the root of a checkout after the training runs of recipes/README.md.
"""

import argparse
import hashlib
import shutil
import sys
from pathlib import Path

from kinecast.cli import main
from kinecast.data.video_folder import list_clips

WEIGHTS = Path("src/kinecast/zoo/weights")
KEPT_OUT = "id10291"
# People that no weights of the mesh have seen (recipes/mesh-256-long.toml), by their own names.
MESH_KEPT_OUT = "^(id10291|001|013|016|086|095|097|105|149|153|196|197|201|210|213|215|222|224|234)$"
TRUE_FPS = 25  # of the VoxCeleb clips, whose containers say 10
DIRECT = ("--model", "direct", "--preset", "general", "--horizon", "12-24", "--steps", 800, "--batch-size", 32)
TRANSFORMER = (
    *("--model", "transformer", "--preset", "general", "--horizon", "12-24", "--every", 1, "--every", 2),
    *("--steps", 900, "--batch-size", 32, "--amplitude", 0.25),
    *("--person", "^([^#]+)#", "--early-stop", "7$"),  # one person in ten says when to stop, and how wide intervals are
)
BACKBONES = {"face-128": "face-128", "face-256": "face-256", "tiny": "tiny", "mesh": "mesh-scene"}  # and their runs
FORECASTERS: dict[str, tuple[str, tuple[object, ...]]] = {  # whose keypoints, and how
    "gru": ("face-128", ("--model", "gru", "--horizon", "12-12")),
    "vrnn": ("face-128", ("--model", "vrnn", "--horizon", "12-12")),
    "gru-snf": ("face-128", ("--model", "gru-snf", "--horizon", "12-12")),
    "direct": ("face-128", DIRECT),
    "direct-vox256": ("vox256", DIRECT),  # the published FOMM
    "vrnn-face-256": ("face-256", ("--model", "vrnn", "--horizon", "12-12")),
    "direct-face-256": ("face-256", DIRECT),
    "transformer-mesh": ("people", TRANSFORMER),
}
PEOPLE = "people-motion.npz"  # in the folder of runs, made by recipes/people_motion.py


def run(*arguments: object) -> None:
    """Run a kinecast command as a user would, or stop."""
    print("kinecast", *arguments, flush=True)
    if main([str(a) for a in arguments]) != 0:
        sys.exit(1)


def motion_of(backbone: Path, data: Path) -> Path:
    """Extract every clip's motion with a trained backbone, beside it; return the folder."""
    motion = backbone.parent / "motion"
    motion.mkdir(exist_ok=True)
    for clip in list_clips([data / "voxceleb", data / "portraits"]):
        target = motion / f"{clip.stem}.npz"
        if not target.exists():
            fps = ["--true-fps", TRUE_FPS] if clip.parent.name == "voxceleb" else []
            run("extract", clip, "-o", target, "--model", backbone, *fps)
    return motion


def bundle(runs: Path, data: Path, only: list[str]) -> None:
    """Copy the backbones, train the forecasters."""
    for name, run_name in BACKBONES.items():
        if name in only:
            shutil.copyfile(runs / run_name / "model.safetensors", WEIGHTS / f"{name}.safetensors")
    for name, (keypoints, training) in FORECASTERS.items():
        if name in only:
            if keypoints == "vox256":
                source = data / "voxceleb" / "keypoints_fomm_vox256.npz"
            elif keypoints == "people":
                source = runs / PEOPLE
            else:
                source = motion_of(runs / keypoints / "model.safetensors", data)
            run(
                *("train", "forecaster", "--data", source, *training),
                *(
                    "--validate",
                    MESH_KEPT_OUT if keypoints == "people" else KEPT_OUT,
                    "-o",
                    WEIGHTS / f"{name}.safetensors",
                ),
            )
    for file in sorted(WEIGHTS.glob("*.safetensors")):
        print(
            f"{file.name}: {file.stat().st_size / 1e6:.2f} MB, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the training runs")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="development data")
    parser.add_argument("--only", nargs="*", default=[*BACKBONES, *FORECASTERS], help="what to make anew")
    options = parser.parse_args()
    bundle(options.runs, options.data, options.only)
