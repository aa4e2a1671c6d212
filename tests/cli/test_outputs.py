"""Outputs: none replaces what is read, under whatever name, and a bad one is found before any work."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import typer

from helpers import make_clip
from kinecast import cli
from kinecast.apps.pipeline import Report
from kinecast.cli.outputs import Writes, marked
from kinecast.files import check_output
from kinecast.motion import Motion

OUTPUT_NAMES = {"output", "report", "record", "cache", "preview", "blendshapes"}


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a model or motion is loaded: all work begins with one of them."""

    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("work began")

    for name in ("load_backbone", "load_forecaster", "forecaster_for"):
        monkeypatch.setattr(f"kinecast.zoo.{name}", work)
    monkeypatch.setattr("kinecast.motion.Motion.load", staticmethod(work))
    monkeypatch.setattr("kinecast.data.keypoint_store.load_series", work)
    monkeypatch.setattr("kinecast.models.checkpoints.import_published", work)
    monkeypatch.setattr("kinecast.media.video.probe", work)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a clip is opened to be read."""
    opened: Any = av.open

    def write_only(file: Any, mode: str = "r", **options: Any) -> Any:
        assert mode == "w", f"{file} was opened"
        return opened(file, mode, **options)

    monkeypatch.setattr(av, "open", write_only)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one file of each kind that commands read, and folders of clips, pictures and motion."""
    make_clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "in.mov").write_bytes((tmp_path / "in.mp4").read_bytes())
    for folder in ("clips", "motion", "out"):
        (tmp_path / folder).mkdir()
    make_clip(tmp_path / "clips/a.mp4", frames=3)
    make_clip(tmp_path / "out/transfer.mp4", frames=3)
    value = torch.rand(30, 3, 2)
    for name in ("in.npz", "out-01.npz", "motion/a.npz"):
        Motion("fomm", {"value": value}, fps=25, clip="a").save(tmp_path / name)
    for name in ("in.kcm", "in.safetensors", "in.json"):
        (tmp_path / name).write_bytes(b"something of the user's")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Command, and the file or folder that is read and named as an output too.
