"""Settings of torch that belong to the whole process, set for a while and put back.

A library that leaves them changed changes its user's other numbers, and the speed of everything that runs later.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads: those that the calling thread starts, and every new thread's."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take denormal numbers for zero.

    The processor keeps this a thread, and a thread takes it from the one that starts it. The calling thread's is put
    back; torch's own workers that were started meanwhile keep it, for nothing reaches them.
    """
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether this thread takes denormal numbers for zero: torch can set it, and not say it."""
    return not bool((torch.tensor([1e-40]) * 1.0).any())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators, of the CPU and of every CUDA device, and put their states back in the end."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def kernels_measured() -> Iterator[None]:
    """Let cuDNN measure which of its kernels is fastest, which pays where all inputs are of one size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
