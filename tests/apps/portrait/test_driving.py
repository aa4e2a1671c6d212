"""What drives a portrait: parts of clips, whole frames, motion files, streams."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clips_with_sound import write_timed
from faces_in_motion import face_frames
from helpers import draw_frames, write_clip
from kinecast import KinecastError
from kinecast.apps.portrait.driving import (
    Reading,
    clip_drive,
    driving_footage,
    given_drive,
    motion_drive,
    stream_motion,
)
from kinecast.media.pictures import to_uint8
from kinecast.media.sound import clip_sound
from tiny import tiny_fomm


def test_a_clip_gives_motion_and_times(model, clip):
    drive = clip_drive(model, clip, Reading())
    assert len(drive.motion) == 4 and drive.fps == 25 and drive.edges is None and drive.sound is None


@pytest.mark.parametrize(("start", "end", "frames"), [(0, None, 4), (0.05, None, 3), (0.04, 0.12, 2), (0, 0.05, 1)])
def test_a_part_of_a_clip(model, clip, start, end, frames):
    whole = clip_drive(model, clip, Reading()).motion
    part = clip_drive(model, clip, Reading(start=start, end=end)).motion
    first = round(start * 25)
    assert len(part) == frames
    torch.testing.assert_close(part.vectors(), whole[first : first + frames].vectors(), atol=0.06, rtol=0)


def test_parts_that_a_clip_has_not(model, clip):
    for start, end, message in ((-1, None, "start: expected"), (2, 1, "end: expected"), (3, None, "within its 0.16 s")):
        with pytest.raises(KinecastError, match=message):
            clip_drive(model, clip, Reading(start=start, end=end))


def test_sound_begins_with_the_part(tmp_path):
    path = write_timed(tmp_path / "a.mp4", np.arange(50) / 25, 2.0, flash=1.0, sound="aac", beep=1.0)
    for start in (0.0, 0.8):
        source = clip_sound(path, start)
        assert source is not None
        packets = [packet for packet, _ in source.packets() if packet is not None]
        assert float(packets[-1].pts * packets[-1].time_base) == pytest.approx(2.0 - start, abs=0.1)


def test_motion_of_a_part_is_that_of_its_clip(model, clip):
    motion = clip_drive(model, clip, Reading()).motion
    part = given_drive(model, motion, Reading(start=0.04, end=0.12))
    assert torch.equal(part.motion.vectors(), motion[1:3].vectors()) and part.edges is None
    timed = replace(motion, times=torch.tensor([0.0, 0.1, 0.2, 0.5], dtype=torch.float64), end=0.6)
    part = given_drive(model, timed, Reading(start=0.1))
    assert part.edges is not None and np.allclose(part.edges, [0, 0.1, 0.4, 0.5])
    with pytest.raises(KinecastError, match="start: expected seconds within the 0.16 s of motion, found 5"):
        given_drive(model, motion, Reading(start=5))
    with pytest.raises(KinecastError, match="smooth: expected a clip as --driving, found motion"):
        given_drive(model, motion, Reading(smooth=True))


def test_a_motion_file_drives_as_its_clip_does(model, clip, tmp_path):
    motion = clip_drive(model, clip, Reading()).motion
    motion.save(tmp_path / "m.npz")
    drive = motion_drive(model, tmp_path / "m.npz", Reading(limit=3))
    assert torch.equal(drive.motion.vectors(), motion[:3].vectors()) and drive.fps == 25


def test_whole_frames_of_any_shape_are_looked_at(model, tmp_path):
    """A face at the side of a wide clip, where a square in the middle would not show it."""
    wide = np.full((3, 256, 700, 3), 120, np.uint8)
    wide[:, :, 444:] = to_uint8(face_frames(3))
    path = write_clip(tmp_path / "wide.mp4", wide)
    assert driving_footage(model, path, Reading()).crop == "none"
    moved = clip_drive(model, path, Reading()).motion
    assert float(moved.components["shift"][0, 0]) > 0.5
    square = clip_drive(model, write_clip(tmp_path / "s.mp4", to_uint8(face_frames(3))), Reading()).motion
    torch.testing.assert_close(moved.components["rotation"], square.components["rotation"], atol=0.1, rtol=0)
    large = driving_footage(model, write_clip(tmp_path / "l.mp4", draw_frames(2, (500, 2000))), Reading())
    assert large.size == (256, 1024)


def test_others_see_what_is_around_the_face(model, clip):
    fomm = tiny_fomm(frame_size=(32, 32), num_keypoints=3)
    assert driving_footage(fomm, clip, Reading()).crop == "face"
    assert driving_footage(model, clip, Reading(), relative=False).crop == "face"
    assert driving_footage(model, clip, Reading(crop="center")).size == model.frame_size


def test_smoothing_holds_what_trembles(model, tmp_path):
    still = np.repeat(to_uint8(face_frames(1)), 8, axis=0).astype(int)
    noisy = np.clip(still + np.random.default_rng(0).integers(-25, 26, still.shape), 0, 255).astype(np.uint8)
    path = write_clip(tmp_path / "noise.mp4", noisy)
    rough, smooth = (clip_drive(model, path, Reading(smooth=each)).motion.vectors() for each in (False, True))
    assert float(smooth.diff(dim=0).abs().mean()) < 0.7 * float(rough.diff(dim=0).abs().mean())
    with pytest.raises(KinecastError, match="smooth: expected a backbone that follows a face, found fomm"):
        clip_drive(tiny_fomm(frame_size=(32, 32), num_keypoints=3), path, Reading(smooth=True))


def test_a_stream_is_answered_frame_by_frame(model):
    taken = []

    def camera():
        for frame in to_uint8(face_frames(3)):
            taken.append(frame)
            yield frame

    motions = stream_motion(model, camera())
    first = next(motions)
    assert len(first) == 1 and len(taken) == 1
    assert len(list(motions)) == 2
