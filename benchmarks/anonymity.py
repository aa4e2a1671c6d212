"""How anonymous is a person whom a call shows as somebody else? Pictures and motion, measured.

    python benchmarks/anonymity.py ../shared/data --folder runs/anonymity --python JUDGE_ENV/bin/python \\
        --output docs/results/anonymity.json --report docs/results/anonymity.md

Finds the motion of every clip of people who have two or more, and of those kept for validation (kept in --folder, so
that it can be run again); draws what the other side sees of the latter; describes the faces in it by dlib's identity
network, in an environment of its own; and tries to tell people apart by motion alone (`anonymity_motion.py`).
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import anonymity_motion as who
import anonymity_pictures as pictures
import numpy as np
import torch

from kinecast.apps.blendshapes import Blendshapes
from kinecast.apps.extraction import extract
from kinecast.apps.stream.clips import layout_for_quality
from kinecast.codec import quantize
from kinecast.codec.quantizer import dequantize
from kinecast.files import atomic_path
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from machine import describe, table, write_results

DLIB = Path(__file__).with_name("anonymity_dlib.py")
LIMIT = 100  # frames of a clip
PARTS = ("motion", "pictures")
MOST = 3  # clips of one person; of one recording two
QUALITY = 5  # of motion, a call's own


def catalogue(data: Path) -> dict[str, list[tuple[Path, str]]]:
    """Return by person the clips and the recordings that they were cut from."""
    found: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    with (data / "people" / "index.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found[row["person"]].append((data / "people" / row["file"], f"{row['repository']}/{row['path']}"))
    for clip in sorted((data / "voxceleb").glob("*.mp4")):
        person, recording = re.match(r"(id\d+)_(.{11})_", clip.name).groups()  # type: ignore[union-attr]
        found[person].append((clip, recording))
    return {person: clips[: MOST if len({name for _, name in clips}) > 1 else 2] for person, clips in found.items()}


def motion_of(model: Mesh, clip: Path, folder: Path) -> Motion | None:
    """Return a clip's motion, found now or before, and write its blendshapes beside it; None without a face."""
    path = folder / "motion" / f"{clip.stem}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        faces = Blendshapes()
        motion = extract(model, clip, limit=LIMIT, faces=faces)
        faces.save(path.with_suffix(".csv"), motion)
        motion.save(path)
    motion = Motion.load(path)[:LIMIT]
    return motion if len(motion) >= who.LEAST else None


def by_pictures(model: Mesh, args: argparse.Namespace, people: dict[str, list[tuple[Path, str]]]) -> dict[str, Any]:
    """Return distances of identity by row."""
    clips = {person: found[0][0] for person, found in people.items()}
    motions = {person: motion for person, clip in clips.items() if (motion := motion_of(model, clip, args.folder))}
    clips = {person: clips[person] for person in motions}
    listed = pictures.make(model, clips, motions, args.still, args.folder / "pictures")
    others = {}
    for person in clips:
        for clip, recording in people[person][1:]:
            other = "another recording" if recording != people[person][0][1] else "same recording"
            if others.get(person) in (None, "same recording"):
                others[person] = other
                listed = [entry for entry in listed if entry[0] != f"other/{person}"]
                listed.append((f"other/{person}", pictures.EVERY * pictures.LOOKED, clip))
    names = args.folder / "pictures.tsv"
    names.write_text("".join(f"{name}\t{every}\t{path}\n" for name, every, path in listed))
    output = args.folder / "descriptions.npz"
    subprocess.run([str(c) for c in (args.python, DLIB, names, output)], check=True)
    with np.load(output) as file:
        seen = {name: file[name] for name in file.files}
    stills = [still.stem for still in args.still]
    return {"people": list(clips), "rows": pictures.distances(seen, list(clips), others, stills)}


