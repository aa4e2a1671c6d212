"""Forecasts are those of a golden file, which the plain implementation wrote: every module called, a frame at a time.

What made forecasting fast since (constants kept, weights put together, distributions not built) must change no sample.
Weights are of a formula, so that neither the order of initialisation nor its random numbers matter. After a change of a
model that is meant, `PYTHONPATH=tests python tests/forecasting/test_golden.py` writes the file anew.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ar_motion import ar_windows
from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.forecasting.gru_snf import GRUSNF

GOLDEN = Path(__file__).parents[1] / "golden" / "forecasts.npz"
N, H, D = 6, 4, 5

# The `published` presets of version 0.1: other models than the printed ones, whose files must still load and forecast.
_WAS: dict[str, Any] = {"channels": "joint", "identity": 0, "normalization": "training", "dropout": 0.0}
_GRU_WAS = _WAS | {"hidden": 8, "read_out": 8, "rollout": False, "error": "squared"}
_FLOW_WAS = _WAS | {"hidden": 8, "blocks": 3, "flow_hidden": 8, "flow_layers": 5, "variable": "position"}
_VRNN_WAS = _WAS | {"hidden": 8, "latent": 3, "mlp": 8, "latent_features": 8, "loading": False, "noise": "gaussian"}
_FLOW: dict[str, Any] = {"hidden": 8, "blocks": 3, "flow_hidden": 8}
_EXACT: dict[str, Any] = {"energy": "exact", "acceptance": "joint"}
_VRNN: dict[str, Any] = {"hidden": 8, "latent": 3, "mlp": 8}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gru": ("gru", "kinecast", {"hidden": 8, "read_out": 8}),
    "gru-published": ("gru", "kinecast", _GRU_WAS),
    "nf": ("nf", "kinecast", {"blocks": 2, "hidden": 8}),
    "vae": ("vae", "kinecast", {"latent": 3, "mlp": 8}),
    "gru-nf": ("gru-nf", "kinecast", _FLOW),
    "gru-nf-large-flow": ("gru-nf", "kinecast", _FLOW | {"flow_hidden": 160}),
    "gru-nf-published": ("gru-nf", "kinecast", _FLOW_WAS | {"layers": 2}),
    "gru-nf-position": ("gru-nf", "kinecast", _FLOW | {"variable": "position", "identity": 0, "batch_norm": False}),
    "gru-snf": ("gru-snf", "kinecast", _FLOW),
    "gru-snf-head": ("gru-snf", "kinecast", _FLOW | {"mean": "head"}),
    "gru-snf-langevin": ("gru-snf", "kinecast", _FLOW | {"kernel": "langevin", "epsilon": 0.2}),
    "gru-snf-exact": ("gru-snf", "kinecast", _FLOW | _EXACT),
    "gru-snf-exact-langevin": (
        "gru-snf",
        "kinecast",
        _FLOW_WAS | _EXACT | {"layers": 3, "kernel": "langevin", "epsilon": 0.2},
    ),
    "vrnn": ("vrnn", "kinecast", _VRNN),
    "vrnn-gaussian": ("vrnn", "kinecast", _VRNN | {"noise": "gaussian", "loading": False, "identity": 0}),
    "vrnn-published": ("vrnn", "kinecast", _VRNN_WAS),
    "vrnn-released": ("vrnn-released", "released", {"hidden": 8, "latent": 3, "fc": 8}),
    "direct": ("direct", "kinecast", {"hidden": 8, "mlp": 8, "read_out": 8, "members": 2}),
    "direct-longer": ("direct", "kinecast", {"hidden": 8, "mlp": 8, "read_out": 8, "members": 1, "longest": 3}),
}


def build(case: str) -> Forecaster:
    name, preset, overrides = CASES[case]
    model = build_forecaster(name, D, preset, **overrides)
    model.fit(ar_windows(30, N + H, D), N)
    with torch.no_grad():
        for i, (key, parameter) in enumerate(model.named_parameters()):
            values = torch.cos(1.7 * torch.arange(parameter.numel()) + i).view_as(parameter)
            parameter.copy_(1 + 0.3 * values if "variance" in key else 0.4 * values)
        if isinstance(model, GRUSNF):
            model.head_weight.copy_(torch.sin(torch.arange(model.head_weight.numel())).view_as(model.head_weight))
            model.head_fitted.fill_(1.0)
    return model.eval()


def figures(case: str) -> dict[str, torch.Tensor]:
    """Return forecasts of two windows and of one, and predictions one step ahead."""
    model, windows = build(case), ar_windows(3, N + H, D)
    with torch.no_grad():
        return {
            "two": model.forecast(windows[:2, :N], H, samples=3, seed=1),
            "one": model.forecast(windows[2:, :N], 2 * H, samples=1, seed=2),
        }


@pytest.mark.parametrize("case", list(CASES))
def test_forecasts_are_the_golden_ones(case: str) -> None:
    with np.load(GOLDEN) as golden:
        for name, tensor in figures(case).items():
            expected = torch.from_numpy(golden[f"{case} {name}"])
            assert expected.std() > 1e-3  # of something that moves
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-5)


def test_the_golden_file_has_these_cases_and_no_other() -> None:
    with np.load(GOLDEN) as golden:
        assert {key.rsplit(" ", 1)[0] for key in golden} == set(CASES)


if __name__ == "__main__":
    arrays: dict[str, Any] = {f"{c} {n}": t.numpy() for c in CASES for n, t in figures(c).items()}
    np.savez_compressed(GOLDEN, **arrays)
