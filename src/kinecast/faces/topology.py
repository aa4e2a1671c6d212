"""What the 478 landmarks are, and the names of the 52 blendshapes.

Sides are the subject's: the right eye is on the left in a picture. Loops are ordered and closed implicitly. 0 to 467
are the points of the mean face, which has a triangle mesh; 468 to 477 are the irises.
"""

from functools import cache

import numpy as np

NUM_POINTS = 478
NUM_MESH = 468

LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
LEFT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
# not a loop: the bridge from above to the tip and below it, then the wings from side to side
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 294, 278, 344, 440, 275, 45, 220, 115, 48, 64)
RIGHT_IRIS = (468, 469, 470, 471, 472)  # centre, then the ring: the subject's left, top, right and bottom
LEFT_IRIS = (473, 474, 475, 476, 477)

RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263  # the outer ones

# the points that the blendshape network reads
BLENDSHAPE_POINTS = (
    *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78),
    *(80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150),
    *(152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234),
    *(246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311),
    *(312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380),
    *(381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
    *(468, 469, 470, 471, 472, 473, 474, 475, 476, 477),
)

# Apple's ARKit names, in the network's order; it has no tongueOut
BLENDSHAPES = (
    "_neutral",
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight"),
    *("eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight"),
    *("eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight"),
    *("eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight"),
    *("jawForward", "jawLeft", "jawOpen", "jawRight"),
    *("mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel"),
    *("mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker"),
    *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)

_MIRRORED_IRISES = (473, 476, 475, 474, 477, 468, 471, 470, 469, 472)


@cache
def mesh_triangles() -> np.ndarray:
    """Return the triangles (898, 3) of the mean face, int64, counter-clockwise from the front, lips and eyes closed."""
    from kinecast.faces.weights import mean_face

    return mean_face().triangles


@cache
def mirrored() -> np.ndarray:
    """Return the index of each landmark's mirror image, int64 (478,), for flipped pictures."""
    from kinecast.faces.weights import mean_face

    vertices = mean_face().vertices
    distances = np.linalg.norm((vertices * [-1, 1, 1])[:, None] - vertices[None], axis=2)
    return np.concatenate([distances.argmin(axis=1), np.array(_MIRRORED_IRISES)])


@cache
def opening_triangles(loop: tuple[int, ...]) -> np.ndarray:
    """Return which rows of `mesh_triangles` close the opening inside LIPS_INNER, RIGHT_EYE or LEFT_EYE, int64."""
    return np.flatnonzero(np.isin(mesh_triangles(), loop).all(axis=1))


def iris_triangles() -> np.ndarray:
    """Return the triangles (8, 3) of both irises, int64, counter-clockwise from the front: from centre to ring."""
    return np.array(
        [(middle, ring[i], ring[(i + 1) % 4]) for middle, *ring in (RIGHT_IRIS, LEFT_IRIS) for i in range(4)]
    )
