"""`kinecast animate`: options of transfer, as they are written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinecast.cli.transfer_options import transfer_of
from kinecast.errors import KinecastError
from kinecast.models.transfer import Transfer


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ((None, None, None, "all", None, None), (None, None, Transfer())),
        ((None, True, "0.5", "all", None, 0.0), (None, True, Transfer(pose=0.5, eyes=0.5, mouth=0.5, lips_open=0.0))),
        ((None, True, "mouth=1.2, pose=0.5", "all", 0.3, None), (None, True, Transfer("relative", 0.5, 1, 1.2, 0.3))),
        (("transfer", True, None, "eyes,mouth", None, None), ("transfer", True, Transfer(pose=0))),
        (("relative", None, None, "pose", None, None), ("transfer", True, Transfer(eyes=0, mouth=0))),
        (("mixed", None, "0.8", "mouth", None, None), ("transfer", True, Transfer("mixed", 0, 0, 0.8))),
        (("absolute", None, None, "all", None, None), ("transfer", False, Transfer())),
    ],
)
def test_what_is_written_is_what_is_asked(told: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    assert transfer_of(*told) == wanted


@pytest.mark.parametrize(
    ("strength", "region", "message"),
    [
        ("much", "all", "strength: expected a number or region=number, found 'much': try 0.8 or mouth=1.2"),
        ("nose=1", "all", "region: expected all or some of pose, eyes, mouth, found 'nose'"),
        (None, "eyes,nose", "region: expected all or some of pose, eyes, mouth, found 'nose'"),
        ("4", "all", "strength of pose: expected a number from 0 to 3, found 4.0"),
    ],
)
def test_what_cannot_be_is_said(strength: str | None, region: str, message: str) -> None:
    with pytest.raises(KinecastError, match=message):
        transfer_of(None, True, strength, region, None, None)


def test_two_kinds_at_once_are_refused() -> None:
    with pytest.raises(KinecastError, match="expected one kind of transfer, found mixed and --absolute"):
        transfer_of("mixed", False, None, "all", None, None)


def test_a_model_without_the_options_refuses_them(
    run: Callable[..., Any], tiny: Path, clip: Path, tmp_path: Path
) -> None:
    call = "animate", "--driving", clip, "--source", clip, "-o", tmp_path / "a.mp4", "--model", tiny
    result = run(*call, "--relative", "--region", "mouth", "--lips", "0")
    assert result.code == 1 and result.error_lines == [
        "kinecast: transfer: expected motion that is relative or absolute with fomm, found pose, eyes, lips_open: "
        "use the model mesh, or leave it out"
    ]
    result = run(*call, "--strength", "0.5", "--absolute")
    assert "drop --absolute" in result.err and not (tmp_path / "a.mp4").exists()
