import struct
import tracemalloc
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image
from skimage.data import astronaut

from helpers import as_plain_user, draw_frames, make_clip, write_clip
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.framing import crop_box, find_face
from kinecast.media.video import (
    Strip,
    VideoWriter,
    probe,
    read_batches,
    read_frames,
    read_image,
    timed_frames,
    write_image,
)


def level_error(found: np.ndarray, true: np.ndarray) -> float:
    assert found.shape == true.shape
    return float(np.abs(found.astype(int) - true.astype(int)).mean())


def all_frames(path: Path | str, **options) -> np.ndarray:
    return np.stack(list(read_frames(path, **options)))


@pytest.fixture(autouse=True)
def _no_unexpected_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", KinecastWarning)
        yield


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi"])
def test_clips_are_read_whole_and_in_order(tmp_path, suffix):
    path = make_clip(tmp_path / f"clip{suffix}", frames=12, size=(48, 64), fps=30000 / 1001)
    drawn = draw_frames(12, (48, 64))
    frames = all_frames(path, crop="none")
    assert level_error(frames, drawn) < 6
    nearest = [int(np.argmin([np.abs(f.astype(int) - d).sum() for d in drawn.astype(int)])) for f in frames]
    assert nearest == list(range(12))
    info = probe(path)
    assert (info.path, info.width, info.height) == (path, 64, 48)
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-3)  # mkv and webm keep whole milliseconds
    assert info.frames == (None if suffix in (".mkv", ".webm") else 12)


def test_gif_is_a_clip(tmp_path):
    drawn = draw_frames(5, (33, 47))
    with VideoWriter(tmp_path / "a.gif", 20) as writer:
        writer.write(drawn)
    assert level_error(all_frames(tmp_path / "a.gif", crop="none"), drawn) < 3
    assert probe(tmp_path / "a.gif").fps == 20


def test_transparent_gif_shows_white(tmp_path):
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.paste(1, (4, 0, 8, 8))
    picture.save(tmp_path / "a.gif", transparency=0)
    frame = all_frames(tmp_path / "a.gif")[0]
    assert frame[0, 0].tolist() == [255, 255, 255]
    assert frame[0, 7].tolist() == [200, 0, 0]


@pytest.mark.parametrize("matrix", [None, 1, 6], ids=["untagged", "bt709", "bt601"])
def test_colours_follow_the_tagged_matrix(tmp_path, matrix):
    colours = [(200, 30, 40), (30, 180, 60), (20, 40, 220), (128, 128, 128)]
    true = np.repeat(np.repeat(np.array(colours, np.uint8).reshape(2, 2, 3), 16, 0), 16, 1)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        if matrix:
            stream.codec_context.colorspace = matrix
        frame = av.VideoFrame.from_ndarray(true, format="rgb24")
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=matrix or 5)))
        container.mux(stream.encode(None))
    for y, x in [(8, 8), (8, 24), (24, 8), (24, 24)]:
        assert np.abs(all_frames(path)[0][y, x].astype(int) - true[y, x]).max() <= 4


