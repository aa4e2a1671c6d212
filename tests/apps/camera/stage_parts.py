"""A small performer with two avatars, frames of a face that moves, and a sink that keeps what it is sent."""

import asyncio
import time
from functools import cache

import numpy as np
from skimage.data import astronaut

from faces_in_motion import face_frames, tiny_mesh
from kinecast.apps.camera.avatars import Avatar, frame_portrait
from kinecast.apps.camera.feed import Captured, Newest
from kinecast.apps.camera.performer import Performer
from kinecast.apps.portrait.faces import find_faces
from kinecast.apps.portrait.stage import set_stage
from kinecast.media.pictures import to_uint8
from kinecast.models.mesh.model import Mesh

SIZE = 160, 128
GREY = np.full((240, 320, 3), 120, np.uint8)  # no face


@cache
def model() -> Mesh:
    small = tiny_mesh()
    small.warm_up()
    return small


@cache
def avatars() -> list[Avatar]:
    picture = np.ascontiguousarray(astronaut()[:256, 96:352])
    made = []
    for name, source in (("astronaut", picture), ("mirrored", np.ascontiguousarray(picture[:, ::-1]))):
        framed, face = frame_portrait(source, find_faces(source, model().landmarker)[0], SIZE)
        made.append(Avatar(name, set_stage(model(), framed, [face])))
    return made


def performer() -> Performer:
    return Performer(model(), avatars())


@cache
def moving() -> np.ndarray:
    """Return frames (4, 256, 256, 3) of a head that leans and comes nearer."""
    return to_uint8(face_frames(4))


class Kept:
    """A virtual camera that keeps its frames, and takes its time if told so."""

    name = "kept"

    def __init__(self, seconds: float = 0.0) -> None:
        self.frames: list[np.ndarray] = []
        self.seconds = seconds

    def send(self, frame: np.ndarray) -> None:
        time.sleep(self.seconds)
        self.frames.append(frame)

    def close(self) -> None:
        pass


async def bring(newest: Newest, pictures: list[np.ndarray], pause: float) -> None:
    """Be a camera that gives a frame every `pause` seconds."""
    for picture in pictures:
        newest.put(Captured(picture, time.monotonic()))
        await asyncio.sleep(pause)
