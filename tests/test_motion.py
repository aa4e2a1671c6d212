import json
import os
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.motion import Motion, concatenate

quick = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def random_motion(frames=5, keypoints=3, jacobian=True, seed=0, **rest) -> Motion:
    random = torch.Generator().manual_seed(seed)
    components = {"value": torch.randn(frames, keypoints, 2, generator=random)}
    if jacobian:
        components["jacobian"] = torch.randn(frames, keypoints, 2, 2, generator=random)
    return Motion("fomm", components, **rest)


@st.composite
def any_motion(draw, numbers=floats) -> Motion:
    frames, keypoints = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    shapes: dict[str, tuple[int, ...]] = {"value": (frames, keypoints, 2)}
    if draw(st.booleans()):
        shapes["jacobian"] = (frames, keypoints, 2, 2)
    return Motion(
        "fomm",
        {
            name: torch.from_numpy(draw(hnp.arrays(np.float32, shape, elements=numbers)))
            for name, shape in shapes.items()
        },
        fps=draw(st.none() | st.floats(1, 240)),
        frame_size=draw(st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096))),
        clip=draw(st.text(max_size=8)),
    )


def bits(tensor: torch.Tensor) -> list[int]:
    assert tensor.dtype == torch.float32
    return tensor.contiguous().view(torch.int32).flatten().tolist()


def assert_same(found: Motion, wanted: Motion) -> None:
    assert list(found.components) == list(wanted.components)
    for name, tensor in wanted.components.items():
        assert found.components[name].shape == tensor.shape
        assert bits(found.components[name]) == bits(tensor), name
    assert (found.fps, found.frame_size, found.clip) == (wanted.fps, wanted.frame_size, wanted.clip)


# --- the flat layout ------------------------------------------------------------------------------------------------


def test_layout_is_interleaved_keypoint_by_keypoint():
    motion = Motion(
        "fomm",
        {
            "value": torch.tensor([[[1.0, 2], [7, 8]]]),
            "jacobian": torch.tensor([[[[3.0, 4], [5, 6]], [[9, 10], [11, 12]]]]),
        },
    )
    assert motion.dim == 12
    assert motion.vectors().tolist() == [list(map(float, range(1, 13)))]


@pytest.mark.parametrize("jacobian, dim", [(True, 60), (False, 20)])
def test_dim_of_the_published_model(jacobian, dim):
    assert random_motion(2, 10, jacobian).dim == dim


@quick
@given(any_motion(st.floats(width=32)))
def test_vectors_come_back_bit_for_bit(motion):
    vectors = motion.vectors()
    assert vectors.shape == (len(motion), motion.dim)
    assert_same(motion.with_vectors(vectors), motion)


@quick
@given(any_motion(), st.integers(0, 9))
def test_vectors_of_another_length_make_a_motion_of_that_length(motion, frames):
    vectors = torch.randn(frames, motion.dim)
    longer = motion.with_vectors(vectors)
    assert len(longer) == frames
    assert bits(longer.vectors()) == bits(vectors)
    assert (longer.fps, longer.frame_size, longer.clip) == (motion.fps, motion.frame_size, motion.clip)


@pytest.mark.parametrize("shape", [(5, 17), (18,), (1, 5, 18)])
def test_vectors_of_another_model_are_refused(shape):
    with pytest.raises(KinecastError) as error:
        random_motion(keypoints=3).with_vectors(torch.zeros(shape))
    assert str(error.value) == f"motion vectors: expected (T, 18), found {shape}"


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index, frames",
    [
        (slice(3, 7), [3, 4, 5, 6]),
        (slice(None, None, 3), [0, 3, 6]),
        (slice(7, 7), []),
        (0, [0]),
        (4, [4]),
        (-1, [7]),
        (-8, [0]),
        (np.int64(2), [2]),
        (torch.tensor(2), [2]),
        (torch.arange(8) % 3 == 1, [1, 4, 7]),
        (torch.zeros(8, dtype=torch.bool), []),
    ],
)
def test_slices(index, frames):
    motion = random_motion(8, fps=25.0, frame_size=(64, 96), clip="a.mp4")
    part = motion[index]
    assert len(part) == len(frames)
    assert bits(part.vectors()) == bits(motion.vectors()[frames])
    assert (part.fps, part.frame_size, part.clip) == (25.0, (64, 96), "a.mp4")


