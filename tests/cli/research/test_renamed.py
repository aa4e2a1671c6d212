"""Commands of studies are in a group of their own; under their old names they run still, and say the new one."""

import pytest

from kinecast.cli import main

RENAMED = [
    *(
        ("evaluate", name, "research", name)
        for name in ("keypoints", "synthetic", "single", "diverse", "paper", "rate")
    ),
    ("data", "arms", "research", "arms"),
]


@pytest.mark.parametrize(("group", "name", "now", "new"), RENAMED)
def test_both_names_are_one_command(group, name, now, new, capsys):
    pages = []
    for words in ((group, name), (now, new)):
        assert main([*words, "--help"]) == 0
        pages.append(capsys.readouterr().out.partition("Options")[2])
    assert pages[0] and pages[0] == pages[1]


def test_an_old_name_says_the_new_one_in_a_line(tmp_path, capsys):
    assert main(["evaluate", "synthetic", "-o", str(tmp_path), "--models", "oracle"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("kinecast: warning: `kinecast evaluate synthetic` is now `kinecast research synthetic`")
    assert "oracle" in error


def test_old_names_are_not_listed(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert "research" in page and "evaluate" not in page
