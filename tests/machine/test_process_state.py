"""Settings of the whole process are put back, whatever happens between."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from kinecast.machine.process_state import denormals_flushed, flushes_denormals, kernels_measured, seeded, threads

SETTINGS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any], Any]] = {
    "threads": (lambda: threads(2), torch.get_num_threads, 2),
    "denormals": (denormals_flushed, flushes_denormals, True),
    "cuDNN": (kernels_measured, lambda: torch.backends.cudnn.benchmark, True),
    "seed": (lambda: seeded(5), lambda: torch.get_rng_state().tolist(), None),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("fails", [False, True])
def test_what_was_set_is_put_back(name, fails):
    change, read, wanted = SETTINGS[name]
    before = read()
    try:
        with change():
            assert read() != before
            assert wanted is None or read() == wanted
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert read() == before


def test_one_that_was_set_already_stays():
    torch.set_flush_denormal(True)
    try:
        with denormals_flushed():
            pass
        assert flushes_denormals()
    finally:
        torch.set_flush_denormal(False)
    assert not flushes_denormals()


def test_a_seed_repeats():
    def draw() -> torch.Tensor:
        with seeded(5):
            return torch.rand(3)

    assert torch.equal(draw(), draw())
