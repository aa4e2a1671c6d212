"""Simulated robot arms that push objects: motion with exact joint positions, and faults with known onsets.

A KUKA iiwa of seven joints (pybullet_data) follows a random path a hand's breadth above a plane on which boxes stand;
its tip pushes those it meets. Policies differ in how the path is drawn:

    wander    from one random point of the work space to the next
    push      to one side of a box, then through where it stood to the other
    circle    round a box, as wide as chance says, either way

A fault starts between two frames and persists; everything before is the same as without it:

    jam       one joint stops where it is
    slip      one joint's drive gives way: it has a share only of the torque that it held the arm with
    drop      all drives lose their torque; friction alone holds the arm
    jitter    one joint's target swings about where it should be
    wear      one joint swings more and more, and gives way at last: the one fault that has a precursor

An episode depends on its seed and number alone. Physics are those of Bullet, 240 steps a second; pictures are its
software renderer's, without a display or a graphics card.

Notation: T frames, J joints (7), O objects.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np

from kinecast.errors import KinecastError
from kinecast.packages import optional

Fault = Literal["jam", "slip", "drop", "jitter", "wear"]
Policy = Literal["wander", "push", "circle"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
POLICIES: tuple[Policy, ...] = get_args(Policy)
FPS = 10.0  # of BAIR's order: between two frames the arm moves visibly
JOINTS = 7

_SUBSTEPS = 24  # of physics a frame, at 240 Hz
_CONTROL = 6  # steps between two commands
_SINKING = 144  # steps before the first frame
_TIP = 6  # the last link
_REACH = ((0.42, 0.72), (-0.3, 0.3))  # metres, x and y of the work space
_HEIGHT = 0.13  # of the tip above the plane
_CLEAR = 0.11  # metres from the middle of any box to where a path begins, along x or y
_DOWN = (1.0, 0.0, 0.0, 0.0)  # the tip looks down: half a turn about x, as a quaternion
_REST = (0.0, 0.6, 0.0, -1.6, 0.0, 0.9, 0.0)
_FORCE = 300.0  # newton metres, by the arm's data sheet (URDF)
_FASTEST = 2.0  # radians a second
_ONSETS = (0.4, 0.7)  # of the clip, between which a fault begins
_FAULTY_JOINTS = {"jam": (0, 1, 3), "slip": (1, 3), "jitter": (0, 1, 3)}  # slip: joints that bear the arm's weight
_FAULTY_JOINTS["wear"] = _FAULTY_JOINTS["slip"]
_WARNED = 8 / 30  # of the clip, from where wear begins to where the joint gives way
_FRICTION = 5.0  # newton metres that hold a joint without a drive
_SEEN = ("joints", "velocities", "torques", "tip", "objects", "pictures")  # at each frame
_BEGUN, _FAULTED = 1, 2  # streams of random numbers: the scene and the path, and the fault


@dataclass(frozen=True)
class Episode:
    """One clip. Angles in radians, speeds in radians a second, torques in newton metres, places in metres.

    `joints`, `velocities`, `torques` are (T, 7), `tip` (T, 3), `objects` (T, 3 O): x, y, z of each; `pictures` is
    (T, S, S, 3) uint8, or None. `onset` is the first frame affected by a fault, T or more if there is none.
    """

    policy: Policy
    fault: Fault | None
    onset: int
    failure: int | None  # wear: the frame in which the joint gives way
    joint: int | None  # that the fault is of
    joints: np.ndarray
    velocities: np.ndarray
    torques: np.ndarray
    tip: np.ndarray
    objects: np.ndarray
    pictures: np.ndarray | None

    @property
    def labels(self) -> np.ndarray:
        """(T,) of 0 and 1: whether a frame is of the fault."""
        return (np.arange(len(self.joints)) >= self.onset).astype(np.int64)


@dataclass(frozen=True)
class _Trouble:
    """A fault as drawn: its kind, the first frame it touches, its joint, and how strong it is."""

    kind: Fault
    onset: int
    joint: int
    share: float  # slip: of the torque at the onset that is left
    swing: float  # jitter: radians
    rate: float  # jitter: turns a second
    failure: int  # wear: the frame in which the joint gives way


class ArmSimulator:
    """A simulated arm; a context manager. One simulator gives any number of episodes, in any order.

    Raises:
        KinecastError: pybullet is not installed, or a number is out of range.
    """

    def __init__(self, frames: int = 30, size: int = 64, pictures: bool = True, objects: int = 2) -> None:
        for name, value, least in (("frames", frames, 2), ("size", size, 16), ("objects", objects, 1)):
            if value < least:
                raise KinecastError(f"robot arms: expected {name} of at least {least}, found {value}")
        self.frames, self.size, self.pictures, self.objects = frames, size, pictures, objects
        self._bullet, self._assets = _pybullet()

    def __enter__(self) -> Self:
        self._client = self._bullet.connect(self._bullet.DIRECT)
        self._call("setAdditionalSearchPath", self._assets)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("disconnect")

    def episode(self, seed: int, number: int, fault: Fault | None = None) -> Episode:
        """Simulate episode `number` of a seed, with a fault or without: up to the onset both are the same."""
        random = np.random.default_rng([seed, number, _BEGUN])
        arm, boxes = self._scene(random)
        places = np.array([self._call("getBasePositionAndOrientation", box)[0] for box in boxes])
        policy: Policy = POLICIES[int(random.integers(len(POLICIES)))]
        path = _path(policy, places, self.frames, random)
        self._begin(arm, path[0])
        trouble = None if fault is None else self._trouble(fault, np.random.default_rng([seed, number, _FAULTED]))
        rows = self._run(arm, boxes, path, trouble)
        seen = dict(zip(_SEEN, zip(*rows, strict=True), strict=True))
        pictures = seen.pop("pictures")
        return Episode(
            policy=policy,
            fault=fault,
            onset=self.frames if trouble is None else trouble.onset,
            failure=trouble.failure if trouble is not None and fault == "wear" else None,
            joint=None if trouble is None or fault == "drop" else trouble.joint,
            pictures=np.stack(pictures) if self.pictures else None,
            **{kind: np.array(column, np.float32) for kind, column in seen.items()},
        )

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self._bullet, name)(*arguments, **options, physicsClientId=self._client)

    def _scene(self, random: np.random.Generator) -> tuple[int, list[int]]:
        """Build the plane, the arm and the boxes; return the arm and the boxes."""
        self._call("resetSimulation")
        self._call("setPhysicsEngineParameter", deterministicOverlappingPairs=1)
        self._call("setGravity", 0, 0, -9.81)
        self._call("loadURDF", "plane.urdf")
        arm = self._call("loadURDF", "kuka_iiwa/model.urdf", useFixedBase=True)
        for link in range(-1, _TIP - 1):  # the base stands in the plane for good, the upper arm meets nothing
            self._call("setCollisionFilterGroupMask", arm, link, 0, 0)
        boxes: list[int] = []
        places: list[np.ndarray] = []
        while len(boxes) < self.objects:
            place = np.array([random.uniform(*_REACH[0]), random.uniform(*_REACH[1])])
            if any(np.abs(place - other).max() < 0.14 for other in places):
                continue
            places.append(place)
            boxes.append(self._box(place, random))
        return arm, boxes

    def _box(self, place: np.ndarray, random: np.random.Generator) -> int:
        half = [*random.uniform(0.03, 0.05, 2), random.uniform(0.06, 0.09)]
        colour = [*random.uniform(0.1, 1.0, 3), 1.0]
        shape = self._call("createCollisionShape", self._bullet.GEOM_BOX, halfExtents=half)
        look = self._call("createVisualShape", self._bullet.GEOM_BOX, halfExtents=half, rgbaColor=colour)
        turn = self._bullet.getQuaternionFromEuler([0, 0, random.uniform(-np.pi, np.pi)])
        mass = random.uniform(0.2, 1.0)
        return self._call("createMultiBody", mass, shape, look, [*place, half[2]], turn)

    def _begin(self, arm: int, tip: np.ndarray) -> None:
        """Put the arm above where its path begins and let it sink there."""
        for joint, angle in enumerate(_REST):
            self._call("resetJointState", arm, joint, angle)
        above = tip + np.array([0, 0, 0.15])
        for _ in range(20):  # each call of the solver is a few steps of descent from where the arm is
            for joint, angle in enumerate(self._angles(arm, above)):
                self._call("resetJointState", arm, joint, angle)
        for step in range(_SINKING):
            if step % _CONTROL == 0:
                self._command(arm, self._angles(arm, above + (tip - above) * min(1.0, 1.5 * step / _SINKING)))
            self._call("stepSimulation")

    def _run(
        self, arm: int, boxes: list[int], path: np.ndarray, trouble: _Trouble | None
    ) -> Iterator[tuple[np.ndarray | None, ...]]:
        """Follow the path (points a command); yield what is seen at each frame."""
        yield self._seen(arm, boxes)
        commands = _SUBSTEPS // _CONTROL
        held = np.zeros(JOINTS)  # torques at the onset
        stuck = np.zeros(JOINTS)  # angles at the onset
        for frame in range(1, self.frames):
            if trouble is not None and frame == trouble.onset:
                stuck, _, held = self._state(arm)
            for i in range(commands):
                at = (frame - 1) * commands + i
                angles = self._angles(arm, path[at])
                if trouble is None or frame < trouble.onset:
                    self._command(arm, angles)
                else:
                    seconds = (at - (trouble.onset - 1) * commands) * _CONTROL / 240
                    self._command_with(trouble, arm, angles, seconds, stuck, held)
                for _ in range(_CONTROL):
                    self._call("stepSimulation")
            yield self._seen(arm, boxes)

    def _angles(self, arm: int, tip: np.ndarray) -> np.ndarray:
        solved = self._call("calculateInverseKinematics", arm, _TIP, tip.tolist(), _DOWN, restPoses=list(_REST))
        return np.array(solved[:JOINTS])

    def _command(self, arm: int, angles: np.ndarray, forces: np.ndarray | None = None) -> None:
        forces = np.full(JOINTS, _FORCE) if forces is None else forces
        for joint in range(JOINTS):
            self._call(
                "setJointMotorControl2",
                arm,
                joint,
                self._bullet.POSITION_CONTROL,
                targetPosition=float(angles[joint]),
                force=float(forces[joint]),
                maxVelocity=_FASTEST,
                positionGain=0.15,
                velocityGain=1.0,
            )

    def _command_with(
        self, trouble: _Trouble, arm: int, angles: np.ndarray, seconds: float, stuck: np.ndarray, held: np.ndarray
    ) -> None:
        """Command the arm as a fault lets it, so many seconds after its onset."""
        if trouble.kind == "drop":
            for joint in range(JOINTS):
                self._call(
                    "setJointMotorControl2",
                    arm,
                    joint,
                    self._bullet.VELOCITY_CONTROL,
                    targetVelocity=0.0,
                    force=_FRICTION,
                )
            return
        forces = np.full(JOINTS, _FORCE)
        worn = seconds * FPS / max(1, trouble.failure - trouble.onset)  # 1 where the joint gives way
        if trouble.kind == "jam":
            angles[trouble.joint] = stuck[trouble.joint]
            forces[trouble.joint] = 100 * _FORCE
        elif trouble.kind == "slip" or (trouble.kind == "wear" and worn >= 1):
            forces[trouble.joint] = trouble.share * abs(held[trouble.joint])
        elif trouble.kind == "wear":
            angles[trouble.joint] += worn * trouble.swing * np.sin(2 * np.pi * trouble.rate * seconds)
        else:
            angles[trouble.joint] += trouble.swing * np.sin(2 * np.pi * trouble.rate * seconds)
        self._command(arm, angles, forces)

    def _trouble(self, fault: Fault, random: np.random.Generator) -> _Trouble:
        if fault not in FAULTS:
            raise KinecastError(f"fault: expected one of {', '.join(FAULTS)}; found {fault!r}")
        first, last = (max(1, round(share * self.frames)) for share in _ONSETS)
        onset = int(random.integers(first, last + 1))
        return _Trouble(
            fault,
            onset=onset,
            failure=min(self.frames - 1, onset + max(1, round(_WARNED * self.frames))),
            joint=int(random.choice(_FAULTY_JOINTS.get(fault, (0,)))),
            share=random.uniform(0.1, 0.6),
            swing=random.uniform(0.02, 0.08),
            rate=random.uniform(1.5, 4.0),
        )

    def _state(self, arm: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        states = self._call("getJointStates", arm, range(JOINTS))
        return tuple(np.array([state[i] for state in states]) for i in (0, 1, 3))  # type: ignore[return-value]

    def _seen(self, arm: int, boxes: list[int]) -> tuple[np.ndarray | None, ...]:
        angles, speeds, torques = self._state(arm)
        tip = np.array(self._call("getLinkState", arm, _TIP)[4])
        places = np.concatenate([self._call("getBasePositionAndOrientation", box)[0] for box in boxes])
        return angles, speeds, torques, tip, places, self._picture() if self.pictures else None

    def _picture(self) -> np.ndarray:
        """Render (S, S, 3) at twice the size and average, since the renderer's edges are jagged."""
        side = 2 * self.size
        view = self._bullet.computeViewMatrix([1.5, 0.0, 0.95], [0.4, 0.0, 0.2], [0, 0, 1])
        lens = self._bullet.computeProjectionMatrixFOV(50, 1, 0.1, 4)
        _, _, pixels, _, _ = self._call(
            "getCameraImage", side, side, view, lens, shadow=0, renderer=self._bullet.ER_TINY_RENDERER
        )
        fine = np.asarray(pixels, np.float32).reshape(self.size, 2, self.size, 2, 4)[..., :3]
        return np.rint(fine.mean(axis=(1, 3))).astype(np.uint8)


