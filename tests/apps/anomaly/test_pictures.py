"""The second after a forecast, as pictures: where surprise is, when the forecast is made, and what is written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import toy_backbone
from kinecast.apps.anomaly import ScorerConfig, scorer_of
from kinecast.apps.anomaly.pictures import draw_preview, horizon_of, preview, surprise_of, when
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from toy_backbone import Toy, ToyConfig


@pytest.fixture
def toy() -> Iterator[Toy]:
    """A backbone of which a patch of colour tints that quarter of the source."""
    with toy_backbone.registered():
        model = Toy(ToyConfig()).eval()
        with torch.no_grad():
            nn.init.dirac_(model.strength.weight)
            assert model.strength.bias is not None
            model.strength.bias.zero_()
        yield model


def test_surprise_is_where_what_came_differs(toy: Toy, tmp_path: Path) -> None:
    """The lower right quarter lights up in frame 8; a forecast made before it expects it to stay dark."""
    frames = torch.full((12, 3, 32, 32), 0.2)
    frames[8:, :, 16:, 16:] = 0.8
    motion = toy.detect(frames).vectors()
    model = build_forecaster("repeat", motion.shape[1])
    scorer = scorer_of(model, {"normal": motion[:8] + 0.01 * torch.randn(8, 13)}, ScorerConfig(4, 2, 2))
    made = preview(toy, scorer, motion, [frames[0], *frames[7:11]], made_at=6)
    assert made.frames == (7, 8, 9, 10) and made.surprise.shape == (4, 32, 32)
    torch.testing.assert_close(made.observed, frames[7:11])
    assert made.surprise[0].max() < 1e-6 and made.expected.max() < 0.21
    later = made.surprise[1:]
    torch.testing.assert_close(later[:, 16:, 16:], torch.full((3, 16, 16), 0.6))
    assert later[:, :16].max() < 1e-6 and later[:, :, :16].max() < 1e-6

    for suffix, head in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        draw_preview(tmp_path / f"forecasts.{suffix}", made, "a title", fps=10.0, fault=8)
        assert (tmp_path / f"forecasts.{suffix}").read_bytes().startswith(head)
    svg = (tmp_path / "forecasts.svg").read_text()
    for words in ("a title", "observed", "forecast", "surprise", "8: +0.20 s", "fault"):
        assert f"<!-- {words} -->" in svg


def test_surprise_is_the_fair_score_of_the_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    futures, came = torch.rand(5, 2, 3, 4, 4, generator=generator), torch.rand(2, 3, 4, 4, generator=generator)
    apart = torch.stack([(futures[i] - futures[j]).abs() for i in range(5) for j in range(5) if i != j]).mean(dim=0)
    wanted = ((futures - came).abs().mean(dim=0) - apart / 2).clamp_min(0).mean(dim=1)
    torch.testing.assert_close(surprise_of(futures, came), wanted, atol=1e-6, rtol=1e-5)
    assert surprise_of(came.expand(2, *came.shape), came).max() < 1e-6


def test_when_a_forecast_is_made() -> None:
    scores = [None, None, 1.0, 5.0, 2.0, 1.0, 1.0]
    assert when(4, None, scores, 2) == 3  # just before the alarm
    assert when(4, 6, scores, 2) == 5  # before the fault that is known
    assert when(None, None, scores, 2) == 2  # before the largest score
    assert when(1, None, scores, 3) == 2  # not before N frames were seen
    with pytest.raises(KinecastError, match="use a longer clip"):
        when(None, 7, scores, 2)
    assert horizon_of(3, 20, 10.0) == 10 and horizon_of(15, 20, 10.0) == 4 and horizon_of(3, 40, None) == 25
