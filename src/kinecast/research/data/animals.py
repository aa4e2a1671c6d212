"""Simple animals that walk, fly, swim and crawl, drawn by a program: a data set of deformable bodies in MGIF's layout.

MGIF (Siarohin et al. 2019, arXiv 1812.08861) is a collection of GIFs of animals in motion, and cannot be passed on.
These can be made anew by anyone. Kinds:

    quadruped   four legs of two bones, in one of three gaits (walk, trot, pace: Muybridge 1887); neck, head, tail
    bird        two wings of two bones that beat, the body rising as they fall
    fish        a body along whose length a wave travels, wider towards the tail; fins
    snake       the same wave, as wide everywhere, on a long thin body

What differs from animal to animal: lengths of bones and bodies, colours, coat (plain, striped or spotted; its marks are
part of the body and move with it), gait, pace, how regular it is, direction, place, and the ground behind. An animal
depends on its seed and number alone. Motion is periodic with a pace that wavers, and each animal is of its own person.

Notation: T frames, S pixels of a side. Lengths are in shares of the side, x to the right, y down.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.media.writer import VideoWriter

Kind = Literal["quadruped", "bird", "fish", "snake"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FPS = 12.5  # of a GIF whose delays are 80 ms
_FINE = 4  # times as large as it is kept, since drawn edges are jagged
_COATS = ("plain", "stripes", "spots")
# Phases of the legs left fore, right fore, left hind, right hind, in turns.
_GAITS = {"walk": (0.25, 0.75, 0.0, 0.5), "trot": (0.0, 0.5, 0.5, 0.0), "pace": (0.0, 0.5, 0.0, 0.5)}
_FORMAT = 1
Point = np.ndarray  # (2,)
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class AnimalDataConfig:
    """What is drawn: so many animals, a share of them to test on."""

    clips: int = 240
    frames: int = 36
    size: int = 64
    seed: int = 0
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if self.clips < 2 or self.frames < 2 or self.size < 16 or self.seed < 0 or not 0 < self.test_share < 1:
            raise KinecastError(
                "animals: expected at least 2 clips of at least 2 frames of at least 16 pixels, a seed of at least 0 "
                f"and a test share between 0 and 1; found {self.clips}, {self.frames}, {self.size}, {self.seed} and "
                f"{self.test_share:g}"
            )


def animal(seed: int, number: int, frames: int, size: int) -> tuple[Kind, np.ndarray]:
    """Draw animal `number` of a seed: its kind, and pictures (T, S, S, 3) uint8."""
    kind = KINDS[number % len(KINDS)]
    random = np.random.default_rng([seed, number])
    look = _Look.drawn(random)
    pose = _POSES[kind](random)
    turns = _turns(frames, random)
    drift = np.linspace(-0.5, 0.5, frames)[:, None] * [random.uniform(-0.12, 0.12), 0.0]
    return kind, np.stack([_picture(look, pose, turn, shift, size) for turn, shift in zip(turns, drift, strict=True)])


def write_animals(
    folder: Path, config: AnimalDataConfig, done: Callable[[str, int], None] = lambda kind, count: None
) -> int:
    """Write train/ and test/ of KIND-00012.gif that are not there yet; return how many that were.

    Raises:
        KinecastError: the folder holds animals of another seed, size or length.
    """
    recipe = {"format": _FORMAT} | {k: v for k, v in asdict(config).items() if k in ("frames", "size", "seed")}
    _check_recipe(make_folder(folder) / "animals.json", recipe | {"test_share": config.test_share})
    written = 0
    for i in range(config.clips):
        # Whole rounds of all kinds, so that both sides have all of them, and no animal's side depends on the count.
        turn = i // len(KINDS)
        test = int((turn + 1) * config.test_share + 1e-9) > int(turn * config.test_share + 1e-9)
        path = make_folder(folder / ("test" if test else "train")) / f"{KINDS[i % len(KINDS)]}-{i:05d}.gif"
        if not path.exists():
            with VideoWriter(path, FPS) as writer:
                writer.write(animal(config.seed, i, config.frames, config.size)[1])
            written += 1
        done("animals", 1)
    return written


def _check_recipe(path: Path, recipe: dict[str, Any]) -> None:
    if path.exists():
        if json.loads(path.read_text()) != recipe:
            raise KinecastError(f"{path}: expected animals of this recipe, found another: name another folder")
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(recipe, indent=2) + "\n")


def _turns(frames: int, random: np.random.Generator) -> np.ndarray:
    """Return the phase of each frame in turns: a pace of its own that wavers."""
    pace = 1 / random.uniform(9, 22)  # turns a frame
    waver = random.uniform(0.0, 0.35) * np.sin(
        2 * np.pi * (np.arange(frames) / random.uniform(15, 40) + random.random())
    )
    return random.random() + np.cumsum(pace * (1 + waver))


@dataclass(frozen=True)
class _Look:
    """Colours and coat of an animal, and the ground behind it."""

    coat: Colour
    dark: Colour  # of limbs that are farther away
    marks: Colour
    pattern: str
    rows: int  # of marks
    sky: Colour
    ground: Colour
    horizon: float
    facing: bool  # to the left
    place: Point

    @classmethod
    def drawn(cls, random: np.random.Generator) -> "_Look":
        coat = random.uniform(40, 230, 3)
        marks = np.where(
            coat.mean() > 130, coat * random.uniform(0.2, 0.55), 255 - (255 - coat) * random.uniform(0.2, 0.5)
        )
        sky = 255 - random.uniform(0, 60, 3)
        plain = random.random() < 0.5  # most of MGIF is on white
        return cls(
            coat=_colour(coat),
            dark=_colour(coat * 0.7),
            marks=_colour(marks),
            pattern=_COATS[int(random.integers(len(_COATS)))],
            rows=int(random.integers(4, 8)),
            sky=(255, 255, 255) if plain else _colour(sky),
            ground=(255, 255, 255) if plain else _colour(sky * random.uniform(0.6, 0.85)),
            horizon=random.uniform(0.6, 0.8),
            facing=bool(random.random() < 0.5),
            place=np.array([random.uniform(-0.04, 0.04), random.uniform(-0.04, 0.04)]),
        )


@dataclass(frozen=True)
class _Bone:
    """A limb or body from one end to the other, as wide as said at each; `far` is behind, `coated` bears marks."""

    start: Point
    end: Point
    widths: tuple[float, float]
    far: bool = False
    coated: bool = False


Pose = Callable[[float], list[_Bone]]  # of a phase in turns, what is drawn in order


def _quadruped(random: np.random.Generator) -> Pose:
    length, height = random.uniform(0.28, 0.42), random.uniform(0.07, 0.12)
    upper, lower = random.uniform(0.10, 0.16), random.uniform(0.10, 0.16)
    thick = random.uniform(0.025, 0.045)
    neck, lift = random.uniform(0.08, 0.2), random.uniform(0.2, 1.2)  # radians above the back
    head, tail = random.uniform(0.05, 0.09), random.uniform(0.08, 0.22)
    swing, bend = random.uniform(0.3, 0.6), random.uniform(0.4, 0.9)
    gait = _GAITS[list(_GAITS)[int(random.integers(len(_GAITS)))]]
    nod = random.uniform(0.02, 0.15)

    def pose(turn: float) -> list[_Bone]:
        bob = 0.012 * np.sin(4 * np.pi * turn)
        front, back = np.array([0.5 + length / 2, 0.48 + bob]), np.array([0.5 - length / 2, 0.48 - bob])
        legs: list[tuple[bool, list[_Bone]]] = []
        for side, phase in enumerate(gait):
            root, at = (front if side < 2 else back), 2 * np.pi * (turn + phase)
            thigh = np.pi / 2 + swing * np.sin(at)
            shin = thigh + bend * max(0.0, np.cos(at)) * (1 if side >= 2 else -1)
            knee = root + upper * _towards(thigh)
            far = side % 2 == 1
            parts = [
                _Bone(root, knee, (thick * 1.4, thick), far),
                _Bone(knee, knee + lower * _towards(shin), (thick, thick * 0.7), far),
            ]
            legs.append((far, parts))
        top = front + neck * _towards(-lift + nod * np.sin(4 * np.pi * turn))
        wag = np.pi + 0.5 + 0.4 * np.sin(2 * np.pi * turn)
        far_legs = [bone for far, parts in legs if far for bone in parts]
        near_legs = [bone for far, parts in legs if not far for bone in parts]
        body = [
            _Bone(back, back + tail * _towards(-wag), (thick, thick * 0.5)),
            _Bone(front, top, (height * 0.7, head * 0.7)),
            _Bone(top, top + head * 1.3 * _towards(0.3), (head, head * 0.6)),
            _Bone(back, front, (height, height * 1.1), coated=True),
        ]
        return [*far_legs, *body, *near_legs]

    return pose


def _bird(random: np.random.Generator) -> Pose:
    length, round_ = random.uniform(0.18, 0.28), random.uniform(0.06, 0.1)
    arm, hand = random.uniform(0.12, 0.2), random.uniform(0.12, 0.22)
    beat, fold = random.uniform(0.6, 1.1), random.uniform(0.3, 0.8)
    head, beak, tail = random.uniform(0.04, 0.06), random.uniform(0.03, 0.08), random.uniform(0.1, 0.2)
    rise = random.uniform(0.02, 0.05)

    def pose(turn: float) -> list[_Bone]:
        up = np.sin(2 * np.pi * turn)
        middle = np.array([0.5, 0.5 + rise * np.sin(2 * np.pi * (turn - 0.25))])
        front, back = middle + [length / 2, -0.02], middle - [length / 2, -0.02]
        shoulder = middle + [length * 0.15, -0.02]

        def wing(spread: float, far: bool) -> list[_Bone]:
            first = -np.pi / 2 - spread + (1 - up) * beat
            elbow = shoulder + arm * _towards(first)
            tip = elbow + hand * _towards(first + fold * np.cos(2 * np.pi * turn))
            return [_Bone(shoulder, elbow, (0.05, 0.045), far), _Bone(elbow, tip, (0.045, 0.015), far)]

        top = front + head * _towards(-0.7)
        return [
            *wing(0.45, True),
            _Bone(back, back + tail * _towards(np.pi - 0.15 * up), (0.03, 0.06)),
            _Bone(back, front, (round_ * 0.7, round_), coated=True),
            _Bone(top, top + (head + beak) * _towards(0.1), (head * 0.6, 0.005)),
            _Bone(front, top, (head, head)),
            *wing(0.15, False),
        ]

    return pose


def _chain(random: np.random.Generator, finned: bool) -> Pose:
    """Return the pose of a body along which a wave travels: a fish, or a snake."""
    length = random.uniform(0.4, 0.55) if finned else random.uniform(0.6, 0.75)
    deep = random.uniform(0.07, 0.13) if finned else random.uniform(0.025, 0.045)
    waves = random.uniform(0.6, 1.0) if finned else random.uniform(1.3, 2.0)
    sway = random.uniform(0.03, 0.06) if finned else random.uniform(0.04, 0.08)
    fork, fin, parts = random.uniform(0.07, 0.13), random.uniform(0.05, 0.1), 12

    def pose(turn: float) -> list[_Bone]:
        along = np.linspace(0, 1, parts + 1)  # from the nose
        growing = 0.15 + 0.85 * along if finned else np.ones_like(along) * (0.4 + 0.6 * np.minimum(1, 4 * along))
        y = 0.5 + sway * growing * np.sin(2 * np.pi * (waves * along - turn))
        points = np.stack([0.5 + length / 2 - length * along, y], axis=1)
        profile = np.sin(np.pi * (0.12 + 0.86 * along)) ** 0.8 if finned else np.minimum(1, 0.3 + 4 * (1 - along))
        widths = deep * np.maximum(profile, 0.12)
        spine = [_Bone(points[i], points[i + 1], (widths[i], widths[i + 1]), coated=i % 2 == 1) for i in range(parts)][
            ::-1
        ]
        if not finned:
            tongue = points[0] + 0.05 * _towards(0.3 * np.sin(6 * np.pi * turn))
            return [_Bone(points[0], tongue, (0.006, 0.004), True), *spine]
        end = points[-1] - points[-3]
        angle = float(np.arctan2(end[1], end[0]))
        tail = [_Bone(points[-1], points[-1] + fork * _towards(angle + a), (0.01, 0.05), True) for a in (0.6, -0.6)]
        back = points[4] - [0, widths[4] * 0.8]
        belly = points[3] + [0, widths[3] * 0.5]
        flap = 0.9 + 0.5 * np.sin(4 * np.pi * turn)
        return [
            *tail,
            _Bone(back, back + fin * _towards(-2.2), (0.05, 0.01), True),
            *spine,
            _Bone(belly, belly + fin * _towards(np.pi - flap), (0.03, 0.02), True),
        ]

    return pose


_POSES: dict[Kind, Callable[[np.random.Generator], Pose]] = {
    "quadruped": _quadruped,
    "bird": _bird,
    "fish": lambda random: _chain(random, finned=True),
    "snake": lambda random: _chain(random, finned=False),
}


def _picture(look: _Look, pose: Pose, turn: float, shift: Point, size: int) -> np.ndarray:
    """Draw one frame (S, S, 3) uint8."""
    side = size * _FINE
    picture = Image.new("RGB", (side, side), look.sky)
    brush = ImageDraw.Draw(picture)
    brush.rectangle((0, round(look.horizon * side), side, side), fill=look.ground)
    bones = pose(float(turn))
    for bone in bones:
        _draw_bone(brush, bone, look, look.place + (-shift if look.facing else shift), side)
    fine = np.asarray(picture)
    if look.facing:
        fine = fine[:, ::-1]
    return np.rint(fine.reshape(size, _FINE, size, _FINE, 3).astype(np.float32).mean(axis=(1, 3))).astype(np.uint8)


def _draw_bone(brush: ImageDraw.ImageDraw, bone: _Bone, look: _Look, offset: Point, side: int) -> None:
    """Draw a bone with round ends, and its marks at places of its own."""
    start, end = bone.start + offset, bone.end + offset
    along = end - start
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
    colour = look.dark if bone.far else look.coat
    first, last = bone.widths
    corners = [start + across * first, end + across * last, end - across * last, start - across * first]
    brush.polygon([tuple(c * side) for c in corners], fill=colour)
    for place, width in ((start, first), (end, last)):
        _disc(brush, place, width, colour, side)
    if not bone.coated or look.pattern == "plain":
        return
    for i in range(look.rows):
        share = (i + 0.5) / look.rows
        place, width = start + share * along, (1 - share) * first + share * last
        if look.pattern == "stripes":
            ends = [tuple((place + s * 0.85 * width * across) * side) for s in (-1, 1)]
            brush.line(ends, fill=look.marks, width=max(1, round(0.018 * side)))
        else:
            _disc(brush, place + across * width * (0.45 if i % 2 else -0.4), 0.017, look.marks, side)


def _disc(brush: ImageDraw.ImageDraw, place: Point, radius: float, colour: Colour, side: int) -> None:
    (x, y), r = place * side, radius * side
    brush.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _towards(angle: float) -> Point:
    """Return the unit vector at an angle, radians from x towards y."""
    return np.array([np.cos(angle), np.sin(angle)])


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 0, 255).astype(int).tolist()
    return red, green, blue
