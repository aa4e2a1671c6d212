"""What the README promises a newcomer: its Python runs, its commands and links exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from kinecast.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (kinecast .*?)(?:\s+#.*)?$", README, re.MULTILINE)
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)", README)


def test_the_python_block_runs():
    (block,) = PYTHON
    frames = torch.rand(12, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    names = {"frames": frames}
    exec(compile(block, "README.md", "exec"), names)
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
