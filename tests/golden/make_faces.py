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

from faces.golden import clip, network_inputs, pictures  # noqa: E402

PARTS = {"detector": "face_detector", "landmarks": "face_landmarks_detector", "blendshapes": "face_blendshapes"}
OUTPUTS = {"regressors": "boxes", "classificators": "scores", "Identity": "points", "Identity_1": "presence"}


def networks(bundle: str) -> dict[str, np.ndarray]:
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
    """Return what mediapipe sees in two pictures and, smoothed, in a clip."""
    import mediapipe  # type: ignore[import-not-found]
    from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-not-found]

    def landmarker(count: int, mode: vision.RunningMode) -> vision.FaceLandmarker:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=bundle),
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
            num_faces=count,
            running_mode=mode,
        )
        return vision.FaceLandmarker.create_from_options(options)

    def image(frame: np.ndarray) -> mediapipe.Image:
        return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))

    found = {}
    for name, picture in pictures().items():
        with landmarker(3, vision.RunningMode.IMAGE) as finds:
            seen = finds.detect(image(picture))
        found[f"{name}_landmarks"] = np.stack([_pixels(face, picture) for face in seen.face_landmarks])
        found[f"{name}_blendshapes"] = np.array([[c.score for c in face] for face in seen.face_blendshapes], np.float32)
        found[f"{name}_pose"] = np.array(seen.facial_transformation_matrixes, np.float32)
    with landmarker(1, vision.RunningMode.VIDEO) as follows:
        seen_frames = [(frame, follows.detect_for_video(image(frame), 40 * i)) for i, frame in enumerate(clip(), 1)]
    found["clip_landmarks"] = np.stack([_pixels(seen.face_landmarks[0], frame) for frame, seen in seen_frames])
    return found


def _pixels(face: list, picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.array([(p.x * width, p.y * height, p.z * width) for p in face], np.float32)


if __name__ == "__main__":
    vectors = networks(sys.argv[1]) | faces(sys.argv[1])
    np.savez_compressed(HERE / "face_landmarker.npz", **vectors)  # type: ignore[arg-type]
