"""The same commands on a Ray cluster of this machine: equal bits, a worker that is killed, files that nodes lack.

Tests with a real session are slow: Ray, whose driver is then the process of the tests, was seen to end that process
while it ran the next test.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import draw_frames, write_clip
from kinecast.apps.extract_many import ExtractSettings
from kinecast.cli import main
from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.jobs import cluster
from kinecast.jobs.pool import WorkerPool
from kinecast.jobs.tasks import Task, TaskResult, Worker
from kinecast.models.checkpoints import save_backbone
from kinecast.research.rate_settings import Exact
from kinecast.research.rate_units import RateSettings, RateWorker, measure_rates
from kinecast.research.run import evaluate
from kinecast.research.study import RunConfig, Study
from tiny import tiny_fomm


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=3), path, {})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    frames = draw_frames(40, (32, 32))
    for i, name in enumerate(("id1_a", "id1_b", "id2_a")):
        write_clip(folder / f"{name}.mp4", frames[5 * i : 5 * i + 12 + i])
    (folder / "id1_damaged.mp4").write_bytes(b"no film at all")
    return folder


SETTINGS = ExtractSettings("face-128", "", "cpu", "eager", "exact", "center", None, None)


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A session that all tests here use: starting one takes seconds."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'kinecast[ray]'")
    started = cluster.RayCluster(Worker(SETTINGS), "local", 2)
    yield
    started.close(failed=False)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_a_busy_worker() -> bool:
    """Send SIGKILL to a process of our Ray session that is at a task."""
    psutil = pytest.importorskip("psutil")
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name().startswith("ray::_do") or child.cmdline()[0].startswith("ray::_do"):
                os.kill(child.pid, signal.SIGKILL)
                return True
        except (psutil.Error, IndexError, ProcessLookupError):
            continue
    return False


@pytest.mark.slow
def test_a_killed_worker_changes_no_bit(two_workers, folder: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("dcor")
    pytest.importorskip("scoringrules")
    studies = (
        Study("single", "reconstruction", (Horizon(3, 2),), ("gru",), samples=4, keep=2),
        Study("diverse", "transfer", (Horizon(3, 2),), (), windows=1, samples=5, keep=2),
    )
    training = {"steps": 2, "batch_size": 4}
    config = RunConfig(folder, "clips", studies, validate="id1", backbone=str(weights), training=training, device="cpu")
    evaluate(config, tmp_path / "one")
    killed: list[str] = []

    def kill(stage: str, count: int) -> None:
        if stage not in killed and stage != "detect" and kill_a_busy_worker():
            killed.append(stage)

    result = evaluate(config, tmp_path / "ray", ray="local", progress=kill)
    assert killed, "no worker was at a task when another task was done"
    assert list(result.skipped) == ["id1_damaged"]
    alone, spread = hashes(tmp_path / "one"), hashes(tmp_path / "ray")
    assert alone == spread and len(alone) > 3 + 5 + 10  # motion, models, units


@pytest.mark.slow
def test_commands_give_the_files_of_one_process(two_workers, folder: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    common = ["--model", str(weights), "--device", "cpu", "--limit", "8", "--json"]
    rate = ["research", "rate", str(folder / "id1_a.mp4"), *common, "--part", "losses", "--forecast", "damped"]
    for where, spread in (("one", []), ("ray", ["--ray", "local"])):
        assert main(["extract", str(folder), *common, "-o", str(tmp_path / where / "motion"), *spread]) == 0
        assert main([*rate, "-o", str(tmp_path / where / "rate"), *spread]) == 0
    for made in ("motion", "rate/units"):
        alone, spread_over = (
            {name: sha for name, sha in hashes(tmp_path / where / made).items() if name.endswith(".npz")}
            for where in ("one", "ray")
        )
        assert alone == spread_over and len(alone) >= 3


@pytest.mark.slow
def test_every_node_must_have_the_same_measures(two_workers, folder: Path, weights: Path, tmp_path: Path) -> None:
    clip = folder / "id1_a.mp4"
    settings = RateSettings(
        *(str(weights), "", "cpu", "eager", "exact", "auto", "", ("hold",), 0, ("mae", "warmth")),
        *(None, 4, "center", None, 4, tmp_path),
    )
    with WorkerPool(RateWorker(settings), ray="local") as pool, pytest.raises(KinecastError) as error:
        measure_rates(pool, settings, [clip], [Exact()])
    assert str(error.value).startswith("a worker: expected the measures mae, warmth, found otherwise: ")
    assert str(error.value).endswith("install the same packages on every node")


class Reader(Worker):
    def read(self, path: Path) -> TaskResult:
        return TaskResult(self.at(path).read_text())


@pytest.mark.slow
def test_what_a_run_made_is_copied_to_a_node_that_lacks_it(two_workers, tmp_path, monkeypatch) -> None:
    """The body of a cluster's process, in this one: on one machine every file is there already."""
    ray = sys.modules["ray"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "_kept", None)
    made = Path("models/made.txt")
    task = Task("read", (made,), needs=(made,))
    result = cluster._run(Reader(SETTINGS), task, "/nowhere", {made: ray.put(b"motion")})
    assert result.value == "motion" and not made.exists()


@pytest.mark.slow
def test_what_the_user_names_must_be_on_every_node(two_workers, tmp_path: Path) -> None:
    spread = cluster.RayCluster(Worker(SETTINGS), "local", 2)
    lacking = Task("anything", (), reads=(tmp_path / "clip.mp4",))
    with pytest.raises(KinecastError) as error:
        list(spread.map([lacking]))
    spread.close(failed=True)
    words = "clip.mp4: expected it on every node of the Ray cluster, found none on "
    assert words in str(error.value) and "\n" not in str(error.value)


def test_without_ray_one_line_says_what_to_install(folder, weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["extract", str(folder), "-o", str(tmp_path / "m"), "--model", str(weights), "--ray", "local"]
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "kinecast: --ray: expected the package ray, found none: pip install 'kinecast[ray]'"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "auto"])
def test_an_address_without_a_cluster_is_said_at_once(address: str, folder, weights, tmp_path, monkeypatch, capsys):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'kinecast[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address == "auto":
        monkeypatch.setattr(ray, "init", _nobody)  # a developer's own cluster is none of a test's business
    command = ["extract", str(folder), "-o", str(tmp_path / "m"), "--model", str(weights), "--ray", address]
    assert main(command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"kinecast: ray {address!r}: expected the address HOST:PORT of a running cluster, found: ")


def _nobody(**options: object) -> None:
    raise ConnectionError("Could not find any running Ray instance.")