def _path(policy: Policy, boxes: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
    """Return where the tip should be at each command, (C, 3): from point to point, at rest at each (minimum jerk)."""
    commands = frames * _SUBSTEPS // _CONTROL
    low, high = (np.array(bounds) for bounds in zip(*_REACH, strict=True))
    points = _points(policy, boxes, random)
    here = random.uniform(low, high)
    while np.abs(boxes[:, :2] - here).max(axis=1).min() < _CLEAR:  # a tip that sinks there must not land on a box
        here = random.uniform(low, high)
    path: list[np.ndarray] = []
    while len(path) < commands:
        there = next(points)
        seconds = np.linalg.norm(there - here) / random.uniform(0.12, 0.35) + 0.2
        share = np.linspace(0, 1, max(2, round(seconds * 240 / _CONTROL)) + 1)[1:]
        smooth = share**3 * (10 - 15 * share + 6 * share**2)
        path += list(here + smooth[:, None] * (there - here))
        here = there
    return np.array([[*point, _HEIGHT] for point in path[:commands]])


def _points(policy: Policy, boxes: np.ndarray, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the points (2,) that a policy passes, for ever."""
    low, high = (np.array(bounds) for bounds in zip(*_REACH, strict=True))
    box = boxes[int(random.integers(len(boxes))), :2]
    radius, turn = random.uniform(0.08, 0.18), random.choice([-1, 1]) * random.uniform(0.5, 1.0)
    angle = random.uniform(-np.pi, np.pi)
    while True:
        if policy == "wander":
            yield random.uniform(low, high)
        elif policy == "push":
            box = boxes[int(random.integers(len(boxes))), :2]
            angle = random.uniform(-np.pi, np.pi)
            away = np.array([np.cos(angle), np.sin(angle)])
            yield np.clip(box + 0.14 * away, low, high)
            yield np.clip(box - random.uniform(0.05, 0.15) * away, low, high)
        else:
            angle += turn
            yield np.clip(box + radius * np.array([np.cos(angle), np.sin(angle)]), low, high)


def _pybullet() -> tuple[Any, str]:
    """Return pybullet and the folder of its models."""
    with _quiet_stdout():  # pybullet greets on the C library's stdout, where results belong
        pybullet, data = (optional("robot arms", name) for name in ("pybullet", "pybullet_data"))
    return pybullet, data.getDataPath()


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        with suppress(AttributeError, OSError):  # where the C library is no shared one, the greeting stays
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
