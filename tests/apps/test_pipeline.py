"""The pipeline as functions: what is forecast, from what, and what the report counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from faces_in_motion import face_frames, tiny_mesh
from helpers import draw_frames, make_clip, write_clip
from kinecast.apps import pipeline
from kinecast.apps.driving import best_frame
from kinecast.apps.pipeline import (
    AnimateOptions,
    animate_clip,
    animate_motion,
    extract,
    forecast_mask,
    forecast_motion,
    published_kbps,
)
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.media import video
from kinecast.media.pictures import to_uint8, write_image
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion, concatenate
from tiny import tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps


def _motion(frames: int) -> Motion:
    random = torch.Generator().manual_seed(1)
    value = torch.randn(frames, 3, 2, generator=random).cumsum(0) / 50
    jacobian = torch.eye(2).expand(frames, 3, 2, 2) + torch.randn(frames, 3, 2, 2, generator=random) / 20
    return Motion("fomm", {"value": value, "jacobian": jacobian}, fps=25)


def test_forecast_mask_is_whole_windows_only():
    assert forecast_mask(11, 2, 3).tolist() == [False, False, True, True, True] * 2 + [False]
    with pytest.raises(KinecastError, match="driving has 4 frames; horizon 2-3 needs at least 5"):
        forecast_mask(4, 2, 3)


def test_forecast_replaces_forecast_blocks_only():
    motion = _motion(11)
    (filled,), mask = forecast_motion(motion, build_forecaster("repeat", 18), 2, 3)
    vectors, true = filled.vectors(), motion.vectors()
    assert torch.equal(vectors[~mask], true[~mask])
    for start in (0, 5):
        assert torch.equal(vectors[start + 2 : start + 5], true[start + 1].expand(3, -1))


def test_forecast_sees_only_its_own_observed_block():
    motion = _motion(20)
    forecaster = build_forecaster("velocity", 18)
    (before,), mask = forecast_motion(motion, forecaster, 4, 6)
    vectors = motion.vectors()
    vectors[4:] += 1  # everything after the first observed block
    (after,), _ = forecast_motion(motion.with_vectors(vectors), forecaster, 4, 6)
    assert torch.equal(before.vectors()[:10], after.vectors()[:10])
    assert not torch.equal(before.vectors()[10:], after.vectors()[10:])


def test_published_accounting():
    """Published Table 12: FOMM, 60 numbers at 30 fps, half of the frames sent, saves 17.36 times against 500 kbps."""
    assert published_kbps(60, 30) == pytest.approx(57.6)
    assert 500 / published_kbps(60, 30, 0.5) == pytest.approx(17.36, abs=0.005)


def test_extract_in_chunks_is_detect_at_once(tmp_path):
    model = tiny_fomm()
    clip = make_clip(tmp_path / "c.mp4", frames=2 * pipeline.BATCH + 3)
    seen: list[int] = []
    motion = extract(model, clip, progress=lambda stage, frames: seen.append(frames))
    assert seen == [pipeline.BATCH, pipeline.BATCH, 3]
    frames = torch.cat(list(video.read_batches(clip, model.frame_size)))
    torch.testing.assert_close(motion.vectors(), model.detect(frames).vectors(), rtol=0, atol=1e-5)


def test_relative_motion_from_the_best_frame(tmp_path):
    """A source that is one of the driving frames is its own best match: there, the animation is the source's own."""
    model = tiny_fomm()
    clip = make_clip(tmp_path / "c.mp4", frames=8)
    motion = extract(model, clip)
    assert best_frame(motion, motion[5], np.zeros(8, dtype=bool)) == 5
    hidden = np.arange(8) == 5  # a forecast frame is not there to be chosen
    assert best_frame(motion, motion[5], hidden) != 5