def turned(source: Path, path: Path, matrix: tuple[int, ...]) -> Path:
    """Copy an mp4 with another display matrix in its track header, as a phone writes it."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "matrix, turns",
    [((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), 3), ((-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), 2)],
    ids=["clockwise", "upside-down"],
)
def test_recorded_rotation_is_applied(tmp_path, matrix, turns):
    drawn = draw_frames(3, (48, 64))
    path = turned(write_clip(tmp_path / "a.mp4", drawn), tmp_path / "b.mp4", matrix)
    upright = np.rot90(drawn, turns, axes=(1, 2))
    assert level_error(all_frames(path, crop="none"), upright) < 6
    assert (probe(path).height, probe(path).width) == upright.shape[1:3]


@pytest.mark.parametrize("name", ["a.y4m", "a.mxf", "a.nut"])
def test_what_editors_and_pipes_make_is_read(tmp_path, name):
    codec, pixels = ("mpeg2video", "yuv420p") if name == "a.mxf" else ("rawvideo", "yuv420p")
    frames = draw_frames(5, (64, 96))
    with av.open(str(tmp_path / name), "w", format="yuv4mpegpipe" if name == "a.y4m" else None) as container:
        stream: Any = container.add_stream("wrapped_avframe" if name == "a.y4m" else codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)))
        container.mux(stream.encode(None))
    found = all_frames(tmp_path / name, crop="none")
    assert found.shape == frames.shape
    assert level_error(found, frames) < 8
    assert probe(tmp_path / name).fps == pytest.approx(25)


@pytest.mark.parametrize("default, shown", [(None, 1), (0, 0), (1, 1)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_of_several_streams_the_default_or_the_largest_is_shown(tmp_path, suffix, default, shown):
    sizes = [(32, 48), (64, 96)]
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25) for _ in sizes]
        for index, (stream, (height, width)) in enumerate(zip(streams, sizes, strict=True)):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = Disposition.default if default in (None, index) else Disposition(0)
        for stream, size in zip(streams, sizes, strict=True):
            for frame in draw_frames(4, size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    info = probe(tmp_path / f"a{suffix}")
    assert (info.height, info.width) == sizes[shown]
    assert all_frames(tmp_path / f"a{suffix}", crop="none").shape == (4, *sizes[shown], 3)


def test_folder_in_natural_order(tmp_path):
    drawn = draw_frames(12, (16, 16))
    for index, frame in enumerate(drawn):
        write_image(tmp_path / f"²frame{index}.png", frame)  # int("²") fails
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / "._frame0.png").write_bytes(b"a Macintosh's shadow file")
    assert level_error(all_frames(tmp_path), drawn) == 0
    info = probe(tmp_path)
    assert (info.fps, info.frames, info.width, info.height) == (25.0, 12, 16, 16)


def test_strip_is_a_clip_of_squares(tmp_path):
    drawn = draw_frames(7, (16, 16))
    write_image(tmp_path / "strip.png", np.concatenate(list(drawn), axis=1))
    assert level_error(all_frames(Strip(tmp_path / "strip.png")), drawn) == 0
    assert probe(Strip(tmp_path / "strip.png")).frames == 7


def test_a_wide_picture_is_no_strip_unless_asked(tmp_path):
    banner = draw_frames(1, (20, 40))
    write_image(tmp_path / "banner.png", banner[0])
    assert level_error(all_frames(tmp_path / "banner.png"), banner[:, :, 10:30]) == 0
    assert probe(tmp_path / "banner.png").frames == 1


def test_picture_is_a_clip_of_one_frame(tmp_path):
    drawn = draw_frames(1, (24, 36))
    write_image(tmp_path / "a.png", drawn[0])
    assert level_error(all_frames(tmp_path / "a.png", crop="none"), drawn) == 0
    assert probe(tmp_path / "a.png").frames == 1


def test_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "http:clip.mp4", frames=2)
    assert len(all_frames(Path("http:clip.mp4"))) == 2


# --- sizes, crops, limits, batches ----------------------------------------------------------------------------------


@pytest.fixture
def wide_picture(tmp_path) -> Path:
    write_image(tmp_path / "wide.png", draw_frames(1, (40, 72))[0])
    return tmp_path / "wide.png"


def test_center_crop_takes_the_largest_box(wide_picture):
    drawn = draw_frames(1, (40, 72))[0]
    assert np.array_equal(next(read_frames(wide_picture)), drawn[:, 16:56])
    assert np.array_equal(next(read_frames(wide_picture, size=40)), drawn[:, 16:56])
    assert np.array_equal(next(read_frames(wide_picture, size=(20, 72))), drawn[10:30])


@pytest.mark.parametrize("crop", ["center", "none"])
@pytest.mark.parametrize("size", [16, (16, 16), (24, 10), (96, 80), (1, 1)])
def test_frames_have_the_size_asked_for(wide_picture, size, crop):
    height, width = (size, size) if isinstance(size, int) else size
    frame = next(read_frames(wide_picture, size, crop))
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.writeable and frame.flags.c_contiguous


def test_shrinking_does_not_alias(tmp_path):
    checks = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    write_image(tmp_path / "checks.png", np.repeat(checks[..., None], 3, axis=2).astype(np.uint8))
    inside = next(read_frames(tmp_path / "checks.png", size=16))[2:-2, 2:-2].astype(int)
    assert np.abs(inside - 127).max() < 8


def test_limit_and_batches(clip):
    assert len(list(read_frames(clip, limit=5))) == 5
    assert len(list(read_frames(clip, limit=50))) == 12
    batches = list(read_batches(clip, 32, batch=5))
    assert [tuple(b.shape) for b in batches] == [(5, 3, 32, 32), (5, 3, 32, 32), (2, 3, 32, 32)]
    assert batches[0].dtype == torch.float32
    frames = torch.cat(batches).mul(255).round().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(frames, all_frames(clip, size=32))
    assert torch.equal(read_image(clip, 32), batches[0][:1])
    assert sum(map(len, read_batches(clip, batch=5, limit=7))) == 7


def test_the_whole_clip_is_never_in_memory(tmp_path):
    # Peaks of what Python and numpy hold; a frame is 48 kB, so 540 more frames would add 26 MB.
    peaks = []
    for frames in (60, 600):
        drawn = draw_frames(24, (128, 128))
        path = tmp_path / f"{frames}.mp4"
        tracemalloc.start()
        with VideoWriter(path, 25) as writer:
            for index in range(frames):
                writer.write(drawn[index % 24])
        assert sum(len(batch) for batch in read_batches(path, 64, batch=8)) == frames
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 100_000


# --- the face crop --------------------------------------------------------------------------------------------------


def astronaut_clip(path: Path) -> Path:
    """Write a portrait that drifts to the left, 384x512; the face is about 90 pixels high, centre at (105, 223)."""
    still = astronaut()
    return write_clip(path, np.stack([np.roll(still[:384], -2 * t, axis=1) for t in range(4)]))


def test_face_crop_frames_head_and_shoulders(tmp_path):
    path = astronaut_clip(tmp_path / "astronaut.mp4")
    frames = all_frames(path, crop="face")
    side = frames.shape[1]
    assert frames.shape == (4, side, side, 3)
    assert 130 < side < 230
    # Where the crop is in the first frame: the face's centre must be near its middle.
    whole = next(read_frames(path, crop="none"))
    spots = [(y, x) for y in range(whole.shape[0] - side + 1) for x in range(whole.shape[1] - side + 1)]
    corner = frames[0, :6, :6].astype(int)
    top, left = next(s for s in spots if np.array_equal(whole[s[0] : s[0] + 6, s[1] : s[1] + 6], corner))
    assert abs(top + side / 2 - 105) < 30
    assert abs(left + side / 2 - 223) < 30
    # One box for the whole clip: what drifts by 2 pixels a frame in the clip does so in the crop.
    shift = [np.abs(frames[1, :, : side - 8].astype(int) - frames[0, :, k : k + side - 8]).mean() for k in range(8)]
    assert int(np.argmin(shift)) == 2
    assert all_frames(path, size=64, crop="face").shape == (4, 64, 64, 3)
    assert all_frames(path, size=(64, 48), crop="face", limit=1).shape == (1, 64, 48, 3)


@pytest.mark.parametrize("degrees", [-45, 0, 30, 90])
def test_a_head_that_is_tilted_is_found(degrees):
    turned = Image.fromarray(astronaut()[:384]).rotate(degrees, center=(223, 105))
    face = find_face([np.array(turned)])
    assert face is not None
    y, x, side = face
    assert abs(y - 105) < 20 and abs(x - 223) < 25 and 85 < side < 125


@pytest.mark.parametrize("face", [(2.0, 2.0, 30.0), (99.0, 150.0, 30.0), (50.0, 80.0, 500.0)])
@pytest.mark.parametrize("target", [None, (64, 64), (64, 32), (32, 64)])
def test_face_box_stays_in_the_frame(face, target):
    top, left, height, width = crop_box((100, 160), target, "face", face)
    assert 0 <= top <= top + height <= 100
    assert 0 <= left <= left + width <= 160
    rows, columns = target or (1, 1)
    assert abs(height / rows - width / columns) <= 1 / min(rows, columns)


def two_people(tmp_path: Path) -> Path:
    """Write a still of two people, the left one darker and larger."""
    portrait = Image.fromarray(astronaut()[:256, 96:352])
    dark = np.array(portrait.resize((320, 320))) // 2
    small = np.pad(np.array(portrait.resize((200, 200))), ((60, 60), (0, 0), (0, 0)))
    path = tmp_path / "two.png"
    Image.fromarray(np.concatenate([dark, small], axis=1)).save(path)
    return path


def test_of_two_faces_each_can_be_framed(tmp_path):
    path = two_people(tmp_path)
    seen = {crop: next(read_frames(path, 64, crop)) for crop in ("face", "face:1", "face:2")}
    assert np.array_equal(seen["face"], seen["face:1"])
    assert seen["face:2"].mean() > 1.3 * seen["face:1"].mean()
    with pytest.raises(KinecastError, match="expected 3 faces or more in the first frames, found fewer: use --face 1"):
        next(read_frames(path, 64, "face:3"))
    for foreign in ("face:0", "face:x", "face:"):
        with pytest.raises(KinecastError, match="expected one of center, face, none"):
            next(read_frames(path, 64, foreign))


def test_no_face(clip):
    expected = (
        f"{clip}: expected a face in the first frames, found none at least a seventh of the picture high "
        "and seen from the front: use --crop center"
    )
    with pytest.raises(KinecastError) as error:
        all_frames(clip, crop="face")
    assert str(error.value) == expected


# --- damaged clips: what can be used is used ------------------------------------------------------------------------


def warned(path: Path) -> tuple[np.ndarray, str]:
    with pytest.warns(KinecastWarning) as caught:
        frames = all_frames(path, crop="none")
    return frames, str(caught[0].message)


@pytest.mark.parametrize(
    "name, options",
    [
        ("faststart.mp4", {"movflags": "faststart"}),
        ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("clip.mkv", {}),
        ("clip.webm", {}),
        ("clip.avi", {}),
    ],
)
def test_cut_off_clip_is_used_up_to_the_cut(tmp_path, capfd, name, options):
    drawn = draw_frames(60, (64, 64))
    whole = write_clip(tmp_path / name, drawn, options=options)
    assert len(all_frames(whole)) == 60
    data = whole.read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(data[: int(len(data) * 0.8)])
    frames, message = warned(cut)
    assert 30 <= len(frames) < 60
    assert message == f"{cut}: the file is cut off or damaged: the first {len(frames)} frames are used"
    assert level_error(frames, drawn[: len(frames)]) < 6  # in order, none repeated, none grey
    assert capfd.readouterr() == ("", "")  # libav is silent
    assert len(all_frames(cut, limit=10)) == 10  # nobody looked so far: no warning


def test_cut_between_two_packets_is_noticed(tmp_path):
    path = write_clip(tmp_path / "a.mp4", draw_frames(40), options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: positions[20]])
    frames, message = warned(path)
    assert len(frames) == 20
    assert message.endswith("the first 20 frames are used")


@pytest.mark.parametrize("name, options", [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})])
def test_damage_in_the_middle_ends_the_clip_there(tmp_path, name, options):
    drawn = draw_frames(60)
    path = write_clip(tmp_path / name, drawn, options=options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    frames, message = warned(path)
    assert 5 <= len(frames) < 50
    assert level_error(frames, drawn[: len(frames)]) < 6
    assert message.endswith(f"the first {len(frames)} frames are used")


@pytest.mark.parametrize("second", [0, 1000], ids=["again", "leap"])
@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_joined_files_are_one_clip(tmp_path, suffix, second):
    """`cat a.ts b.ts`, as cameras and downloads of streams have it: the clock starts anew or leaps."""
    frames, parts = draw_frames(12, (64, 96)), []
    for index, start in enumerate((0, second)):
        parts.append(tmp_path / f"part{index}{suffix}")
        with av.open(str(parts[-1]), "w", options={"output_ts_offset": str(start)}) as container:
            stream: Any = container.add_stream("mpeg2video", rate=25, options={"b": "4M"})
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shown = list(timed_frames(path, crop="none"))
        info = probe(path)
    assert len(shown) == 24
    assert level_error(np.stack([frame for _, frame in shown]), np.concatenate([frames, frames])) < 8
    assert [time for time, _ in shown] == pytest.approx(np.arange(24) / 25)
    assert (info.constant_rate, info.duration) == (True, pytest.approx(24 / 25))
    assert all("files were joined here" in str(warning.message) for warning in said)


def test_mp4_cut_off_before_its_index_cannot_be_read(tmp_path):
    path = make_clip(tmp_path / "a.mp4", frames=30)
    path.write_bytes(path.read_bytes()[:-400])
    for attempt in (probe, all_frames, read_image):
        with pytest.raises(KinecastError) as error:
            attempt(path)
        assert str(error.value) == (
            f"{path}: expected a complete mp4, found one without its index (moov), which is at the end and cut off "
            "or damaged, so no frame can be read: copy or record it again"
        )


def test_clip_without_a_decodable_frame(tmp_path):
    path = write_clip(tmp_path / "a.mp4", draw_frames(5), options={"movflags": "faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))
    with pytest.raises(KinecastError) as error:
        all_frames(path)
    assert str(error.value) == (f"{path}: expected at least one frame, found none that can be decoded: copy it again")


# --- what cannot be read --------------------------------------------------------------------------------------------


def missing(folder: Path) -> Path:
    return folder / "none.mp4"


def empty(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def text_named_clip(folder: Path) -> Path:
    (folder / "a.mp4").write_text("hello " * 100)
    return folder / "a.mp4"


def text(folder: Path) -> Path:
    (folder / "a.txt").write_text("hello " * 100)  # libav would draw it as film
    return folder / "a.txt"


def playlist(folder: Path) -> Path:
    make_clip(folder / "other.mp4", frames=2)
    (folder / "a.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{folder}/other.mp4\n#EXT-X-ENDLIST\n"
    )
    return folder / "a.m3u8"


def sound(folder: Path, name: str = "a.mp4", cover: bool = False) -> Path:
    with av.open(str(folder / name), "w") as container:
        audio = container.add_stream("aac", rate=16000, layout="mono")
        if cover:
            picture = container.add_stream("mjpeg", options={"strict": "unofficial"})
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(draw_frames(1)[0], format="rgb24")))
            container.mux(picture.encode(None))
        for index in range(10):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            samples.rate, samples.pts = 16000, index * 1024
            container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
    return folder / name


def sound_with_cover(folder: Path) -> Path:
    return sound(folder, "cover.mp4", cover=True)


def no_pictures(folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing to see")
    return folder


def two_sizes(folder: Path) -> Path:
    for index, size in enumerate([(16, 16), (16, 16), (16, 20)]):
        write_image(folder / f"{index}.png", draw_frames(1, size)[0])
    return folder


def foreign_picture(folder: Path) -> Path:
    (folder / "0.png").write_text("hello")
    return folder


def damaged_picture(folder: Path) -> Path:
    write_image(folder / "a.png", astronaut())
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:50_000])
    return folder / "a.png"


FOREIGN = (
    "{path}: expected a clip or picture (mp4, mov, webm, mkv, avi, gif, png, jpg, webp, avif, heic, or a folder of "
    "pictures), found a file of another kind: convert it"
)


@pytest.mark.parametrize(
    "make, message",
    [
        (missing, "{path}: expected a clip or picture, found nothing there: check the path"),
        (empty, "{path}: expected a clip or picture, found an empty file (0 bytes): copy or download it again"),
        (text_named_clip, FOREIGN),
        (text, FOREIGN),
        (playlist, FOREIGN),
        (sound, "{path}: expected a clip with pictures, found only sound: choose a video file"),
        (sound_with_cover, "{path}: expected a clip with pictures, found only sound: choose a video file"),
        (
            no_pictures,
            "{path}: expected a folder of pictures (png, jpg, webp, avif, heic), found none in it: name a clip, or "
            "another folder",
        ),
        (
            two_sizes,
            "{path}: expected frames of one size, 16x16 like the first, found 20x16: resize them first",
        ),
        (foreign_picture, "{path}/0.png: expected a picture, found a file of another kind: remove it"),
        (damaged_picture, "{path}: expected a complete picture, found image file is truncated: export it again"),
    ],
)
def test_unreadable_sources(tmp_path, capfd, make, message):
    path = make(tmp_path)
    with pytest.raises(KinecastError) as error:
        all_frames(path)
    assert str(error.value) == message.format(path=path)
    if make is not two_sizes:  # the first frame of that is good
        for attempt in (probe, read_image, lambda p: next(read_batches(p))):
            with pytest.raises(KinecastError) as again:
                attempt(path)
            assert str(again.value) == str(error.value)
    assert capfd.readouterr() == ("", "")


def test_clip_without_permission(open_folder):
    path = make_clip(open_folder / "a.mp4", frames=1)
    assert len(all_frames(path)) == 1  # and all that reading imports is loaded
    path.chmod(0)
    with as_plain_user(open_folder), pytest.raises(KinecastError) as error:
        all_frames(path)
    assert str(error.value) == f"{path}: expected a readable clip or picture, found no permission: change its mode"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"crop": "left"}, "crop 'left': expected one of center, face, none"),
        ({"size": (0, 5)}, "size: expected a height and a width of 1 pixel or more, found 0x5"),
        ({"limit": 0}, "limit: expected 1 frame or more, found 0"),
        ({"batch": 0}, "batch: expected 1 frame or more, found 0"),
    ],
)
def test_foreign_arguments_are_refused_before_the_first_frame(clip, options, message):
    with pytest.raises(KinecastError) as error:
        read_batches(clip, **options)
    assert str(error.value) == message


# --- real clips -----------------------------------------------------------------------------------------------------


def test_real_clips(data_folder):
    clips = [sorted((data_folder / name).glob("*.mp4"))[0] for name in ("voxceleb", "portraits", "actions")]
    for path in clips:
        info = probe(path)
        assert info.frames is not None and info.fps in (10, 24, 25, 30)
        assert sum(len(batch) for batch in read_batches(path, 64)) == info.frames
    face = np.stack(list(islice(read_frames(clips[0], 128, "face"), 3)))
    assert face.shape == (3, 128, 128, 3)
