"""How well faces follow: clips of people a model was not trained on, rebuilt and transferred, judged from outside.

Makes the clips by `kinecast animate`, then runs what judges them in an environment of its own, since neither mediapipe
nor dlib belongs to kinecast: `shared/tools/judge_faces.py` (the network that also drives `mesh`, hence circular for it)
and `benchmarks/faces_dlib.py` (another network of 68 points, and one of identity).

    python benchmarks/faces.py ../shared/data --tools ../shared/tools/judge_faces.py --python JUDGE_ENV/bin/python \\
        --model mesh --model face-256 -o runs/faces --output docs/results/faces.json
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kinecast.cli import main as kinecast
from machine import describe, table, write_results

DLIB = Path(__file__).with_name("faces_dlib.py")
COLUMNS = ("mode", "model", "clips", "mouth", "blink", "smile", "pose", "mouth (dlib)", "eyes (dlib)", "identity")


def pairs(data: Path, limit: int | None) -> list[tuple[str, Path, Path | None]]:
    """Return (mode, driving clip, source): the first clip of each validation person, and pictures that it drives.

    The pictures are by turns a still and the first frame of the person half the list away.
    """
    with (data / "people" / "index.tsv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "validate"]
    clips = [data / "people" / name for name in {row["person"]: row["file"] for row in reversed(rows)}.values()]
    clips = sorted(clips)[:limit]
    stills = sorted((data / "stills").glob("*.png"))
    out: list[tuple[str, Path, Path | None]] = [("rebuild", clip, None) for clip in clips]
    for i, clip in enumerate(clips):
        other = clips[(i + len(clips) // 2) % len(clips)]
        out.append(("transfer", clip, stills[i // 2 % len(stills)] if i % 2 == 0 else other))
    return out


def animate(model: str, mode: str, clip: Path, source: Path | None, frames: int, output: Path) -> bool:
    """Make one clip of square pictures; says whether it could be made."""
    flags = ["--driving", clip, "--model", model, "--limit", frames, "--no-sound", "--quality", 8, "-o", output]
    if source is not None:
        flags += ["--source", source, "--relative"]
        flags += ["--square"] if model == "mesh" else ["--source-crop", "face", "--crop", "face"]
    return kinecast(["animate", *map(str, flags)]) == 0


def asked(command: list[Any]) -> Any:
    """Run another environment's program and return the JSON that it prints."""
    return json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)


def measure(args: argparse.Namespace, model: str) -> list[dict[str, Any]]:
    """Return a row for rebuilding and one for transfer."""
    folder = args.folder / model
    folder.mkdir(parents=True, exist_ok=True)
    lines, sources = [], []
    for mode, clip, source in pairs(args.data, args.clips):
        output = folder / f"{mode}_{clip.stem}.mp4"
        if output.exists() or animate(model, mode, clip, source, args.frames, output):
            lines.append(f"{mode}\t{clip}\t{output}\n")
            sources.append(f"{mode}\t{clip}\t{output}\t{source or clip}\n")
    (folder / "pairs.tsv").write_text("".join(lines))
    (folder / "sources.tsv").write_text("".join(sources))
    followed = asked([args.python, args.tools, args.data / "models" / "face_landmarker.task", folder / "pairs.tsv"])
    independent = asked([args.python, DLIB, folder / "sources.tsv"])
    return [{"model": model, "mode": mode, **followed[mode], "dlib": independent[mode]} for mode in followed]


def shown(row: dict[str, Any]) -> list[str]:
    """Return a row of the table; ± is the standard deviation over clips, each of another person."""

    def spread(name: str) -> str:
        found = row["dlib"][name]
        return "-" if found["clips"] == 0 else f"{found['mean']:.2f} ± {found['deviation']:.2f}"

    plain = ["-" if row[k] is None else f"{row[k]:.2f}" for k in ("jaw", "blink", "smile")]
    ours = [*plain, f"{row['degrees']:.2f}°"]
    return [row["mode"], row["model"], str(row["clips"]), *ours, *map(spread, ("mouth", "eyes", "identity"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the shared data folder, with people/, stills/ and models/")
    parser.add_argument("--tools", type=Path, required=True, help="judge_faces.py")
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with mediapipe, av, dlib")
    parser.add_argument("--model", action="append", required=True, help="name or file; several times")
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip at most (%(default)s)")
    parser.add_argument("--clips", type=int, help="so many people only")
    parser.add_argument("-o", "--folder", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    rows = [row for model in args.model for row in measure(args, model)]
    print(table(list(COLUMNS), [shown(row) for row in sorted(rows, key=lambda row: row["mode"])]))
    write_results(args.output, {"machine": machine, "frames": args.frames, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
