"""Each kind of damage of a data set is found, named by its clip, and stops nothing."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers import draw_frames, make_clip, write_clip
from kinecast.cli import main
from kinecast.data.check import CheckConfig, Finding, Report, check_dataset, counted
from kinecast.errors import KinecastError
from media_files import HLG, SKIN, encode, hdr_clip, hdr_of, of_fields, with_matrix, yuv
from tfrecords import write_bair

VOXCELEB = CheckConfig("voxceleb")
BAIR_FRAME = 3 * 64 * 64


def voxceleb(folder: Path) -> Path:
    """Two people on either side, one of them as a folder of frames; nothing is wrong."""
    for i, name in enumerate(("train/id1#v#1#9", "train/id2#v#1#9", "test/id3#v#1#2")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_clip(folder / f"{name}.mp4", frames=6 + i)
    frames = folder / "test/id4#w#2#12"
    frames.mkdir()
    for i, picture in enumerate(draw_frames(5)):
        Image.fromarray(picture).save(frames / f"{i:07d}.png")
    return folder


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, [str(finding) for finding in report.findings]
    return report.findings[0]


def test_a_sound_data_set(tmp_path: Path) -> None:
    report = check_dataset(voxceleb(tmp_path), VOXCELEB)
    assert (report.sides, report.frames, report.findings) == ({"train": 2, "test": 2}, 6 + 7 + 8 + 5, [])


def _foreign(folder: Path) -> None:
    (folder / "train/id5#v#1#2.mp4").write_bytes(b"no film, but it is long enough to be one")


def _empty_file(folder: Path) -> None:
    (folder / "train/id5#v#1#2.mp4").touch()


def _cut_off(folder: Path) -> None:
    whole = make_clip(folder / "train/id5#v#1#2.mkv", frames=60)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])


def _too_short(folder: Path) -> None:
    make_clip(folder / "train/id5#v#1#2.mp4", frames=1)


def _wrong_size(folder: Path) -> None:
    make_clip(folder / "train/id5#v#1#2.mp4", frames=3, size=(48, 80))


def _unequal_frames(folder: Path) -> None:
    Image.fromarray(draw_frames(1, (32, 32))[0]).save(folder / "test/id4#w#2#12/0000009.png")


def _damaged_picture(folder: Path) -> None:
    (folder / "test/id4#w#2#12/0000002.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")


def _empty_folder(folder: Path) -> None:
    (folder / "train/id5#v#1#2.mp4").mkdir()


def _no_person(folder: Path) -> None:
    make_clip(folder / "train/somebody.mp4", frames=3)


def _same_person(folder: Path) -> None:
    make_clip(folder / "train/id3#x#1#2.mp4", frames=3)


def _copied_across(folder: Path) -> None:
    shutil.copy(folder / "test/id3#v#1#2.mp4", folder / "train/id5#v#1#2.mp4")


def _copied_within(folder: Path) -> None:
    shutil.copy(folder / "train/id1#v#1#9.mp4", folder / "train/id5#v#1#2.mp4")


def _no_test(folder: Path) -> None:
    shutil.rmtree(folder / "test")


@pytest.mark.parametrize(
    ("damage", "level", "clip", "kind", "words"),
    [
        (_foreign, "broken", "train/id5#v#1#2", "unreadable", "found a file of another kind"),
        (_empty_file, "broken", "train/id5#v#1#2", "empty", "found an empty file"),
        (_cut_off, "broken", "train/id5#v#1#2", "cut off", "the first"),
        (_too_short, "broken", "train/id5#v#1#2", "too short", "expected at least 2 frames, found 1"),
        (_wrong_size, "odd", "train/id5#v#1#2", "size", "80x48, where most clips are 64x64"),
        (_unequal_frames, "broken", "test/id4#w#2#12", "unreadable", "expected frames of one size, 64x64"),
        (_damaged_picture, "broken", "test/id4#w#2#12", "unreadable", "0000002.png"),
        (_empty_folder, "odd", "train/id5#v#1#2.mp4", "empty", "an empty folder"),
        (_no_person, "broken", "train/somebody", "name", "names that start with the person"),
        (_same_person, "broken", "train/id3#x#1#2", "person", "id3 is on the test side too, as test/id3#v#1#2"),
        (_copied_across, "broken", "train/id5#v#1#2", "duplicate", "the same content as test/id3#v#1#2, on the other"),
        (_copied_within, "odd", "train/id5#v#1#2", "duplicate", "the same content as train/id1#v#1#9"),
        (_no_test, "broken", "test", "missing", "expected clips of layout voxceleb there"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, damage: Callable[[Path], None], level: str, clip: str, kind: str, words: str
) -> None:
    damage(voxceleb(tmp_path))
    found = only(check_dataset(tmp_path, VOXCELEB))
    assert (found.level, found.kind) == (level, kind), found
    assert found.clip.endswith(clip) and words in found.text, found
    assert "\n" not in str(found)


def test_a_size_that_was_asked_for_is_broken_elsewhere(tmp_path: Path) -> None:
    _wrong_size(voxceleb(tmp_path))
    found = only(check_dataset(tmp_path, CheckConfig("voxceleb", size=(64, 64))))
    assert (found.level, found.text) == ("broken", "expected 64x64, found 80x48")


def test_bair_records(tmp_path: Path) -> None:
    train, test = tmp_path / "softmotion30_44k/train/a.tfrecords", tmp_path / "softmotion30_44k/test/b.tfrecords"
    clips = [[bytes([40 * i + t]) * BAIR_FRAME for t in range(3)] for i in range(4)]
    write_bair(test, [clips[0]])
    write_bair(train, clips[1:3])
    assert not check_dataset(tmp_path, CheckConfig("bair")).findings

    whole = write_bair(train, clips[1:4]).read_bytes()
    train.write_bytes(whole[:-100])
    cut = check_dataset(tmp_path, CheckConfig("bair"))
    assert only(cut)[:3] == ("broken", "train/a.tfrecords", "cut off") and "cut off in record 2" in only(cut).text
    assert cut.sides == {"train": 2, "test": 1}

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    train.write_bytes(flipped)
    damaged = only(check_dataset(tmp_path, CheckConfig("bair")))
    assert damaged[:3] == ("broken", "train/a/1", "unreadable") and "does not match its CRC" in damaged.text

    write_bair(train, [clips[1], [bytes(BAIR_FRAME - 3)] * 3])
    small = only(check_dataset(tmp_path, CheckConfig("bair")))
    assert small.clip == "train/a/1" and "64x64 RGB bytes" in small.text

    write_bair(train, [clips[1], clips[0]])
    twice = only(check_dataset(tmp_path, CheckConfig("bair")))
    assert twice[:3] == ("broken", "train/a/1", "duplicate")


def _mirrored(path: Path) -> None:
    with_matrix(write_clip(path.with_suffix(".mov"), draw_frames(3)), path, (-1, 0, 0, 1))
    path.with_suffix(".mov").unlink()


def _turned(path: Path) -> None:
    with_matrix(write_clip(path.with_suffix(".mov"), draw_frames(3)), path, (0, 1, -1, 0))
    path.with_suffix(".mov").unlink()


def _uneven(path: Path) -> None:
    encode(path, [yuv(frame) for frame in draw_frames(6)], times=[0, 33, 66, 166, 266, 366])


def _too_fast(path: Path) -> None:
    times = [round(1000 * i / 30) for i in range(12)]
    frames = [yuv(frame) for frame in draw_frames(12)]
    encode(path.with_suffix(".webm"), frames, "libvpx", rate=1000, times=times)


def _hdr(path: Path) -> None:
    hdr_clip(path, np.tile(hdr_of(SKIN, HLG), (64, 64, 1)), HLG)


def _oblong_pixels(path: Path) -> None:
    encode(path, [yuv(frame) for frame in draw_frames(3)], context={"sample_aspect_ratio": Fraction(4, 3)})


def _interlaced(path: Path) -> None:
    fields = [of_fields(yuv(frame, pixels="yuv422p"), "tff") for frame in draw_frames(3)]
    encode(path, fields, pixels="yuv422p", options={"flags": "+ilme+ildct"})


def _transparent(path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 4), 99, np.uint8), format="rgba").reformat(format="yuva420p")
    options = {"auto-alt-ref": "0"}
    encode(path.with_suffix(".webm"), [frame] * 3, "libvpx", "yuva420p", options=options, metadata={"alpha_mode": "1"})


def _large(path: Path) -> None:
    write_clip(path, draw_frames(2, (720, 1280)))


@pytest.mark.parametrize(
    "make, kind, words",
    [
        (_mirrored, "mirrored", "shown mirrored"),
        (_turned, "turned", "rotated by 90 degrees"),
        (_uneven, "rate", "variable frame rate"),
        (_too_fast, "header", "the header claims 1000 fps, the frames have "),
        (_hdr, "hdr", "HDR (HLG), tone mapped"),
        (_oblong_pixels, "pixels", "not square, 4:3"),
        (_interlaced, "interlaced", "interlaced"),
        (_transparent, "alpha", "transparent parts"),
        (_large, "matrix", "no colour matrix is named: BT.709 is assumed"),
    ],
)
def test_what_other_programs_may_show_otherwise_is_odd(
    tmp_path: Path, make: Callable[[Path], None], kind: str, words: str
) -> None:
    make(tmp_path / "clip.mp4")
    report = check_dataset(tmp_path, CheckConfig())
    found = only(report)
    assert (found.level, found.clip, found.kind) == ("odd", "clip", kind) and words in found.text
    assert not report.broken


def test_mgif(tmp_path: Path) -> None:
    for side, shade in (("train", 40), ("test", 90)):
        (tmp_path / side).mkdir()
        pictures = [Image.fromarray(np.full((40, 40, 3), shade + 10 * t, np.uint8)) for t in range(4)]
        pictures[0].save(tmp_path / side / f"horse-{shade}.gif", save_all=True, append_images=pictures[1:])
    assert not check_dataset(tmp_path, CheckConfig("mgif")).findings
    (tmp_path / "train/dog.gif").write_bytes((tmp_path / "train/horse-40.gif").read_bytes()[:30])
    found = only(check_dataset(tmp_path, CheckConfig("mgif")))
    assert (found.level, found.clip) == ("broken", "train/dog")


def test_one_folder_of_clips_and_a_list_of_them(tmp_path: Path) -> None:
    for name in ("id1_a", "id1_b", "id2_a"):
        make_clip(tmp_path / f"{name}.mp4", frames=3 + len(list(tmp_path.iterdir())))
    listing = tmp_path / "wanted.txt"
    listing.write_text("# clips\nid1_a.mp4\nsomewhere/id2_a\nid9_z.mp4\n")
    report = check_dataset(tmp_path, CheckConfig(validate="id2"), [listing])
    assert report.sides == {"train": 2, "test": 1}
    assert only(report)[:3] == ("broken", "id9_z.mp4", "missing") and "wanted.txt, line 4" in only(report).text
    person = check_dataset(tmp_path, CheckConfig(validate="^a$", person="_([a-z])$"))
    assert person.sides == {"test": 2, "train": 1} and not person.findings


def test_workers_find_the_same(tmp_path: Path) -> None:
    _foreign(voxceleb(tmp_path))
    shutil.copy(tmp_path / "train/id1#v#1#9.mp4", tmp_path / "train/id7#v#1#9.mp4")
    one = check_dataset(tmp_path, VOXCELEB)
    assert check_dataset(tmp_path, CheckConfig("voxceleb", workers=2)) == one and one.findings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layout": "imagenet"}, "expected one of voxceleb, bair, mgif, clips"),
        ({"layout": "bair", "validate": "x"}, "drop the options"),
        ({"validate": "("}, "expected a regular expression"),
        ({"person": "id"}, "with a group"),
        ({"min_frames": 0}, "expected at least 1 frame"),
    ],
)
def test_what_cannot_be_checked_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(KinecastError, match=words):
        CheckConfig(**options)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voxceleb(tmp_path)
    assert main(["data", "check", str(tmp_path), "--layout", "voxceleb"]) == 0
    _foreign(tmp_path)
    _copied_within(tmp_path)
    (tmp_path / "train/id5#v#1#2.mp4").rename(tmp_path / "train/id6#v#1#2.mp4")
    _foreign(tmp_path)
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path), "--layout", "voxceleb"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["broken", "train/id5#v#1#2:"], ["odd", "train/id6#v#1#2:"]]
    assert main(["data", "check", str(tmp_path), "--layout", "voxceleb", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"broken": {"unreadable": 1}, "odd": {"duplicate": 1}}
    assert told["clips"] == {"train": 4, "test": 2} and len(told["findings"]) == 2
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 1
    assert counted([]) == {"broken": {}, "odd": {}}