@pytest.mark.parametrize("build", [tiny_fomm, tiny_face_vid2vid, lambda: tiny_fomm(num_keypoints=2)])
def test_scale_is_adapted_where_it_can_be(tmp_path, build):
    """As the demo asks, with whatever model it is given."""
    model = build()
    clip, source = make_clip(tmp_path / "c.mp4", frames=4), tmp_path / "s.png"
    Image.fromarray(draw_frames(1)[0][::-1]).save(source)
    animated = {}
    for adapt in (None, False):
        options = AnimateOptions(mode="transfer", relative=True, adapt_scale=adapt)
        animate_clip(model, source, clip, tmp_path / "o.mp4", options)
        animated[adapt] = (tmp_path / "o.mp4").read_bytes()
    assert (animated[None] == animated[False]) == (model.motion_dim != tiny_fomm().motion_dim)


def test_report_of_a_reconstruction(tmp_path):
    model = tiny_fomm()
    clip = make_clip(tmp_path / "c.mp4", frames=9)
    report = animate_clip(model, None, clip, tmp_path / "o.mp4", AnimateOptions(true_fps=30))
    frames = torch.cat(list(video.read_batches(clip, model.frame_size)))
    motion = model.detect(frames)
    rebuilt = model.animate(model.encode_source(frames[:1]), motion[:1], motion)
    assert report.quality["animated"]["mae"] == pytest.approx(float((rebuilt - frames).abs().mean()), rel=1e-4)
    copied = float((frames[:1] - frames).abs().mean())
    assert report.quality["copy of the source"]["mae"] == pytest.approx(copied, rel=1e-4)
    assert report.rate["motion_bytes"] == 9 * 24 * 4
    assert report.rate["sent_kbps"] == pytest.approx(24 * 32 * 30 / 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "copy"}, "expected reconstruction or transfer"),
        ({"adapt_scale": True}, "add --relative"),
        ({"adapt_scale": True, "avd": True}, "add --relative"),
        ({"relative": True, "avd": True}, "expected relative or avd, found both"),
        ({"transfer": Transfer(mouth=0.5)}, "eyes, lips and mixed change relative motion: drop --absolute"),
        ({"samples": 9}, "expected 1 to 8"),
        ({"samples": 0}, "expected 1 to 8"),
    ],
)
def test_foreign_options(options, message):
    with pytest.raises(KinecastError, match=message):
        AnimateOptions(**options)


def test_modes_and_sources_that_do_not_fit(tmp_path, clip):
    model = tiny_fomm()
    with pytest.raises(KinecastError, match="name one with --source"):
        animate_clip(model, None, clip, tmp_path / "o.mp4", AnimateOptions(mode="transfer"))
    other = make_clip(tmp_path / "other.mp4", frames=2)
    with pytest.raises(KinecastError, match="drop --source"):
        animate_clip(model, other, clip, tmp_path / "o.mp4", AnimateOptions())
    with pytest.raises(KinecastError, match="expected a rate"):
        animate_clip(model, None, clip, tmp_path / "o.mp4", AnimateOptions(fps=0))


def test_motion_of_another_length_than_the_clip(tmp_path):
    model = tiny_fomm()
    clip = make_clip(tmp_path / "c.mp4", frames=12)
    motion = extract(model, clip)
    longer = concatenate([motion, motion[:3]])
    with pytest.raises(KinecastError, match="of 12 frames, found 15"):
        animate_clip(model, None, clip, tmp_path / "o.mp4", motion=longer)
    assert not (tmp_path / "o.mp4").exists()
    assert animate_clip(model, None, clip, tmp_path / "o.mp4", motion=motion[:10]).frames == 10
    assert animate_clip(model, None, clip, tmp_path / "o.mp4", AnimateOptions(limit=9), motion=longer).frames == 9


def _coincident(motion: Motion, frames: slice) -> Motion:
    value = motion.components["value"].clone()
    value[frames] = value[frames, :1]
    return replace(motion, components={**motion.components, "value": value})


def test_best_frame_of_coincident_points():
    """Such a frame has no pose to compare: it is passed over, and if no other is left, that is said in one line."""
    motion = _motion(6)
    shown = np.zeros(6, dtype=bool)
    assert best_frame(_coincident(motion, slice(0, 3)), motion[4], shown) == 4
    for driving, source in (
        (_coincident(motion, slice(None)), motion[4]),
        (motion, _coincident(motion[4], slice(None))),
    ):
        with pytest.raises(KinecastError, match="3 or more keypoints .* drop --best-frame"):
            best_frame(driving, source, shown)


