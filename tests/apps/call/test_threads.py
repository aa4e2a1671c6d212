"""A call computes with its share of the cores, and leaves the process as many threads as it had."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from apps.call.ends import config
from kinecast.apps.call import models

SHARE = 3


@pytest.fixture(autouse=True)
def share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_share", lambda: SHARE)


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("fails", [False, True])
def test_models_are_loaded_for_the_threads_that_run_them(monkeypatch, fails):
    def load(_: Any) -> int:
        if fails:
            raise ValueError
        return torch.get_num_threads()

    monkeypatch.setattr(models, "_load", load)
    before = torch.get_num_threads(), threads_of_a_new_thread()
    assert SHARE not in before
    if fails:
        with pytest.raises(ValueError):
            models.load_models(config())
    else:
        assert models.load_models(config()) == SHARE
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == before


def test_a_worker_gives_its_threads_back():
    before = torch.get_num_threads(), threads_of_a_new_thread()
    first, second = models.worker("first"), models.worker("second")
    assert [each.submit(torch.get_num_threads).result() for each in (first, second)] == [SHARE, SHARE]
    first.shutdown()
    second.shutdown()
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == before
