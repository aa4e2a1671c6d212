"""Simulated arms: the same seed gives the same clip, a fault changes nothing before its onset, files read back."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from kinecast.cli import main
from kinecast.data.datasets import open_dataset
from kinecast.data.keypoint_store import load_series
from kinecast.errors import KinecastError
from kinecast.media.video import read_frames
from kinecast.research.data.arm_files import ArmDataConfig, plan, write_arms
from kinecast.research.data.robot_arms import FAULTS, ArmSimulator, Episode, Fault

pytest.importorskip("pybullet", reason="kinecast[arms] is not installed")
SMALL = ArmDataConfig(clips=2, frames=3, size=16, test_share=0.5, seed=4)


@pytest.fixture(scope="module")
def simulated() -> dict[Fault | None, Episode]:
    """One episode without a fault and with each."""
    with ArmSimulator(frames=12, size=16, pictures=False) as simulator:
        return {fault: simulator.episode(0, 3, fault) for fault in (None, *FAULTS)}


def test_an_episode_moves_within_its_limits(simulated: dict[Fault | None, Episode]) -> None:
    episode = simulated[None]
    assert episode.joints.shape == episode.velocities.shape == episode.torques.shape == (12, 7)
    assert episode.tip.shape == (12, 3) and episode.objects.shape == (12, 6) and episode.pictures is None
    assert np.abs(episode.joints).max() < 3.06 and np.abs(np.diff(episode.joints, axis=0)).max() < 0.25
    assert np.abs(np.diff(episode.joints, axis=0)).max(axis=0).min() > 1e-4  # every joint has a part in it
    assert ((episode.tip[:, 2] > 0.1) & (episode.tip[:, 2] < 0.2)).all()
    assert not episode.labels.any() and episode.onset == 12


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_begins_at_its_onset(simulated: dict[Fault | None, Episode], fault: Fault) -> None:
    sound, faulty = simulated[None], simulated[fault]
    onset = faulty.onset
    assert 0.4 * 12 - 1 <= onset <= 0.7 * 12 + 1
    for kind in ("joints", "velocities", "torques", "tip", "objects"):
        np.testing.assert_array_equal(getattr(faulty, kind)[:onset], getattr(sound, kind)[:onset])
    assert np.abs(faulty.joints[onset:] - sound.joints[onset:]).max() > 1e-5
    assert faulty.labels.tolist() == [0] * onset + [1] * (12 - onset)
    if fault == "jam":
        assert np.ptp(faulty.joints[onset:, faulty.joint]) < 0.02
    assert (faulty.failure is not None) == (fault == "wear")
    if fault == "wear":  # it swings more and more before it gives way
        assert faulty.failure is not None and onset < faulty.failure < 12
        off = np.abs(faulty.joints - sound.joints)[:, faulty.joint]
        assert 0 < off[onset] < off[faulty.failure - 1 :].max()
    if fault == "drop":
        assert faulty.joint is None and faulty.tip[-1, 2] < sound.tip[-1, 2] - 0.01


def test_an_episode_depends_on_its_seed_and_number_alone(simulated: dict[Fault | None, Episode]) -> None:
    with ArmSimulator(frames=12, size=16, pictures=False) as simulator:
        other = simulator.episode(1, 3)
        again = simulator.episode(0, 3)
    np.testing.assert_array_equal(again.joints, simulated[None].joints)
    np.testing.assert_array_equal(again.objects, simulated[None].objects)
    assert np.abs(other.joints - again.joints).max() > 0.05


def test_the_data_set_on_disk(tmp_path: Path) -> None:
    assert write_arms(tmp_path, SMALL) == 2
    assert load_series(tmp_path / "train/joints").keys() == {"arm-00000"}
    joints = load_series(tmp_path / "test/joints")["arm-00001"]
    assert joints.shape == (3, 7)
    assert {kind: load_series(tmp_path / "test" / kind)["arm-00001"].shape[1] for kind in ("tip", "objects")} == {
        "tip": 3,
        "objects": 6,
    }
    pictures = list(read_frames(tmp_path / "test/arm-00001.mp4"))
    assert len(pictures) == 3 and pictures[0].shape == (16, 16, 3) and pictures[0].std() > 10
    facts = json.loads((tmp_path / "test/arm-00001.json").read_text())
    assert (facts["seed"], facts["number"], facts["fault"], facts["onset"]) == (4, 1, None, None)
    data = open_dataset(tmp_path, "bair")  # the readers list it as they list BAIR
    assert [clip.name for clip in (*data.training, *data.test)] == ["train/arm-00000", "test/arm-00001"]

    kept = (tmp_path / "test/arm-00001.mp4").stat().st_mtime_ns
    (tmp_path / "train/arm-00000.json").unlink()  # written last: the clip counts as unfinished
    assert write_arms(tmp_path, SMALL) == 1
    assert (tmp_path / "test/arm-00001.mp4").stat().st_mtime_ns == kept
    with pytest.raises(KinecastError, match="found another seed: name another folder"):
        write_arms(tmp_path, ArmDataConfig(clips=2, frames=3, size=16, test_share=0.5, seed=5))
    with pytest.raises(KinecastError, match="found another side"):  # no clip must come to stand on both
        write_arms(tmp_path, ArmDataConfig(clips=2, frames=3, size=16, test_share=0.0, seed=4))


def test_without_pybullet_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(KinecastError, match=r"pip install 'kinecast\[arms\]'"):
        ArmSimulator()


def test_sides_do_not_depend_on_the_count() -> None:
    few, many = (list(plan(ArmDataConfig(clips=n, faults=1))) for n in (10, 40))
    assert few[:10] == many[:10]
    assert sum(clip.side == "test" for clip in many) == 8
    assert [clip.name for clip in few[10:]] == ["jam-00000", "slip-00000", "drop-00000", "jitter-00000", "wear-00000"]
    assert len({clip.number for clip in many}) == len(many)


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clips", "1", "--frames", "3", "--faults", "1", "--no-pictures", "--test-share", "0", "--json"]
    assert main(["research", "arms", "-o", str(tmp_path), *arguments]) == 0
    assert json.loads(capfd.readouterr().out)["written"] == 6  # and nothing but JSON on stdout
    labels = load_series(tmp_path / "faults/labels")
    assert labels.keys() == {f"{fault}-00000" for fault in FAULTS} and not list(tmp_path.rglob("*.mp4"))
    assert main(["research", "arms", "-o", str(tmp_path), "--clips", "0"]) == 1


@pytest.mark.parametrize("options", [{"clips": 0}, {"faults": -1}, {"seed": -1}, {"test_share": 1.5}])
def test_numbers_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(KinecastError, match="robot arms: expected"):
        ArmDataConfig(**options)
    with pytest.raises(KinecastError, match="expected frames of at least 2, found 1"):
        ArmSimulator(frames=1)