@pytest.mark.parametrize("index", [8, -9])
def test_frames_beyond_the_end(index):
    with pytest.raises(IndexError, match=f"frame {index} of a motion of 8 frames"):
        random_motion(8)[index]


def test_frames_can_be_taken_apart_and_joined():
    motion = random_motion(4, fps=30.0, clip="a.mp4")
    assert_same(concatenate([motion[i] for i in range(len(motion))]), motion)


@pytest.mark.parametrize(
    "motions, message",
    [
        ([], "motion: expected at least one frame, found none: use a clip with frames"),
        (
            [random_motion(), random_motion(jacobian=False)],
            "motions of different backbones cannot be joined: extract all with one model",
        ),
        (
            [random_motion(keypoints=3), random_motion(keypoints=4)],
            "motions of different backbones cannot be joined: extract all with one model",
        ),
    ],
)
def test_motions_that_cannot_be_joined(motions, message):
    with pytest.raises(KinecastError) as error:
        concatenate(motions)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "backbone, components, message",
    [
        ("eigen", {"value": torch.zeros(2, 3, 2)}, "motion of backbone 'eigen': expected one of fomm"),
        (
            "fomm",
            {"value": torch.zeros(2, 3, 2), "roll": torch.zeros(2, 3)},
            "fomm motion: expected components value, jacobian; found roll",
        ),
        ("fomm", {}, "fomm motion: expected components value, jacobian; found none"),
        (
            "fomm",
            {"value": torch.zeros(2, 3, 2), "jacobian": torch.zeros(1, 3, 2, 2)},
            "motion: expected components of one length, found {'value': 2, 'jacobian': 1}",
        ),
        (
            "fomm",
            {"value": torch.zeros(2, 3, 2), "jacobian": torch.zeros(2, 4, 2, 2)},
            "motion: expected value, jacobian with the same number of keypoints, (T, K, ...), found (2, 3, 2), "
            "(2, 4, 2, 2)",
        ),
        ("fomm", {"jacobian": torch.zeros(2, 4, 2, 2)}, "fomm motion: expected a component value, found jacobian"),
        (
            "fomm",
            {"value": torch.zeros(())},
            "motion: expected value with the same number of keypoints, (T, K, ...), found ()",
        ),
    ],
)
def test_components_that_are_no_motion(backbone, components, message):
    with pytest.raises(KinecastError) as error:
        Motion(backbone, components)
    assert str(error.value).startswith(message)


TIMES = torch.tensor([0.0, 0.04, 0.08, 0.5, 1.5, 1.54, 1.58, 1.62], dtype=torch.float64)


def timed_motion() -> Motion:
    return random_motion(8, fps=8 / 2.6, clip="a.mp4", times=TIMES, end=2.6)


def assert_same_times(found: Motion, wanted: Motion) -> None:
    assert_same(found, wanted)
    assert found.times is not None and wanted.times is not None
    assert found.times.tolist() == wanted.times.tolist() and found.end == wanted.end


def test_times_go_with_the_frames():
    motion = timed_motion()
    assert motion.duration == 2.6
    part = motion[2:5]
    assert part.times is not None and part.times.tolist() == [0.08, 0.5, 1.5] and part.end == 1.54
    assert motion[-1].end == 2.6
    masked = motion[torch.arange(8) % 3 == 1]
    assert masked.times is not None and masked.times.tolist() == [0.04, 1.5, 1.62] and masked.end == 2.6
    assert len(motion[3:3]) == 0
    assert_same_times(concatenate([motion[i] for i in range(8)]), motion)
    assert_same_times(concatenate([motion[:3], motion[3:]]), motion)
    assert_same_times(motion.with_vectors(motion.vectors()), motion)
    assert motion.with_vectors(motion.vectors()[:4]).times is None


def test_joined_clips_follow_each_other():
    joined = concatenate([timed_motion(), random_motion(2, fps=10.0), timed_motion()[:1]])
    assert joined.times is not None and joined.end == pytest.approx(2.84)
    assert joined.times[8:].tolist() == pytest.approx([2.6, 2.7, 2.8])
    with pytest.raises(KinecastError, match="expected times or a frame rate, found neither"):
        concatenate([timed_motion(), random_motion(2)])


