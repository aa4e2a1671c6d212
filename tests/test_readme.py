"""What the README promises a newcomer: its Python runs, its commands and links exist."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.main import get_command

from kinecast.cli import app
from kinecast.media.video import VideoWriter, probe, read_frames
from kinecast.packages import shipped_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (kinecast .*?)(?:\s+#.*)?$", README, re.MULTILINE)
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
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_the_animation_is_small_enough_for_a_page():
    assert (ROOT / "docs/images/animation.webp").stat().st_size < 3e6