def by_motion(model: Mesh, args: argparse.Namespace, people: dict[str, list[tuple[Path, str]]]) -> list[dict[str, Any]]:
    """Return how often people were named by motion alone: a row per set of clips, way of sending, and features."""
    one = [p for p, found in people.items() if len(found) > 1 and len({name for _, name in found}) == 1]
    people = {p: found for p, found in people.items() if p not in one[args.people :]}
    clips = [
        who.Clip(person, recording, motion)
        for person, found in people.items()
        if len(found) > 1
        for clip, recording in found
        if (motion := motion_of(model, clip, args.folder)) is not None
    ]
    onto = model.neutral()
    sendings = {
        "as it is": quantised(who.as_they_are),
        "as for an avatar": quantised(who.retargeted(model, onto)),
    }
    rows = []
    for recordings, chosen in sets(clips).items():
        people_in = len({clip.person for clip in chosen})
        for sending, sent in sendings.items():
            numbers = {id(clip): sent(clip.motion) for clip in chosen}
            for of, columns in (("all numbers", slice(None)), ("pose", who.POSE), ("expression", who.EXPRESSION)):
                for told, features in (("means and moves", who.with_means), ("moves alone", who.moves)):
                    found = who.identify(chosen, numbers, features, columns)
                    best = max(found, key=lambda name: float(np.mean(found[name]["by_person"])))
                    mean, low, high = who.interval(found[best]["by_person"])
                    row = {"recordings": recordings, "sent": sending, "numbers": of, "features": told}
                    row |= {"people": people_in, "clips": len(chosen), "observer": best}
                    row |= {"named": mean, "low": low, "high": high, "chance": 1 / people_in}
                    row["in five"] = float(np.mean(np.array(found[best]["ranks"]) <= 5))
                    rows.append(row | {"all": found})
                    print(row, file=sys.stderr, flush=True)
    return rows


def quantised(sent: who.Sent) -> who.Sent:
    """Return a way of sending with numbers as they arrive, in a call's steps."""

    def send(motion: Motion) -> np.ndarray:
        layout = layout_for_quality(motion, QUALITY)
        return dequantize(quantize(sent(motion), layout), layout)

    return send


def sets(clips: list[who.Clip]) -> dict[str, list[who.Clip]]:
    """Return all clips, and for those who have it one clip from each of several recordings."""
    recordings: dict[str, dict[str, who.Clip]] = defaultdict(dict)
    persons: dict[str, int] = defaultdict(int)
    for clip in clips:
        recordings[clip.person].setdefault(clip.recording, clip)
        persons[clip.person] += 1
    same = [clip for clip in clips if persons[clip.person] > 1 and len(recordings[clip.person]) == 1]
    other = [clip for found in recordings.values() if len(found) > 1 for clip in found.values()]
    return {"the same": same, "another": other}


