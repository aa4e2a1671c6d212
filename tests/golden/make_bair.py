"""Make bair.tfrecords.gz: two clips written as BAIR robot pushing is, by TensorFlow itself, which is no dependency.

    python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0
    /tmp/tf/bin/python tests/golden/make_bair.py

Names and kinds of features are those of the data set's description (Ebert et al. 2017, arXiv 1710.05268). Its files are
not compressed; this one is for the repository's sake.
"""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

CLIPS, FRAMES, SIDE = 2, 30, 64


def picture(clip: int, frame: int, view: int) -> np.ndarray:
    """Return a picture (64, 64, 3) that no other clip, frame or view has; tests/data/test_bair.py computes the same."""
    y, x, channel = np.ogrid[:SIDE, :SIDE, :3]
    return ((x // 4 * 5 + y // 4 * 3 + 60 * channel + 7 * frame + 40 * clip + 100 * view) % 256).astype(np.uint8)


def feature(value: bytes | list[float]) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traj_0_to_1.tfrecords"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for clip in range(CLIPS):
                features = {}
                for t in range(FRAMES):
                    features[f"{t}/image_main/encoded"] = feature(picture(clip, t, 1).tobytes())
                    features[f"{t}/image_aux1/encoded"] = feature(picture(clip, t, 0).tobytes())
                    features[f"{t}/endeffector_pos"] = feature([0.1 * t, 0.2, -0.3])
                    features[f"{t}/action"] = feature([0.0, 0.5, -0.5, 1.0])
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
        data = gzip.compress(path.read_bytes(), 9, mtime=0)
    (Path(__file__).parent / "bair.tfrecords.gz").write_bytes(data)


if __name__ == "__main__":
    main()
