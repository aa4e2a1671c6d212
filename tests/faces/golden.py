"""What the golden vectors of the face landmarker were made of: seeded inputs, and pictures that scikit-image ships."""

import numpy as np
import skimage.data


def network_inputs() -> dict[str, np.ndarray]:
    """Return an input for each network, in the layout of the original: pictures (1, H, W, 3), points (1, 146, 2)."""
    random = np.random.default_rng(0)
    return {
        "detector": random.random((1, 128, 128, 3), np.float32) * 2 - 1,
        "landmarks": random.random((1, 256, 256, 3), np.float32),
        "blendshapes": random.random((1, 146, 2), np.float32),
    }


def pictures() -> dict[str, np.ndarray]:
    """Return one face in a square, and the same face twice, once mirrored, in a picture that is wider than high."""
    astronaut = skimage.data.astronaut()
    near = astronaut[30:190, 160:288]
    two = np.concatenate([near, near[:, ::-1]], axis=1)
    return {"one": np.ascontiguousarray(astronaut[:256, 96:352]), "two": two}


def clip() -> np.ndarray:
    """Return frames (6, 256, 256, 3) in which the face wanders, 25 a second."""
    astronaut = skimage.data.astronaut()
    return np.stack([astronaut[8 * i : 256 + 8 * i, 80 + 6 * i : 336 + 6 * i] for i in range(6)])
