import importlib.util
from pathlib import Path

import pytest
import torch

from ar_motion import ar_motion, ar_windows
from kinecast.forecasting import build_forecaster

pytest.importorskip("scoringrules")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage_by_person.py"


def test_the_factor_of_a_persons_past_reads_no_later_frame() -> None:
    if not SCRIPT.exists():
        pytest.skip("benchmarks are not part of this copy")
    spec = importlib.util.spec_from_file_location("coverage_by_person", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    torch.manual_seed(0)
    model = build_forecaster("transformer", 4, width=8, heads=2, members=1, longest=4)
    model.fit(ar_windows(frames=16), 12)
    motion, now = ar_motion(40, 4, seed=3), 20
    other = torch.cat([motion[:now], motion[now:] + 100])
    factors = [script.factor(script.past_scores(model.eval(), each, 4), now, 12.0) for each in (motion, other)]
    assert factors[0] == factors[1] != 1.0
    assert script.factor(script.past_scores(model, other, 4), now + 1, 12.0) != factors[0]  # once it is seen, it counts
    assert script.factor(script.past_scores(model, motion, 4), now, float("inf")) == 1.0