def test_a_variable_rate_is_resampled_and_said():
    with pytest.warns(KinecastWarning, match="a.mp4: its frame rate varies; it is resampled to a constant 25 fps"):
        even = timed_motion().evenly_timed()
    assert (even.times, even.fps, len(even)) == (None, 25, 65)
    shown = np.searchsorted(TIMES.numpy(), np.arange(65) / 25 + 1e-9, side="right") - 1
    assert bits(even.vectors()) == bits(timed_motion().vectors()[shown])


def test_trembling_is_not_resampled():
    times = torch.arange(8, dtype=torch.float64) / 25
    times[1:] += torch.tensor([0.01, -0.01, 0.004, -0.01, 0.01, 0, 0.01], dtype=torch.float64)
    motion = random_motion(8, fps=25.0, times=times, end=0.34)
    assert motion.evenly_timed() is motion
    assert random_motion(8).evenly_timed().times is None


# --- on disk --------------------------------------------------------------------------------------------------------


@quick
@given(any_motion())
def test_files_come_back_bit_for_bit(tmp_path, motion):
    motion.save(tmp_path / "a.npz")
    assert_same(Motion.load(tmp_path / "a.npz"), motion)


def test_the_file_has_no_pickle(tmp_path):
    motion = random_motion(fps=25.0, frame_size=(64, 96), clip="a.mp4")
    path = tmp_path / "motion"  # without a suffix: numpy's own way would be to add one
    motion.save(path)
    assert os.listdir(tmp_path) == ["motion"]
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["header", "jacobian", "value"]
        assert {archive[name].dtype for name in ("value", "jacobian")} == {np.dtype(np.float32)}
        assert json.loads(str(archive["header"])) == {
            "format": 1,
            "backbone": "fomm",
            "fps": 25.0,
            "frame_size": [64, 96],
            "clip": "a.mp4",
        }
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["header.npy", "jacobian.npy", "value.npy"]
        assert all(archive.read(name).startswith(b"\x93NUMPY") for name in archive.namelist())


def test_times_come_back(tmp_path):
    motion = timed_motion()
    motion.save(tmp_path / "a.npz")
    assert_same_times(Motion.load(tmp_path / "a.npz"), motion)
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["times"].dtype == np.float64
        assert json.loads(str(archive["header"]))["format"] == 2


def test_saving_over_a_file_that_cannot_be_finished_leaves_it(tmp_path):
    path = tmp_path / "a.npz"
    random_motion().save(path)
    before = path.read_bytes()
    broken = random_motion(fps=object())
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


HEADER = {"format": 1, "backbone": "fomm", "fps": 25.0, "frame_size": [64, 64], "clip": "a.mp4"}
TIMED = {**HEADER, "format": 2, "end": 1.0}
MOTION = "expected a motion file of `kinecast extract`, "


