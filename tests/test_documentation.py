"""What the README and the documentation promise: their examples run, their commands and links exist."""

import ast
import inspect
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.main import get_command

import kinecast
from kinecast import load_forecaster
from kinecast.cli import app
from kinecast.errors import KinecastError
from kinecast.forecasting import FORECASTERS, build_forecaster
from kinecast.forecasting.storage import save_forecaster
from kinecast.media.video import VideoWriter, probe, read_frames
from kinecast.packages import shipped_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PAGES = README + "".join(path.read_text() for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md")))
COMMANDS = sorted(set(re.findall(r"^    (kinecast .*?)(?:\s+#.*)?$", PAGES, re.MULTILINE)))
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)", README)


def test_the_python_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_file("skimage", "data/astronaut.png"), "me.png")
    face = next(read_frames("me.png", 128, "face"))
    with VideoWriter("clip.mp4", 25) as writer:
        writer.write(np.stack([face, face]))
    (block,) = PYTHON
    frames = torch.rand(12, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    names = {"frames": frames}
    exec(compile(block, "README.md", "exec"), names)
    assert probe("moved.mp4").width == 512
    assert names["video"].shape == frames.shape
    assert names["futures"].shape == (20, 1, 12, 60)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists_with_its_options(line):
    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while getattr(command, "commands", None):
        default = getattr(command, "default_command", None)
        named = default is None or words[0] in command.commands
        command = command.commands[words.pop(0) if named else default]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known


def calls():
    """Yield what pages call of kinecast: where, the function's name, how many arguments, and those by name."""
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))):
        for block in re.findall(r"^```python\n(?!--8<--)(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Call) and re.fullmatch(r"kinecast\.\w+", ast.unparse(node.func)):
                    name = ast.unparse(node.func).removeprefix("kinecast.")
                    names = [str(each.arg) for each in node.keywords]
                    yield pytest.param(name, len(node.args), names, id=f"{path.stem}-{name}")


@pytest.mark.parametrize("name, count, names", list(calls()))
def test_a_call_has_the_arguments_of_its_function(name, count, names):
    inspect.signature(getattr(kinecast, name)).bind(*range(count), **dict.fromkeys(names))


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_the_forecaster_of_the_tutorial_is_saved_and_forecasts(tmp_path, monkeypatch):
    monkeypatch.setitem(FORECASTERS, "mean-velocity", None)  # and forgotten again
    names = runpy.run_path(str(ROOT / "docs/examples/mean_velocity.py"))
    windows = torch.randn(5, 6, 2, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)
    model = build_forecaster("mean-velocity", 2)
    with pytest.raises(KinecastError, match="fitted"):
        model.forecast(windows[:, :3], 3)
    model.fit(windows, 3)
    save_forecaster(model, tmp_path / "mine.safetensors")
    loaded = load_forecaster(tmp_path / "mine.safetensors", "cpu")
    assert type(loaded) is names["MeanVelocity"]
    futures = loaded.forecast(windows[:, :3], 4, samples=7, seed=1)
    assert futures.shape == (7, 5, 4, 2) and futures.std(dim=0).min() > 0
    torch.testing.assert_close(futures, model.forecast(windows[:, :3], 4, samples=7, seed=1))


@pytest.mark.parametrize(
    "page, file", [("backbone", "tests/toy_backbone.py"), ("forecaster", "docs/examples/mean_velocity.py")]
)
def test_a_tutorial_includes_its_example(page, file):
    text = (ROOT / f"docs/tutorials/{page}.md").read_text()  # in a form that `ruff format` does not take for Python
    assert f"```python\n--8<--\n{file}\n--8<--\n```" in text and (ROOT / file).exists()


def test_the_animation_is_small_enough_for_a_page():
    assert (ROOT / "docs/images/animation.webp").stat().st_size < 3e6
