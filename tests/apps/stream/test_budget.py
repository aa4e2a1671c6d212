"""`encode_clip` with a budget: rates are kept, pictures follow what the receiver sees, parts of a stream are shown."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import toy_backbone
from faces_in_motion import face_frames, tiny_mesh
from helpers import write_clip
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, read_motion
from kinecast.apps.stream.drawing import Drawer
from kinecast.apps.stream.key_pictures import KeyPictures, code_to_size
from kinecast.apps.stream.options import layout_for_quality
from kinecast.codec import Header, MotionPacket, ReferenceChunk, StreamReader, split_picture
from kinecast.codec.decoder import DecodedFrame
from kinecast.codec.filling import hold
from kinecast.codec.packets import EXTENDED, REFERENCES
from kinecast.codec.references import ChoiceUnit
from kinecast.codec.stream import BodyUnit, code_picture, open_picture
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.video import read_frames
from kinecast.motion import Motion
from tiny import pictures
from toy_backbone import Toy, ToyConfig

SIDE, SCENES, FRAMES, FPS = 128, 3, 100, 10
# What it draws is the picture: a good receiver of these scenes, that knows nothing of another one.
MODEL = Toy(ToyConfig((SIDE, SIDE))).eval()
for parameter in MODEL.strength.parameters():
    torch.nn.init.zeros_(parameter)

INTERPOLATED = ("interpolate", None)


def scenes(frames: int = FRAMES) -> np.ndarray:
    """Return frames (T, 128, 128, 3): three still scenes, that no motion makes of one another."""
    stills = (pictures(SCENES, (SIDE, SIDE), seed=3).permute(0, 2, 3, 1).numpy() * 255).astype(np.int16)
    grain = np.random.default_rng(0).integers(-60, 60, stills.shape)  # so that a better picture is a larger one
    stills = (stills + grain).clip(0, 255).astype(np.uint8)
    return np.stack([stills[i * SCENES // frames] for i in range(frames)])


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with toy_backbone.registered():
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of three scenes."""
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", scenes(), FPS)


@pytest.fixture(scope="module")
def streams(film: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, tuple[Path, dict[str, Any]]]:
    """The film at some budgets."""
    folder = tmp_path_factory.mktemp("streams")
    found = {}
    for kbps in (1, 2, 5, 10, 20):
        path = folder / f"{kbps}.kcm"
        found[float(kbps)] = path, encode_clip(MODEL, film, path, options(kbps))
    return found


def options(kbps: float) -> EncodeOptions:
    return EncodeOptions(kbps=kbps, filler=INTERPOLATED, model_name="tiny")


def units_of(path: Path) -> tuple[Header, list[BodyUnit]]:
    with path.open("rb") as file:
        reader = StreamReader(file)
        return reader.header, list(reader.units())


def written(path: Path, header: Header, units: Iterable[Any]) -> Path:
    path.write_bytes(bytes(header) + b"".join(map(bytes, units)))
    return path


def off(stream: Path, film: Path, folder: Path) -> float:
    """Return the mean error of what is drawn of a stream, grey levels."""
    decode_clip(MODEL, stream, folder / "drawn.mp4", quality=4)
    drawn, truth = (np.stack(list(read_frames(path))).astype(np.float32) for path in (folder / "drawn.mp4", film))
    return float(np.abs(drawn - truth).mean())


def test_budgets_are_kept_within_five_percent(streams):
    for kbps, (path, report) in streams.items():
        assert report["total_kbps"] == pytest.approx(kbps, rel=0.05), report
        assert path.stat().st_size * 8 / 10_000 == pytest.approx(report["total_kbps"])


def test_quality_rises_with_the_rate(streams, film, tmp_path):
    errors = [off(path, film, tmp_path) for path, _ in streams.values()]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.8 * errors[0]
    assert [report["quality"] for _, report in streams.values()] == sorted(r["quality"] for _, r in streams.values())