def report(results: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    shown, moved = results["pictures"], results["motion"]
    header = ["the other side sees", "people", "distance to the person", "below 0.6", "to the chosen picture", "named"]
    return TEXT.format(
        stills=", ".join(sorted({name.split(",")[0] for name in shown["rows"] if name.endswith(", relative")})),
        pictures=table(header, [pictures.cells(name, row) for name, row in shown["rows"].items()]),
        people=len(shown["people"]),
        left=LEFT.format(shown["of"]) if shown["of"] > len(shown["people"]) else "",
        motion=table(list(MOTION), [motion_cells(row) for row in moved["rows"]]),
        **{
            f"{part}_{key}": results[part]["machine"][key] for part in PARTS for key in ("command", "processor", "date")
        },
    )


def motion_cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table of motion alone."""
    recordings = {"the same": "the same recording", "another": "another recording"}[row["recordings"]]
    named = f"{100 * row['named']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    shares = [f"{100 * row['in five']:.0f} %", f"{100 * row['chance']:.0f} %"]
    return [recordings, row["sent"], row["numbers"], row["features"], str(row["people"]), named, *shares]


MOTION = ("second clip from", "sent", "seen", "features", "people", "named [95 %]", "among five", "chance")
LEFT = "\nOf the {} people kept for validation those are the first; the others were not drawn."
TEXT = """# How anonymous is an avatar?

A picture of somebody else, or a 3-D head, hides what a person looks like. It does not hide who moves it from somebody
who knows how that person moves.

Made by

    {motion_command}
    {pictures_command}

on {motion_date:.10} ({motion_processor}, CPU, beside other work; nothing here depends on speed). People are the unit;
intervals of 95 % resample people.

## What can be seen in the pictures

{people} people whom `mesh` was not trained on ({stills} is the chosen picture, the same for all). What the other side
sees is drawn from 96 frames of each person's first clip, three of which are described by dlib's identity
network. It takes less than 0.6 as the same person. *Relative* is what a call sends for a chosen picture, *absolute*
is `kinecast animate --absolute`, *me* is what a call shows when no avatar is chosen. *Named* is how often, of all
these people, the right one was nearest: by chance one of {people}.{left}

{pictures}

The 3-D head is kinecast's own, drawn without a graphics card; where the network found no face in its pictures, nobody
is named.

## What can be told from the motion alone

An observer has one named clip of each person, sees the motion of another clip, and says whose it is: the better of a
logistic regression and a linear discriminant over windows of a second, trained on the named clips alone. Numbers are
quantised as a call does (quality 5). *Means and moves* sees what the numbers are and how they change, *moves alone*
how much and how fast they change. *As it is*: the sender shows itself. *As for an avatar*: what is sent for a chosen
picture or a 3-D head.

{motion}

Clips of the same recording share light, camera and topic, which makes it easier; those of another recording are the
fairer figures, of fewer people, some of whom may have been filmed twice in one studio.

## In plain words

- In pictures, nobody comes out as the person who moves them. Absolute motion bends the chosen picture towards that
  person (it is farther from the chosen picture, and a little nearer to the person); relative motion, which a call
  sends, hardly does. Of so few people the share that is named is not resolved from chance.
- Sent as it is, motion holds the face's own shape: it names most people.
- For an avatar, changes since the first frame are sent, on the shape of the avatar; mouth and eyes open as far as
  theirs do. That lowers the share of people who are recognised. It does not bring it to chance: how strongly and fast
  somebody nods, blinks and speaks is that person's own. `moves alone` shows how much of it is style.
- A 3-D head is sent the same numbers as a picture, and hides as much and as little of the motion.
- Voices are not changed. What is said, the background in a picture of yourself, times and network addresses were not
  looked at.
- This observer is simple and knew one clip of four seconds of each person. One who has hours of somebody's film, or a
  network taught on many people, will do better. Take these figures as the least that leaks.
- An avatar is no promise of anonymity. Whoever must not be recognised should not send motion.
"""


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the shared data folder, with people/, voxceleb/ and stills/")
    parser.add_argument("--folder", type=Path, required=True, help="folder for motion and pictures")
    parser.add_argument("--python", type=Path, required=True, help="Python of an environment with dlib and av")
    parser.add_argument("--still", type=Path, action="append", required=True, help="a chosen picture; several times")
    parser.add_argument("--people", type=int, default=30, help="of one recording, at most (%(default)s)")
    parser.add_argument("--shown", type=int, help="people of whom pictures are drawn, all of them otherwise")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/mesh-256-long.toml"), help="who validates")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this alone, and keep the other")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write, or to complete")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    args.part = args.part or PARTS
    torch.set_num_threads(1)
    machine = describe()
    model = load_backbone("mesh", "cpu", "fast")
    kept = re.compile(tomllib.loads(args.recipe.read_text())["validate"])
    people = catalogue(args.data)
    people = {p: people[p] for p in sorted(people, key=lambda p: not (kept.match(p) or p.startswith("id")))}
    results = json.loads(args.output.read_text()) if args.output.exists() else {}
    if "motion" in args.part:
        results["motion"] = {"machine": machine, "rows": by_motion(model, args, people)}
        write_results(args.output, results)
    if "pictures" in args.part:
        keepers = [(p, c) for p, c in people.items() if kept.match(p)]
        chosen = dict(keepers[: args.shown])
        results["pictures"] = {"machine": machine, "of": len(keepers), **by_pictures(model, args, chosen)}
        write_results(args.output, results)
    if set(results) != set(PARTS):
        return
    text = report(results)
    print(text)
    if args.report:
        with atomic_path(args.report) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