SLIPS = [
    (["animate", "--driving", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["animate", "--driving", "clips/a.mp4", "--source", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["animate", "--driving", "in.mp4", "--model", "in.json", "-o", "x.mp4", "--report", "OUT"], "in.json"),
    (["encode", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["encode", "in.mp4", "--model", "in.kcm", "-o", "OUT"], "in.kcm"),
    (["decode", "in.kcm", "-o", "OUT"], "in.kcm"),
    (["extract", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["extract", "clips", "-o", "OUT"], "clips"),
    (["extract", "clips/a.mp4", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["forecast", "in.npz", "-o", "OUT"], "in.npz"),
    (["train", "forecaster", "--data", "in.npz", "-o", "OUT"], "in.npz"),
    (["train", "backbone", "--data", "clips", "-o", "OUT"], "clips"),
    (["research", "rate", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["research", "keypoints", "--data", "motion", "-o", "OUT"], "motion"),
    (["research", "single", "--dataset", "clips", "-o", "OUT"], "clips"),
    (["research", "diverse", "--dataset", "clips", "-o", "out", "--cache", "OUT"], "clips"),
    (["research", "paper", "--dataset", "clips", "--sources", "motion", "-o", "OUT"], "motion"),
    (["anomaly", "in.npz", "--normal", "motion", "-o", "OUT"], "motion"),
    (["anomaly", "clips", "--normal", "motion", "-o", "OUT"], "clips"),
    (["benchmark", "--clip", "in.mp4", "-o", "OUT"], "in.mp4"),
    (["benchmark", "--model", "mine=in.safetensors+vrnn", "-o", "OUT"], "in.safetensors"),
    (["zoo", "import", "in.safetensors", "-o", "OUT"], "in.safetensors"),
    (["call", "--headless", "--input", "in.mp4", "--output", "OUT"], "in.mp4"),
    (["call", "--avatar", "in.mov", "--record", "OUT"], "in.mov"),
    (["demo", "--driving", "out/transfer.mp4", "-o", "out"], "out/transfer.mp4"),
    (["forecast", "out-01.npz", "--samples", "2", "-o", "out.npz"], "out-01.npz"),
]


def _spelled(way: str, path: Path) -> str:
    """Return another name of what is at `path`."""
    if way == "relative":
        return f"./out/../{path}"
    name = path.with_name(f"{way}-{path.name}")
    if way == "symbolic link":
        name.symlink_to(path.absolute())
    elif way == "hard link" and path.is_file():
        os.link(path, name)
    return str(name if name.exists() else path)


@pytest.mark.parametrize("way", ["same", "relative", "symbolic link", "hard link"])
@pytest.mark.parametrize(
    ("command", "read"), SLIPS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_no_output_replaces_what_is_read(
    run: Callable[..., Any], place: Path, idle: None, command: list[str], read: str, way: str
) -> None:
    output = _spelled(way, Path(read))
    before = _contents(place)
    result = run(*(output if word == "OUT" else word for word in command))
    assert result.code == 1 and len(result.error_lines) == 1, result.err
    assert "cannot write" in result.error_lines[0] and "input" in result.error_lines[0]
    assert _contents(place) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


# Command with a place for the output, and outputs that cannot be written, with what is said of them.
UNFIT = [
    (["animate", "--driving", "in.mp4", "-o", "OUT"], [("no/x.mp4", "No such file"), ("x.avi", "'.avi'")]),
    (["animate", "--driving", "in.mp4", "-o", "x.mp4", "--report", "OUT"], [("no/r.json", "No such file")]),
    (["animate", "--driving", "in.mp4", "-o", "x.mp4", "--report", "OUT"], [("r.txt", ".json"), ("out", "a folder")]),
    (["animate", "--driving", "in.mp4", "-o", "x.mp4", "--report", "OUT"], [("x.mp4", ".json")]),
    (["encode", "in.mp4", "-o", "OUT"], [("no/x.kcm", "No such file"), ("x.mp4", ".kcm"), ("out", "a folder")]),
    (["decode", "in.kcm", "-o", "OUT"], [("no/x.mp4", "No such file"), ("x", "none")]),
    (["extract", "in.mp4", "-o", "OUT"], [("no/x.npz", "No such file"), ("holiday.mp4", ".npz"), ("out", "a folder")]),
    (["extract", "in.mp4", "clips/a.mp4", "-o", "OUT"], [("in.npz", "found a file"), ("in.npz/x", "found a file")]),
    (["forecast", "in.npz", "-o", "OUT"], [("no/x.npz", "No such file"), ("x.mp4", ".npz")]),
    (
        ["train", "forecaster", "--data", "in.npz", "-o", "OUT"],
        [("x.ckpt", ".safetensors"), ("in.kcm/x.safetensors", "")],
    ),
    (["train", "backbone", "--data", "clips", "-o", "OUT"], [("in.npz", "found a file")]),
    (["zoo", "import", "in.kcm", "-o", "OUT"], [("no/x.safetensors", "No such file"), ("x.pth", ".safetensors")]),
    (["research", "rate", "in.mp4", "-o", "OUT"], [("in.npz", "found a file")]),
    (["research", "synthetic", "-o", "OUT"], [("in.npz/x", "found a file")]),
    (["research", "single", "--dataset", "clips", "-o", "OUT"], [("in.npz", "found a file")]),
    (["anomaly", "in.npz", "--normal", "motion", "-o", "OUT"], [("in.kcm", "found a file")]),
    (["benchmark", "-o", "OUT"], [("in.npz", "found a file")]),
    (["research", "arms", "-o", "OUT"], [("in.npz", "found a file")]),
    (["demo", "-o", "OUT"], [("in.npz", "found a file")]),
    (["call", "--headless", "--input", "in.mp4", "--output", "OUT"], [("no/x.mp4", "No such file"), ("x", "none")]),
    (["call", "--headless", "--input", "in.mp4", "--output", "x.mp4", "--record", "OUT"], [("x.mp4", "two outputs")]),
]


@pytest.mark.parametrize(
    ("command", "output", "words"), [(command, *each) for command, unfit in UNFIT for each in unfit]
)
def test_an_unfit_output_is_found_before_any_work(
    run: Callable[..., Any], place: Path, idle: None, command: list[str], output: str, words: str
) -> None:
    before = _contents(place)
    result = run(*(output if word == "OUT" else word for word in command))
    assert result.code == 1 and len(result.error_lines) == 1, result.err
    assert words in result.error_lines[0]
    assert _contents(place) == before


def _commands(group: typer.Typer = cli.app) -> Iterator[Callable[..., Any]]:
    yield from (each.callback for each in group.registered_commands if each.callback)
    for each in group.registered_groups:
        if each.typer_instance:
            yield from _commands(each.typer_instance)


def test_every_command_is_guarded_and_marks_its_outputs() -> None:
    """So that a new command, or a new output of an old one, cannot be forgotten."""
    commands = list(_commands())
    assert len(commands) >= 22
    for command in commands:
        inner = getattr(command, "__wrapped__", None)
        assert inner is not None, f"{command.__name__} is not guarded"
        named = {name for name in inner.__annotations__ if name in OUTPUT_NAMES}
        assert set(marked(inner, Writes)) == named, command.__name__


def test_a_name_that_a_command_makes_up_replaces_no_input_either(
    run: Callable[..., Any], place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last resort: here the weights are read from where, by chance, the report is then written."""

    def report(self: Report) -> dict[str, Any]:
        check_output(tiny)
        raise AssertionError("the weights could be replaced")

    monkeypatch.setattr(Report, "to_dict", report)
    result = run("animate", "--driving", "in.mp4", "-o", "x.mp4", "--model", tiny, "--json")
    assert result.code == 1 and "found an input" in result.error_lines[0]


def test_suffixes_in_capitals(run: Callable[..., Any], place: Path, tiny: Path) -> None:
    tiny = Path(shutil.copy(tiny, place / "TINY.SAFETENSORS"))
    assert run("extract", "in.mp4", "-o", "M.NPZ", "--model", tiny).code == 0
    result = run("animate", "--driving", "M.NPZ", "--source", "in.mp4", "-o", "X.MP4", "--model", tiny)
    assert result.code == 0 and Path("X.MP4").exists(), result.err
    assert run("encode", "in.mp4", "-o", "S.KCM", "--model", tiny).code == 0
    assert run("decode", "S.KCM", "-o", "Y.WEBM", "--model", tiny).code == 0


def test_an_earlier_output_is_replaced(run: Callable[..., Any], place: Path, tiny: Path) -> None:
    for _ in range(2):
        assert run("extract", "in.mp4", "-o", "in.npz", "--model", tiny).code == 0
    assert len(Motion.load("in.npz")) == 3


def test_imported_weights_take_no_name_that_is_taken(run: Callable[..., Any], place: Path, idle: None) -> None:
    (place / "in.pth.tar").write_bytes(b"weights")
    before = _contents(place)
    result = run("zoo", "import", "in.pth.tar")
    assert result.code == 1 and "use -o to replace it" in result.error_lines[0]
    assert _contents(place) == before


@pytest.mark.parametrize("option", [("--crop", "square"), ("--fps", "0"), ("--fps", "nan"), ("--limit", "0")])
@pytest.mark.parametrize("command", ["animate --driving", "extract", "encode", "evaluate rate"])
def test_how_a_clip_is_read_is_checked_before_it_is(
    run: Callable[..., Any],
    place: Path,
    tiny: Path,
    unread: None,
    command: str,
    option: tuple[str, str],
) -> None:
    suffix = {"extract": ".npz", "encode": ".kcm"}.get(command, ".mp4" if "animate" in command else "")
    result = run(*command.split(), "in.mp4", "-o", f"out/x{suffix}", "--model", tiny, *option)
    assert result.code == 1 and option[0].strip("-") in result.error_lines[0], result.err


@pytest.mark.parametrize("option", [("--quality", "10"), ("--profile", "foreign"), ("--picture-quality", "0")])
def test_encoding_is_checked_before_the_clip_is_read(
    run: Callable[..., Any], place: Path, tiny: Path, unread: None, option: tuple[str, str]
) -> None:
    result = run("encode", "in.mp4", "-o", "x.kcm", "--model", tiny, *option)
    assert result.code == 1 and len(result.error_lines) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quality", 52], "quality"),
        (["--source", "gone.png"], "gone.png"),
        (["--source", "in.kcm"], "in.kcm"),
        (["--source", "in.mov", "--source-crop", "square"], "square"),
        (["--samples", 5], "--forecast"),
        (["--horizon", "3-2"], "--forecast"),
        (["--forecast", "repeat", "--limit", 10], "needs at least 24"),
    ],
)
def test_animating_is_checked_before_the_first_frame_is_detected(
    run: Callable[..., Any], place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], words: str
) -> None:
    monkeypatch.setattr("kinecast.apps.pipeline.extract", lambda *a, **k: pytest.fail("a frame was detected"))
    result = run("animate", "--driving", "in.mp4", "-o", "x.mp4", "--model", tiny, *arguments)
    assert result.code == 1 and words in result.error_lines[0], result.err
    assert not (place / "x.mp4").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.mp4", "--normal", "clips"], "gone.mp4"),
        (["motion", "--normal", "clips", "--model", "gone.safetensors"], "gone.safetensors"),
        (["in.mp4", "--normal", "clips", "--samples", 1], "samples"),
    ],
)
def test_anomaly_looks_at_its_input_before_the_normal_clips(
    run: Callable[..., Any], place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], words: str
) -> None:
    monkeypatch.setattr("kinecast.apps.pipeline.extract", lambda *a, **k: pytest.fail("a frame was detected"))
    result = run("anomaly", *arguments, "--backbone", tiny, "-o", "out")
    assert result.code == 1 and words in result.error_lines[0], result.err


def test_version(run: Callable[..., Any]) -> None:
    from kinecast import __version__

    result = run("--version")
    assert (result.code, result.out.strip()) == (0, f"kinecast {__version__}")


def test_an_encoder_that_is_missing_is_told_before_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinecast import KinecastError
    from kinecast.media import writer

    monkeypatch.setitem(writer._ENCODERS, ".mp4", ("libx999", "yuv420p"))
    with pytest.raises(KinecastError, match="libx999"):
        writer.VideoWriter(tmp_path / "x.mp4", 25)


def test_words_that_name_nothing_are_no_inputs(run: Callable[..., Any], place: Path) -> None:
    """A folder named as a model is: `--models gru -o gru`, run twice."""
    (place / "repeat").mkdir()
    np.save(place / "motion/b.npy", np.zeros((30, 18), np.float32))
    result = run("research", "synthetic", "--models", "repeat", "-o", "repeat", "--process", "oscillator", "--seeds", 0)
    assert "cannot write" not in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sources", "gone"], "expected a folder of source pictures or clips"),
        (["--sources", "motion"], "found none in it"),
        (["--models", "gru,oracle"], "'oracle'"),
        (["--models", "gone.safetensors"], "gone.safetensors"),
        (["--jedi-weights", "gone"], "gone"),
        (["--crop", "square"], "square"),
    ],
)
def test_an_evaluation_looks_for_what_it_names_before_it_detects(
    run: Callable[..., Any],
    place: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.setattr("kinecast.research.run.detect_task", lambda *a: pytest.fail("a clip was detected"))
    make_clip(place / "clips/b.mp4", frames=3)
    command = ("research", "single", "--dataset", "clips", "--validate", "a", "--mode", "transfer", "--backbone", tiny)
    result = run(*command, "-o", "out", "--device", "cpu", *arguments)
    assert result.code == 1 and len(result.error_lines) == 1 and words in result.error_lines[0], result.err


@pytest.mark.parametrize("arguments", [["--frames", 5], ["--fps", 0], ["--limit", 0]])
def test_a_benchmark_checks_its_numbers_before_it_loads_a_model(
    run: Callable[..., Any], place: Path, idle: None, arguments: list[Any]
) -> None:
    result = run("benchmark", "--clip", "in.mp4", *arguments)
    assert result.code == 1 and arguments[0].strip("-") in result.error_lines[0], result.err


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ('initialise = "gone.safetensors"', "gone.safetensors"),
        ('[loss]\nnetwork_weights = "gone.pt"', "gone.pt"),
        ('initialise = "out/model.safetensors"', "found an input"),
        ('output = "clips"', "found an input"),
    ],
)
def test_a_recipe_is_checked_before_its_clips_are_read(
    run: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, words: str
) -> None:
    monkeypatch.setattr("kinecast.training.backbone._split", lambda *a: pytest.fail("a clip was read"))
    (place / "out/model.safetensors").write_bytes(b"weights")
    where = "" if recipe.startswith("output") else 'output = "out"\n'
    (place / "recipe.toml").write_text(f'data = ["clips"]\n{where}{recipe}\n')
    result = run("train", "backbone", "recipe.toml", "--device", "cpu")
    assert result.code == 1 and len(result.error_lines) == 1 and words in result.error_lines[0], result.err
    assert (place / "out/model.safetensors").read_bytes() == b"weights"


def test_distances_of_pictures_need_a_budget(run: Callable[..., Any], place: Path, idle: None) -> None:
    result = run("encode", "in.mp4", "-o", "x.kcm", "--terms", "pictures")
    assert result.code == 1 and "--kbps" in result.error_lines[0]
