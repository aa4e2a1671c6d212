"""Judges clips by networks that no model here was trained or driven by: dlib's 68 landmarks and its face descriptor.

Run by benchmarks/faces.py in an environment with dlib-bin, face-recognition-models, av and numpy, without kinecast.
Each line of the table: mode, driving clip, output, source. Prints means and deviations over clips, by mode, as JSON:
correlation over time of the mouth's and the eyes' opening, and the distance of identity between output and source
(dlib takes less than 0.6 as the same person).
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import dlib
import face_recognition_models as models
import numpy as np

_EVERY, _FEW = 2, 10  # frames between landmarks; landmarks between descriptors
_LEAST = 0.02  # standard deviation of an opening below which there is nothing to follow

detector = dlib.get_frontal_face_detector()
predictor = dlib.shape_predictor(models.pose_predictor_model_location())
descriptor = dlib.face_recognition_model_v1(models.face_recognition_model_location())


def frames(path: str, most: int = 200) -> Iterator[np.ndarray]:
    """Yield frames of a clip, or a picture once, at most 320 pixels high."""
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i >= most:
                return
            scale = min(1, 320 / frame.height)
            size = (round(frame.width * scale) // 2 * 2, round(frame.height * scale) // 2 * 2)
            yield frame.reformat(*size, format="rgb24").to_ndarray()


def look(picture: np.ndarray) -> Any:
    """Return the 68 points of the largest face, or None."""
    found = detector(picture, 1)
    if not found:
        return None
    return predictor(picture, max(found, key=lambda box: box.area()))


def openings(points: Any) -> tuple[float, float]:
    """Return the opening of the mouth and of the eyes, as shares of their widths."""
    p = np.array([(q.x, q.y) for q in points.parts()], float)

    def gap(a: int, b: int, left: int, right: int) -> float:
        return float(np.linalg.norm(p[a] - p[b]) / max(np.linalg.norm(p[left] - p[right]), 1e-6))

    eyes = [gap(37, 41, 36, 39), gap(38, 40, 36, 39), gap(43, 47, 42, 45), gap(44, 46, 42, 45)]
    mouth = [gap(61, 67, 60, 64), gap(62, 66, 60, 64), gap(63, 65, 60, 64)]
    return float(np.mean(mouth)), float(np.mean(eyes))


def series(path: str, every: int = _EVERY) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return openings by frame, NaN without a face, and a descriptor of every tenth of them."""
    found, identities = [], []
    for i, picture in enumerate(frames(path)):
        if i % every:
            continue
        points = look(picture)
        found.append((np.nan, np.nan) if points is None else openings(points))
        if points is not None and len(found) % _FEW == 1:
            identities.append(np.array(descriptor.compute_face_descriptor(picture, points)))
    return np.array(found), identities


def followed(driving: np.ndarray, output: np.ndarray) -> float | None:
    """Return the correlation of two openings over time, or None where the driving one hardly changes."""
    n = min(len(driving), len(output))
    both = np.isfinite(driving[:n]) & np.isfinite(output[:n])
    a, b = driving[:n][both], output[:n][both]
    if len(a) < 5 or a.std() < _LEAST:
        return None
    return float(np.corrcoef(a, b)[0, 1]) if b.std() > 1e-6 else 0.0


def main() -> None:
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in Path(sys.argv[1]).read_text().splitlines():
        mode, driving, output, source = line.split("\t")
        (truth, _), (made, seen) = series(driving), series(output)
        whose = look(first := next(frames(source)))
        values = {"mouth": followed(truth[:, 0], made[:, 0]), "eyes": followed(truth[:, 1], made[:, 1])}
        if whose is not None and seen:
            own = np.array(descriptor.compute_face_descriptor(first, whose))
            values["identity"] = float(np.mean([np.linalg.norm(own - each) for each in seen]))
        for name in ("mouth", "eyes", "identity"):
            if values.get(name) is not None:
                rows[mode][name].append(values[name])
    print(
        json.dumps(
            {
                mode: {
                    name: {"mean": float(np.mean(v)), "deviation": float(np.std(v)), "clips": len(v)}
                    if (v := found[name])
                    else {"mean": None, "deviation": None, "clips": 0}
                    for name in ("mouth", "eyes", "identity")
                }
                for mode, found in rows.items()
            }
        )
    )


if __name__ == "__main__":
    main()