@pytest.mark.parametrize("make", [tiny_fomm, tiny_tps, tiny_face_vid2vid])
def test_no_frames_are_one_line(make):
    model = make()
    frames = torch.rand(1, 3, *model.frame_size)
    state, motion = model.encode_source(frames), model.detect(frames)
    for none in (frames[:0], frames[..., :0], frames[:, :, :0]):
        with pytest.raises(KinecastError, match="expected at least one with pixels"):
            model.detect(none)
    with pytest.raises(KinecastError, match="at least one frame"):
        model.animate(state, motion, motion[:0])


def test_samples_need_a_forecaster(tmp_path, clip):
    with pytest.raises(KinecastError, match="name one with --forecast"):
        animate_clip(tiny_fomm(), None, clip, tmp_path / "o.mp4", AnimateOptions(samples=5))


@pytest.mark.parametrize("relative", [False, True])
def test_motion_animates_as_its_clip_does(tmp_path, relative):
    model = tiny_fomm()
    clip, source = make_clip(tmp_path / "c.mp4", frames=11), make_clip(tmp_path / "s.mp4", frames=1, size=(40, 48))
    options = AnimateOptions(mode="transfer", relative=relative, observed=3, horizon=2, quality=0)
    held = build_forecaster("repeat", model.motion_dim)
    for forecaster in (None, held):
        by_clip = animate_clip(model, source, clip, tmp_path / "a.mp4", options, forecaster)
        motion = extract(model, clip)
        by_motion = animate_motion(model, source, motion, tmp_path / "b.mp4", options, forecaster)
        assert replace(by_clip, seconds={}) == replace(by_motion, seconds={})
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert animate_motion(model, source, motion, tmp_path / "c.gif", AnimateOptions("transfer", limit=4)).frames == 4


@pytest.mark.parametrize(
    ("motion", "options", "message"),
    [
        (_motion(4), {"compare": True}, "found motion without pictures"),
        (Motion("tps", {"value": torch.rand(4, 5, 2)}), {}, "expected motion of fomm"),
        (replace(_motion(4), frame_size=(256, 256)), {}, "name the model that it was extracted with"),
        (_motion(4)[:0], {}, "at least one frame"),
    ],
)
def test_motion_that_does_not_fit(tmp_path, clip, motion, options, message):
    model = tiny_fomm(num_keypoints=3)
    with pytest.raises(KinecastError, match=message):
        animate_motion(model, clip, motion, tmp_path / "o.mp4", AnimateOptions("transfer", **options))
    assert not (tmp_path / "o.mp4").exists()


def test_what_is_held_while_no_face_is_seen_is_not_forecast_from():
    valid = torch.ones(20, dtype=torch.bool)
    valid[2] = False  # observed in the first of two windows of 6-4
    motion = replace(_motion(20), valid=valid)
    (future,), mask = forecast_motion(motion, build_forecaster("velocity", motion.dim), 6, 4)
    vectors = future.vectors()
    assert torch.equal(vectors[6:10], motion.vectors()[5].repeat(4, 1))
    assert not torch.equal(vectors[16], motion.vectors()[15]) and mask.sum() == 8


def test_a_clip_whose_face_comes_later_holds_its_first_pose_until_then(tmp_path):
    away = torch.full((9, 3, 256, 256), 0.5)  # more than a batch
    clip = write_clip(tmp_path / "late.mp4", to_uint8(torch.cat([away, face_frames(2)])))
    motion = extract(tiny_mesh(), clip)
    assert motion.valid_frames().tolist() == [False] * 9 + [True] * 2
    assert torch.equal(motion.vectors()[0], motion.vectors()[9])
    report = animate_clip(tiny_mesh(), face_picture(tmp_path), clip, tmp_path / "o.mp4", AnimateOptions("transfer"))
    assert report.frames_without_face == 9
    with pytest.raises(KinecastError, match="expected a face in the frames, found none"):
        extract(tiny_mesh(), clip, limit=9)


def face_picture(folder):
    write_image(folder / "me.png", to_uint8(face_frames(1))[0])
    return folder / "me.png"
