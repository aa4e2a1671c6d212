"""AVD and the background's motion, from the driving clip to the picture and the rate."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import draw_frames, make_clip, write_clip
from kinecast.apps import pipeline
from kinecast.apps.driving import Driving, background_motion, held_background
from kinecast.apps.pipeline import AnimateOptions, Report, animate_clip
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.media import video
from kinecast.media.footage import footage
from kinecast.models.base import Backbone
from tiny import pictures, tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps

MODEL = tiny_tps()
FRAMES = 11  # more than one batch
SIZE = (32, 32)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("other") / "other.mp4", draw_frames(20)[15:])


@pytest.fixture
def drawn(
    film: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Tensor, Report]]:
    """Animate by the film; the frames as they are before the writer's coding, and the report."""

    def animate(forecaster: str = "", **changes: object) -> tuple[Tensor, Report]:
        shown: list[Tensor] = []
        add = pipeline.Scores.add

        def listen(self, seen, true, rendered, mask):
            shown.extend(rendered)
            add(self, seen, true, rendered, mask)

        monkeypatch.setattr(pipeline.Scores, "add", listen)
        options = AnimateOptions(observed=4, horizon=2, **changes)  # type: ignore[arg-type]
        source = other if options.mode == "transfer" else None
        model = build_forecaster(forecaster, MODEL.motion_dim) if forecaster else None
        report = animate_clip(MODEL, source, film, tmp_path / "out.mp4", options, model)
        monkeypatch.undo()
        return torch.cat(shown), report

    return animate


def _film(path: Path) -> Tensor:
    return torch.cat(list(video.read_batches(path, SIZE)))


def test_reconstruction_with_its_background_is_the_published_one(film, drawn):
    frames = _film(film)
    motion, state = MODEL.detect(frames), MODEL.encode_source(frames[:1])
    affine = MODEL.background(frames[:1], frames)
    shown, report = drawn(background=True)
    torch.testing.assert_close(shown, MODEL.animate(state, motion[:1], motion, affine), atol=1e-5, rtol=0)
    still, plain = drawn()
    assert (shown - still).abs().max() > 1e-4
    # What makes the picture better costs what it costs.
    assert (report.motion_dim, plain.motion_dim) == (MODEL.motion_dim + 6, MODEL.motion_dim)
    assert report.rate["motion_bytes"] == FRAMES * 4 * (MODEL.motion_dim + 6)
    assert report.rate["published_kbps"] == pytest.approx((MODEL.motion_dim + 6) * 32 * report.fps / 1000)


def test_the_background_of_a_forecast_frame_is_the_last_one_sent(film, drawn):
    frames = _film(film)
    motion, state = MODEL.detect(frames), MODEL.encode_source(frames[:1])
    affine = MODEL.background(frames[:1], frames)
    shown, report = drawn("repeat", background=True)
    seen_last = [0, 1, 2, 3, 3, 3, 6, 7, 8, 9, 10]  # 4-2: one whole window, then what is left of the clip
    expected = MODEL.animate(state, motion[:1], motion[torch.tensor(seen_last)], affine[seen_last])
    torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)
    assert report.frames_sent == 9
    mask = torch.arange(FRAMES) == 4
    assert held_background(None, mask.numpy()) is None


def test_the_background_moves_as_the_driving_clip_since_its_start(film, drawn):
    frames, affine = _film(film), background_motion(MODEL, footage(film, MODEL.frame_size), FRAMES)
    torch.testing.assert_close(affine, MODEL.background(frames[:1], frames), atol=1e-6, rtol=0)
    source, driving = MODEL.detect(pictures(1, SIZE)), Driving(MODEL.detect(frames), affine)
    for start in (0, 5):
        moved = driving.retargeted(MODEL, source, driving[start], adapt_scale=False)
        assert moved.background is not None
        torch.testing.assert_close(affine[start] @ moved.background, affine, atol=1e-5, rtol=0)
        # Where nothing has changed since the start, the picture is the source's own.
        torch.testing.assert_close(moved.background[start], torch.eye(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(moved.motion[start].vectors(), source.vectors())
    absolute, _ = drawn(mode="transfer", relative=False, background=True)
    relative, report = drawn(mode="transfer", relative=True, background=True)
    assert (absolute - relative).abs().max() > 1e-4 and report.motion_dim == MODEL.motion_dim + 6


@pytest.mark.parametrize("forecaster", ["", "repeat"])
def test_avd_gives_the_source_the_driving_pose(film, other, drawn, forecaster):
    frames, source = _film(film), pipeline.read_image(other, SIZE)
    shown, report = drawn(forecaster, mode="transfer", avd=True)
    motion, own = MODEL.detect(frames), MODEL.detect(source)
    if forecaster:
        motion = motion[torch.tensor([0, 1, 2, 3, 3, 3, 6, 7, 8, 9, 10])]
    expected = MODEL.animate(MODEL.encode_source(source), own, MODEL.avd_motion(own, motion))
    torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)
    assert report.motion_dim == MODEL.motion_dim  # the receiver has the network and the source: nothing more travels


def test_what_is_held_never_comes_from_a_forecast_frame():
    background = torch.eye(3).repeat(6, 1, 1) * torch.arange(1.0, 7).view(-1, 1, 1)
    held = held_background(background, np.array([False, False, True, True, False, True]))
    assert held is not None and held[:, 0, 0].tolist() == [1, 2, 2, 2, 5, 5]


@pytest.mark.parametrize(
    ("model", "options", "found"),
    [
        (
            tiny_fomm(),
            AnimateOptions(avd=True),
            "avd: expected TPS weights with avd_network, found fomm: drop --avd",
        ),
        (
            tiny_face_vid2vid(),
            AnimateOptions(background=True),
            "background: expected TPS weights with bg_predictor, found face-vid2vid: drop --background",
        ),
        (tiny_tps(avd=None), AnimateOptions(avd=True), "avd_network, found tps without it"),
        (tiny_tps(background=None), AnimateOptions(background=True), "bg_predictor, found tps without it"),
    ],
    ids=["fomm", "face-vid2vid", "no avd", "no background"],
)
def test_a_part_that_is_not_there_is_one_line(
    model: Backbone, options: AnimateOptions, found: str, film: Path, tmp_path: Path
) -> None:
    with pytest.raises(KinecastError, match=found):
        animate_clip(model, None, film, tmp_path / "out.mp4", options)
    assert not (tmp_path / "out.mp4").exists()
