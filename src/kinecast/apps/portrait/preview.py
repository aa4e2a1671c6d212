"""A preview of what will move: the heads' squares in the picture, and the mesh on each face."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from kinecast.apps.portrait.stage import Stage
from kinecast.faces import Face
from kinecast.faces.topology import FACE_OVAL, LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE, mesh_triangles
from kinecast.media.pictures import caption, side_by_side

_HEIGHT = 512  # pixels of the preview
_MOST = 6  # heads shown close up
_SQUARE, _MESH, _LINES = (255, 190, 0), (120, 210, 255), (255, 255, 255)


def preview(stage: Stage, faces: Sequence[Face]) -> np.ndarray:
    """Return the picture with its squares, and beside it each square with the face's mesh: (h, w, 3), uint8.

    Args:
        stage: with its actors.
        faces: of the actors, in their order.
    """
    columns = [caption(_overview(stage), "what moves")]
    for number, (actor, face) in enumerate(list(zip(stage.actors, faces, strict=True))[:_MOST], 1):
        scale = _HEIGHT / actor.crop.side
        near = Image.fromarray(np.ascontiguousarray(actor.crop.cut(stage.picture))).resize((_HEIGHT, _HEIGHT))
        drawn = _meshed(near, actor.crop.landmarks(face)[:, :2] * scale)
        columns.append(caption(drawn, f"head {number}: {actor.crop.side} pixels"))
    return side_by_side(columns)


def _overview(stage: Stage) -> np.ndarray:
    height, width = stage.picture.shape[:2]
    scale = _HEIGHT / height
    whole = Image.fromarray(stage.picture).resize((max(round(width * scale), 1), _HEIGHT), Image.Resampling.BOX)
    draw = ImageDraw.Draw(whole)
    for actor in stage.actors:
        left, top, side = (value * scale for value in (actor.crop.left, actor.crop.top, actor.crop.side))
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=_SQUARE, width=3)
    return np.array(whole)


def _meshed(picture: Image.Image, points: np.ndarray) -> np.ndarray:
    """Draw triangles and outlines of a face over a picture."""
    over = picture.copy()
    draw = ImageDraw.Draw(over)
    for triangle in mesh_triangles():
        corners = [tuple(points[i]) for i in (*triangle, triangle[0])]
        draw.line(corners, fill=_MESH, width=1)
    over = Image.blend(picture, over, 0.5)
    draw = ImageDraw.Draw(over)
    for loop in (FACE_OVAL, LIPS_OUTER, LIPS_INNER, LEFT_EYE, RIGHT_EYE):
        draw.line([tuple(points[i]) for i in (*loop, loop[0])], fill=_LINES, width=2)
    return np.array(over)
