"""Write the golden vectors of the face landmarker anew, by the original programs.

In a virtual environment of its own, with mediapipe 1.2 (`pip install mediapipe ai-edge-litert scikit-image`):

    python tests/golden/make_faces.py ../shared/data/models/face_landmarker.task
"""

import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from faces.golden import network_inputs, pictures  # noqa: E402

PARTS = {"detector": "face_detector", "landmarks": "face_landmarks_detector", "blendshapes": "face_blendshapes"}
OUTPUTS = {"regressors": "boxes", "classificators": "scores", "Identity": "points", "Identity_1": "presence"}


def networks(bundle: bytes | str) -> dict[str, np.ndarray]:
    """Return what LiteRT makes of seeded inputs, one network after the other."""
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    found = {}
    for part, given in network_inputs().items():
        runner = Interpreter(model_content=zipfile.ZipFile(bundle).read(f"{PARTS[part]}.tflite"))
        runner.allocate_tensors()
        runner.set_tensor(runner.get_input_details()[0]["index"], given)
        runner.invoke()
        for output in runner.get_output_details():
            name = "shapes" if part == "blendshapes" else OUTPUTS.get(output["name"])
            if name:
                found[name] = runner.get_tensor(output["index"])
    return found


def faces(bundle: str) -> dict[str, np.ndarray]:
    """Return what mediapipe sees in two pictures."""
    import mediapipe  # type: ignore[import-not-found]
    from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-not-found]

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=bundle),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=3,
    )
    found = {}
    for name, picture in pictures().items():
        with vision.FaceLandmarker.create_from_options(options) as landmarker:
            seen = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture))
        height, width = picture.shape[:2]
        size = (width, height, width)
        points = [[(p.x, p.y, p.z) for p in face] for face in seen.face_landmarks]
        found[f"{name}_landmarks"] = (np.array(points) * size).astype(np.float32)
        found[f"{name}_blendshapes"] = np.array([[c.score for c in face] for face in seen.face_blendshapes], np.float32)
        found[f"{name}_pose"] = np.array(seen.facial_transformation_matrixes, np.float32)
    return found


if __name__ == "__main__":
    vectors = networks(sys.argv[1]) | faces(sys.argv[1])
    np.savez_compressed(HERE / "face_landmarker.npz", **vectors)  # type: ignore[arg-type]