def test_a_new_scene_is_sent_within_a_second_and_drawn_from(streams, film, tmp_path):
    path, report = streams[10]
    header, units = units_of(path)
    assert header.version == REFERENCES and header.filler == "interpolate" and report["pictures"] >= SCENES
    choices = [unit.first for unit in units if isinstance(unit, ChoiceUnit)]
    for cut in (FRAMES // 3, 2 * FRAMES // 3):
        assert any(cut <= first <= cut + FPS for first in choices), choices
    later = [u for u in units if not (isinstance(u, ReferenceChunk) and u.picture) and not isinstance(u, ChoiceUnit)]
    one = written(tmp_path / "one.kcm", header, later)
    assert off(path, film, tmp_path) < 0.7 * off(one, film, tmp_path)


def test_no_frame_is_drawn_from_a_later_one(streams):
    for path, _ in streams.values():
        _, units = units_of(path)
        known, frames = set[int](), 0
        for unit in units:
            if isinstance(unit, ReferenceChunk):
                known.add(unit.picture)
            elif isinstance(unit, ChoiceUnit):
                assert unit.picture in known and unit.first >= frames  # before the packet that holds its frame
            elif isinstance(unit, MotionPacket):
                frames = unit.frame


def test_pictures_that_show_no_face_in_what_is_left_are_not_sent(film, tmp_path, monkeypatch):
    """They were enlarged until they showed one, whatever the budget."""
    source, tried = KeyPictures._source, list[int]()

    def demanding(self: KeyPictures, data: bytes) -> Any:
        tried.append(len(data))
        if len(data) < 4000 and self.pictures:  # after the first
            raise KinecastError("source: expected a face, found none")
        return source(self, data)

    monkeypatch.setattr(KeyPictures, "_source", demanding)
    report = encode_clip(MODEL, film, tmp_path / "film.kcm", options(4))
    assert len(tried) > 2 and max(tried) < 5000
    assert report["pictures"] == 1 and report["total_kbps"] <= 1.05 * 4


def test_a_still_film_gets_one_good_picture(tmp_path):
    still = write_clip(tmp_path / "still.mp4", np.repeat(scenes(3)[:1], 50, axis=0))
    report = encode_clip(MODEL, still, tmp_path / "still.kcm", options(4))
    assert report["pictures"] == 1 and report["total_kbps"] == pytest.approx(4, rel=0.05)


def test_too_small_a_budget_is_said(film, tmp_path):
    with pytest.warns(KinecastWarning, match=r"found 0.1 kbps, and .* needed for 100 frames: it is exceeded"):
        report = encode_clip(MODEL, film, tmp_path / "low.kcm", options(0.1))
    assert report["pictures"] == 1 and decode_clip(MODEL, tmp_path / "low.kcm", tmp_path / "a.mp4")["frames"] == FRAMES


def test_steps_that_are_asked_for_stay(film, tmp_path):
    report = encode_clip(MODEL, film, tmp_path / "a.kcm", replace(options(5), quality=3))
    assert report["quality"] == 3 and report["total_kbps"] == pytest.approx(5, rel=0.05)
    report = encode_clip(MODEL, film, tmp_path / "b.kcm", EncodeOptions(kbps=2, filler=("hold", hold)))
    assert units_of(tmp_path / "b.kcm")[0].filler == "hold" and report["total_kbps"] == pytest.approx(2, rel=0.05)


def test_a_receiver_goes_on_with_the_picture_it_has(streams, film, tmp_path):
    header, units = units_of(streams[10][0])
    first = units.index(next(u for u in units if isinstance(u, ReferenceChunk) and u.picture == 1))
    lost = written(tmp_path / "lost.kcm", header, units[:first] + units[first + 1 :])
    with pytest.warns(KinecastWarning, match="expected all pictures whole, found 1 missing or damaged"):
        assert decode_clip(MODEL, lost, tmp_path / "a.mp4")["frames"] == FRAMES
    chunk = units[first]
    assert isinstance(chunk, ReferenceChunk)
    for data in (b"no picture", code_picture(np.zeros((16, 24, 3), np.uint8))[0]):
        foreign = list(split_picture(data, chunk.mime, 1))
        bad = written(tmp_path / "bad.kcm", header, [*units[:first], *foreign, *units[first + 1 :]])
        with pytest.warns(KinecastWarning, match="reference picture: expected"):
            assert decode_clip(MODEL, bad, tmp_path / "a.mp4")["frames"] == FRAMES


def test_hostile_choices_and_chunks_do_no_harm(streams, tmp_path):
    header, units = units_of(streams[2][0])
    wild = [ChoiceUnit(i, i % 256) for i in range(600)] + [ReferenceChunk(0, "image/png", 7, 0, b"another")] * 3
    start = next(i for i, unit in enumerate(units) if not isinstance(unit, ReferenceChunk))
    bad = written(tmp_path / "bad.kcm", header, [*units[:start], *wild, *units[start:]])
    with pytest.warns(KinecastWarning):
        assert decode_clip(MODEL, bad, tmp_path / "a.mp4")["frames"] == FRAMES
    data = streams[2][0].read_bytes()
    for size in (len(data) // 2, len(bytes(header)) + 20):
        (tmp_path / "cut.kcm").write_bytes(data[:size])
        with pytest.raises(KinecastError, match="expected"):
            decode_clip(MODEL, tmp_path / "cut.kcm", tmp_path / "b.mp4")
        assert not (tmp_path / "b.mp4").exists()


def test_until_version_3_all_is_drawn_from_the_first_picture(streams, tmp_path):
    header, units = units_of(streams[10][0])
    first = [u for u in units if isinstance(u, MotionPacket)]
    big = list(split_picture(*code_picture(scenes(3)[0], 60), 0))
    more = list(split_picture(*code_picture(scenes(3)[2], 60), 1))
    old = replace(header, version=EXTENDED)
    for name, given in (("one", [*big, *first]), ("two", [*big, *more, ChoiceUnit(3, 1), *first])):
        decode_clip(MODEL, written(tmp_path / f"{name}.kcm", old, given), tmp_path / f"{name}.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_motion_of_such_a_stream_is_read(streams):
    picture, motion = read_motion(MODEL, streams[1][0])
    assert picture.shape == (1, 3, SIDE, SIDE) and len(motion) == FRAMES


@pytest.mark.parametrize("most", [250, 500, 1000, 3000])
def test_pictures_are_as_good_as_their_bytes_allow(most):
    picture = (pictures(1, (128, 128)).permute(0, 2, 3, 1)[0].numpy() * 255).astype(np.uint8)
    data, _ = code_to_size(picture, most)
    assert len(data) <= most
    better, _ = code_to_size(picture, 2 * most)
    errors = [
        np.square(open_picture(d, (128, 128), smaller=True) - picture.astype(float)).mean() for d in (data, better)
    ]
    assert errors[1] <= errors[0]
    assert len(code_to_size(picture, 1)[0]) < 200  # nothing is so small: the least that there is


def test_a_mesh_keeps_a_picture_that_shows_its_face(tmp_path):
    frames = (face_frames(8).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    clip = write_clip(tmp_path / "face.mp4", frames)
    model = tiny_mesh()
    with pytest.warns(KinecastWarning, match="it is exceeded"):
        report = encode_clip(model, clip, tmp_path / "face.kcm", EncodeOptions(kbps=2, filler=INTERPOLATED))
    assert report["pictures"] >= 1
    assert decode_clip(model, tmp_path / "face.kcm", tmp_path / "out.mp4")["frames"] == 8
    with (tmp_path / "face.kcm").open("rb") as file:
        assert StreamReader(io.BytesIO(file.read())).header.version == REFERENCES


def test_background_and_shoulders_of_a_mesh_are_counted_from_each_picture(monkeypatch):
    model, frames = tiny_mesh(scene=True), face_frames(4)
    motion = model.detect(frames)
    header = Header(layout_for_quality(motion), (25, 1), (frames.shape[2], frames.shape[3]), version=REFERENCES)
    drawer = Drawer(model, header, Path("a.kcm"))
    for number, first in ((0, 0), (1, 2)):
        data, mime = code_picture((frames[first].permute(1, 2, 0).numpy() * 255).astype(np.uint8), 95)
        units: Iterator[Any] = iter((*split_picture(data, mime, number), ChoiceUnit(first, number)))
        if number == 0:
            drawer.start(units)
        for _ in drawer.watch(units):
            pass
    moved: list[np.ndarray] = []
    animate = model.animate

    def noted(state: Any, source: Motion, driving: Motion) -> Tensor:
        moved.append(driving.components["scene"].numpy())
        return animate(state, source, driving)

    monkeypatch.setattr(model, "animate", noted)
    vectors = motion.vectors().numpy()
    drawer.draw([DecodedFrame(i, np.zeros(14, np.int32), vectors[i], False, number=i) for i in range(4)])
    assert [len(part) for part in moved] == [2, 2] and not moved[0][0].any() and not moved[1][0].any()
    assert moved[1][1] == pytest.approx(vectors[3, -4:] - vectors[2, -4:])
