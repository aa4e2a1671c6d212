"""The median of samples.

`torch.median` returns the lower middle for an even number, which biases feedback over many steps.
"""

from torch import Tensor


def sample_median(samples: Tensor) -> Tensor:
    """Return the median over samples (S, ...), number by number: of an even S the mean of the two in the middle.

    As `Tensor.quantile(0.5, dim=0)`, which refuses more than 2^24 numbers.
    """
    ordered = samples.sort(dim=0).values
    return (ordered[(len(samples) - 1) // 2] + ordered[len(samples) // 2]) / 2