def foreign(header=HEADER, value=None, **arrays):
    if value is None:
        value = np.zeros((2, 3, 2), np.float32)
    return {"header": np.array(header if isinstance(header, str) else json.dumps(header)), "value": value, **arrays}


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": np.zeros(3), "b": np.zeros(3)}, MOTION + "found an .npz with a, b"),
        (
            foreign({**HEADER, "format": 4}),
            "expected motion format 1 to 3, found 4: update kinecast",
        ),
        (
            foreign(value=np.full((2, 3, 2), np.nan, np.float32)),
            "expected finite numbers, found NaN or infinity in value: extract it again",
        ),
        (
            foreign(jacobian=np.full((2, 3, 2, 2), np.inf, np.float32)),
            "expected finite numbers, found NaN or infinity in jacobian: extract it again",
        ),
        (foreign({**HEADER, "format": 2, "end": 1.0}), MOTION + "found KeyError: 'times"),
        (foreign(TIMED, times=np.array([0.0])), "motion: expected times of float64 (2,), found torch.float64 (1,)"),
        (foreign(TIMED, times=np.array([0.5, 0.1])), "motion: expected times that increase up to the end"),
        (foreign(TIMED, times=np.array([0.0, 1.0])), "motion: expected times that increase up to the end"),
        (foreign(TIMED, times=np.array([0.0, np.nan])), "motion: expected times that increase up to the end"),
        (foreign({**HEADER, "backbone": "eigen"}), "motion of backbone 'eigen': expected one of fomm"),
        (foreign(roll=np.zeros(2)), "fomm motion: expected components value, jacobian; found roll"),
        (foreign(value=np.array("two")), MOTION + "found ValueError: "),
        (
            foreign(value=np.float32(1)),
            "motion: expected value with the same number of keypoints, (T, K, ...), found ()",
        ),
        (foreign("not json"), MOTION + "found JSONDecodeError: "),
        (foreign([1, 2]), MOTION + "found AttributeError: "),
        (foreign({"format": 1, "backbone": "fomm"}), MOTION + "found KeyError: 'frame_size'"),
        (foreign({**HEADER, "frame_size": 3}), MOTION + "found TypeError: "),
        (foreign(value=np.array([{}], dtype=object)), MOTION + "found ValueError: Object arrays cannot be loaded"),
    ],
)
def test_foreign_archives(tmp_path, arrays, message):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(KinecastError) as error:
        Motion.load(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "expected a motion file (.npz), found nothing there: check the path"),
        (b"", "expected a motion file (.npz), found an empty file (0 bytes): copy or download it again"),
        (b"frame,x,y\n0,1,2\n", MOTION + "found a file of another kind: name a motion file"),
        (b"PK\x03\x04 but no archive", MOTION + "found BadZipFile: "),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KinecastError) as error:
        Motion.load(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@quick
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_no_damage_is_a_traceback(tmp_path, place, value, cut):
    path = tmp_path / "a.npz"
    random_motion().save(path)
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] = value
    path.write_bytes(content)
    try:
        found = Motion.load(path)
    except KinecastError as error:
        assert "\n" not in str(error)
    else:  # bytes that mean nothing, such as a time in the zip's directory
        assert bits(found.vectors()) == bits(random_motion().vectors())


# --- frames in which there was nothing to detect --------------------------------------------------------------------


def marked(*valid: int, **rest) -> Motion:
    return random_motion(len(valid), valid=torch.tensor(valid, dtype=torch.bool), **rest)


def test_valid_frames_survive_slices_joins_resampling_and_files(tmp_path):
    motion = marked(0, 1, 1, 0, 1, fps=25.0)
    assert motion[1:4].valid_frames().tolist() == [True, True, False]
    assert concatenate([motion[:3], motion[1:3]]).valid_frames().tolist() == [False, True, True, True, True]
    assert motion.at_rate(50).valid_frames().tolist() == [False] * 2 + [True] * 4 + [False] * 2 + [True] * 2
    assert motion.with_vectors(motion.vectors() + 1).valid_frames().tolist() == motion.valid_frames().tolist()
    timed = marked(1, 0, times=torch.tensor([0.0, 0.5], dtype=torch.float64), end=0.9)
    for wanted in (motion, timed):
        wanted.save(tmp_path / "m.npz")
        found = Motion.load(tmp_path / "m.npz")
        assert_same(found, wanted)
        assert found.valid_frames().tolist() == wanted.valid_frames().tolist() and found.end == wanted.end


def test_where_all_frames_are_valid_nothing_says_so():
    motion = marked(1, 0, 1)
    assert marked(1, 1).valid is None and motion[2:].valid is None and random_motion(2).valid is None
    assert random_motion(2).valid_frames().tolist() == [True, True]


def test_frames_that_are_not_valid_hold_the_one_before_or_the_first():
    motion = marked(0, 0, 1, 0, 1, 0)
    assert bits(motion.held().vectors()) == bits(motion.vectors()[[2, 2, 2, 2, 4, 4]])
    with pytest.raises(KinecastError, match="expected a face in the frames, found none"):
        marked(0, 0).held()


def test_valid_runs_leave_out_what_is_not_valid():
    motion = marked(0, 1, 1, 0, 1)
    assert [bits(run.vectors()) for run in motion.valid_runs()] == [
        bits(motion.vectors()[1:3]),
        bits(motion.vectors()[4:]),
    ]


def test_valid_is_of_each_frame():
    with pytest.raises(KinecastError, match=r"expected valid of bool \(3,\), found torch.bool \(2,\)"):
        random_motion(3, valid=torch.tensor([True, False]))
