"""Process-wide settings of torch, set temporarily and restored.

Left changed, they would alter the user's other results and the speed of everything that runs later.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, in the calling thread and in new ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Flush denormal numbers to zero.

    The setting is per thread and inherited from the starting thread. The calling thread's is restored; torch's own
    workers started meanwhile keep it, as nothing can reach them.
    """
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether this thread flushes denormal numbers to zero; torch can set it but not report it."""
    return not bool((torch.tensor([1e-40]) * 1.0).any())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators (CPU and every CUDA device) and restore their states at the end."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def kernels_measured() -> Iterator[None]:
    """Let cuDNN benchmark its kernels, which pays if all inputs have one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
