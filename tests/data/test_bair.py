"""BAIR's layout with a file that TensorFlow wrote (tests/golden/make_bair.py), not our own idea of the format."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from kinecast.data.datasets import open_dataset
from kinecast.data.tfrecord import bytes_features, read_record, record_spans

GOLDEN = Path(__file__).parents[1] / "golden" / "bair.tfrecords.gz"
CLIPS, FRAMES, SIDE = 2, 30, 64


def picture(clip: int, frame: int) -> np.ndarray:
    y, x, channel = np.ogrid[:SIDE, :SIDE, :3]
    return ((x // 4 * 5 + y // 4 * 3 + 60 * channel + 7 * frame + 40 * clip) % 256).astype(np.uint8)


@pytest.fixture
def bair(tmp_path: Path) -> Path:
    """The data set's folders, with TensorFlow's file on the test side and its first record alone on the other."""
    data = gzip.decompress(GOLDEN.read_bytes())
    folder = tmp_path / "softmotion30_44k"
    for side in ("train", "test"):
        (folder / side).mkdir(parents=True)
    (folder / "train" / "traj_0_to_1.tfrecords").write_bytes(data)
    first = record_spans(folder / "train" / "traj_0_to_1.tfrecords")[0][0]
    end = first.offset + first.length + 4  # and the CRC
    (folder / "test" / "traj_2_to_2.tfrecords").write_bytes(data[:end])
    (folder / "train" / "traj_0_to_1.tfrecords").write_bytes(data[end:])
    return tmp_path


def test_records_of_tensorflow_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "traj_0_to_1.tfrecords"
    path.write_bytes(gzip.decompress(GOLDEN.read_bytes()))
    spans, damage = record_spans(path)
    assert damage is None and len(spans) == CLIPS
    features = bytes_features(read_record(path, spans[0]))
    assert set(features) == {f"{t}/image_{view}/encoded" for t in range(FRAMES) for view in ("main", "aux1")}


def test_the_layout_gives_every_frame_pixel_for_pixel(bair: Path) -> None:
    data = open_dataset(bair, "bair")
    assert [clip.name for clip in (*data.training, *data.test)] == ["train/traj_0_to_1/0", "test/traj_2_to_2/0"]
    for clip, number in ((data.test[0], 0), (data.training[0], 1)):
        frames = list(clip.frames((SIDE, SIDE)))
        assert len(frames) == FRAMES
        for t, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, picture(number, t))
