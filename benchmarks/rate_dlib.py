"""Compares pictures of faces by networks that no model here was trained or driven by: dlib's 68 points and descriptor.

Run by benchmarks/rate_distortion_codecs.py in an environment with dlib-bin, face-recognition-models and numpy, without
kinecast. Each request on standard input is a line of JSON with `clip`, `shape` (T, H, W, 3) and `truth`, then as many
bytes of pixels; each answer is a line of JSON. A clip's true frames come first, and what comes after is compared with
them: mean distance of the points over the true distance of the outer corners of the eyes, and the distance of the
descriptors of every third frame that has a face (dlib takes less than 0.6 as the same person). The face is looked for
in the true frames only, so that a picture that is no face any more is far off rather than left out.
"""

import json
import sys
from typing import Any

import dlib
import face_recognition_models as models
import numpy as np

_FEW = 3  # frames to a descriptor

detector = dlib.get_frontal_face_detector()
predictor = dlib.shape_predictor(models.pose_predictor_model_location())
descriptor = dlib.face_recognition_model_v1(models.face_recognition_model_location())


def largest(picture: np.ndarray) -> Any:
    """Return the box of the largest face, or None."""
    found = detector(picture, 1)
    return max(found, key=lambda box: box.area()) if found else None


def described(picture: np.ndarray, shape: Any) -> np.ndarray:
    """Return the 128 numbers of a face."""
    return np.array(descriptor.compute_face_descriptor(picture, shape))


def points(shape: Any) -> np.ndarray:
    """Return the points (68, 2) in pixels."""
    return np.array([(part.x, part.y) for part in shape.parts()], float)


def read() -> tuple[str, bool, np.ndarray] | None:
    """Return the clip of the next frames, whether they are true ones, and the frames; None at the end."""
    line = sys.stdin.buffer.readline()
    if not line:
        return None
    request = json.loads(line)
    data = sys.stdin.buffer.read(int(np.prod(request["shape"])))
    return request["clip"], request["truth"], np.frombuffer(data, np.uint8).reshape(request["shape"])


def main() -> None:
    clips: dict[str, dict[int, tuple[Any, np.ndarray, np.ndarray | None]]] = {}
    while (request := read()) is not None:
        clip, truth, frames = request
        known = clips.setdefault(clip, {})
        if truth:
            for i, frame in enumerate(frames):
                if (box := largest(frame)) is not None:
                    shape = predictor(frame, box)
                    known[i] = box, points(shape), described(frame, shape) if len(known) % _FEW == 0 else None
            answer: dict[str, Any] = {"faces": len(known)}
        else:
            apart, identity = [], []
            for i, (box, where, who) in known.items():
                shape = predictor(frames[i], box)
                eyes = max(float(np.linalg.norm(where[36] - where[45])), 1.0)
                apart.append(float(np.linalg.norm(points(shape) - where, axis=1).mean()) / eyes)
                if who is not None:
                    identity.append(float(np.linalg.norm(described(frames[i], shape) - who)))
            answer = {"landmark68": float(np.mean(apart)), "identity": float(np.mean(identity))} if identity else {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
