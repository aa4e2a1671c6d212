import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import draw_frames, make_clip
from kinecast.data.datasets import list_sources, open_dataset
from kinecast.errors import KinecastError
from tfrecords import write_bair

SIZE = (32, 32)


def voxceleb(folder: Path) -> Path:
    """Two people on either side, one clip as a folder of frames."""
    for i, name in enumerate(("train/id10001#v#000001#000009", "train/id10002#v#000001#000010", "test/id10003#v#1#2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_clip(folder / f"{name}.mp4", frames=6 + i)
    frames = folder / "test/id10004#w#000002#000012"
    frames.mkdir(parents=True)
    for i, picture in enumerate(draw_frames(11)):
        Image.fromarray(picture).save(frames / f"{i:07d}.png")
    return folder


def test_voxceleb_as_the_preprocessing_leaves_it(tmp_path: Path) -> None:
    data = open_dataset(voxceleb(tmp_path), "voxceleb")
    assert [clip.person for clip in data.training] == ["id10001", "id10002"]
    assert [clip.name for clip in data.test] == ["test/id10003#v#1#2", "test/id10004#w#000002#000012"]
    assert not data.notes
    assert [len(list(clip.frames(SIZE))) for clip in data.test] == [8, 11]
    assert len({clip.content for clip in (*data.training, *data.test)}) == 4
    assert [len(b) for b in data.test[0].batches(SIZE, batch=5)] == [5, 3]
    assert data.test[0].first_frame(SIZE).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("drop", [True, False])
def test_a_person_on_both_sides_is_named_and_taken_out_of_training(tmp_path: Path, drop: bool) -> None:
    make_clip(voxceleb(tmp_path) / "train/id10003#x#000003#000005.mp4", frames=3)
    data = open_dataset(tmp_path, "voxceleb", drop_leaks=drop)
    assert ("id10003" in {clip.person for clip in data.training}) is not drop
    assert len(data.notes) == 1 and data.notes[0].startswith("id10003: on both sides, 1 training clips")
    assert ("taken out" if drop else "left in training") in data.notes[0]


def test_the_same_file_on_both_sides_is_found_by_its_bytes(tmp_path: Path) -> None:
    voxceleb(tmp_path)
    shutil.copy(tmp_path / "test/id10003#v#1#2.mp4", tmp_path / "train/id10009#renamed#1#2.mp4")
    data = open_dataset(tmp_path, "voxceleb")
    assert "id10009" not in {clip.person for clip in data.training}
    assert "train/id10009#renamed#1#2: the same file is on the test side" in data.notes[0]


def test_bair_records(tmp_path: Path) -> None:
    clips = [[bytes([40 * i + t]) * (3 * 64 * 64) for t in range(3)] for i in range(3)]
    write_bair(tmp_path / "softmotion30_44k/train/traj_0_to_1.tfrecords", clips[:2])
    write_bair(tmp_path / "softmotion30_44k/test/traj_0_to_0.tfrecords", clips[2:])
    data = open_dataset(tmp_path, "bair")
    assert [clip.name for clip in data.training] == ["train/traj_0_to_1/0", "train/traj_0_to_1/1"]
    frames = list(data.training[1].frames(SIZE))
    assert [frame.shape for frame in frames] == [(32, 32, 3)] * 3
    assert [int(frame.mean()) for frame in frames] == [40, 41, 42]
    assert len(list(data.test[0].frames(SIZE, limit=2))) == 2


def test_bair_folders_of_frames_and_a_truncated_record_file(tmp_path: Path) -> None:
    for side, level in (("train", 10), ("test", 20)):
        folder = tmp_path / side / "traj_0_to_255/7"
        folder.mkdir(parents=True)
        for t in range(2):
            Image.fromarray(np.full((64, 64, 3), level + t, np.uint8)).save(folder / f"{t}.png")
    path = write_bair(tmp_path / "train/traj_256.tfrecords", [[bytes(3 * 64 * 64)], [bytes(3 * 64 * 64)]])
    path.write_bytes(path.read_bytes()[:-100])
    data = open_dataset(tmp_path, "bair")
    assert [clip.name for clip in data.training] == ["train/traj_0_to_255/7", "train/traj_256/0"]
    assert [clip.name for clip in data.test] == ["test/traj_0_to_255/7"]
    assert "cut off in record 1: the 1 whole records before it are used" in data.notes[0]


def test_mgif(tmp_path: Path) -> None:
    for side, shade in (("train", 40), ("test", 90)):
        (tmp_path / side).mkdir()
        pictures = [Image.fromarray(np.full((40, 40, 3), shade + 10 * t, np.uint8)) for t in range(4)]
        pictures[0].save(tmp_path / side / "horse.gif", save_all=True, append_images=pictures[1:], duration=40)
    (tmp_path / "train/readme.txt").write_text("not a clip")
    data = open_dataset(tmp_path, "mgif")
    assert [clip.name for clip in (*data.training, *data.test)] == ["train/horse", "test/horse"]
    assert [round(float(f.mean()) / 10) for f in data.test[0].frames(SIZE)] == [9, 10, 11, 12]


def test_a_folder_of_clips_is_split_by_person(tmp_path: Path) -> None:
    for i, name in enumerate(("id1_a", "id1_b", "id2_a", "walk")):
        make_clip(tmp_path / f"{name}.mp4", frames=3 + i)
    data = open_dataset(tmp_path, "clips", validate="id1")
    assert [clip.name for clip in data.test] == ["id1_a", "id1_b"]
    assert [clip.person for clip in data.training] == ["id2", "walk"]
    named = open_dataset(tmp_path, "clips", validate="^a$", person="_([a-z])$")
    assert [clip.name for clip in named.test] == ["id1_a", "id2_a"]


def test_a_damaged_file_is_listed_and_says_what_it_is_when_read(tmp_path: Path) -> None:
    (voxceleb(tmp_path) / "test/id10005#v#1#2.mp4").write_bytes(b"no film")
    data = open_dataset(tmp_path, "voxceleb")
    with pytest.raises(KinecastError, match="found a file of another kind"):
        list(data.test[-1].frames(SIZE))


def test_sources_are_pictures_and_clips(tmp_path: Path) -> None:
    make_clip(tmp_path / "b.mp4", frames=2)
    Image.fromarray(draw_frames(1)[0]).save(tmp_path / "a.png")
    assert [clip.name for clip in list_sources(tmp_path)] == ["a.png", "b.mp4"]


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        ("imagenet", {}, "expected one of voxceleb, bair, mgif, clips"),
        ("clips", {}, "add --validate"),
        ("clips", {"validate": "nobody"}, "found 0 of 1 clips; persons are id1"),
        ("clips", {"validate": "("}, "expected regular expressions"),
        ("clips", {"validate": "x", "person": "id"}, "expected a regular expression with a group"),
        ("voxceleb", {}, r"found no train/"),
        ("voxceleb", {"validate": "id1"}, "drop the options"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path: Path, layout: str, options: dict, words: str) -> None:
    make_clip(tmp_path / "id1_a.mp4", frames=2)
    with pytest.raises(KinecastError, match=words):
        open_dataset(tmp_path, layout, **options)


def test_folders_that_are_not_of_the_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="expected a folder of layout mgif, found none there"):
        open_dataset(tmp_path / "nowhere", "mgif")
    make_clip(tmp_path / "a.mp4", frames=2)
    (tmp_path / "train").mkdir()
    with pytest.raises(KinecastError, match=r"expected \.gif files, found none"):
        open_dataset(tmp_path, "mgif")
    shutil.move(tmp_path / "a.mp4", tmp_path / "train/a.mp4")
    with pytest.raises(KinecastError, match="names that start with the person"):
        open_dataset(tmp_path, "voxceleb")
    shutil.move(tmp_path / "train/a.mp4", tmp_path / "train/id1#a.mp4")
    with pytest.raises(KinecastError, match="found no test/"):
        open_dataset(tmp_path, "voxceleb")
    (tmp_path / "test").mkdir()
    shutil.copy(tmp_path / "train/id1#a.mp4", tmp_path / "test/id1#a.mp4")
    with pytest.raises(KinecastError, match="found only test persons or copies of test clips"):
        open_dataset(tmp_path, "voxceleb")
