"""Distances between pictures: MAE, SSIM and PSNR per frame, and the diversity of samples (APD).

Pixels are in [0, 1], RGB. T frames, M samples.
"""

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from kinecast.errors import KinecastError

_SSIM_WINDOW = 11  # window width in pixels: sigma 1.5 cut off at 3.5 sigma
_SUMMED_TOGETHER = 8192  # pixel values summed in single precision; partial sums are added in double


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of each frame, (T,): arXiv 2504.05537, eq. 33, before its mean over frames.

    Args:
        prediction: frames (T, 3, H, W) in [0, 1].
        target: the true frames, of the same shape.

    Raises:
        KinecastError: the shapes differ, or are not of this form.
    """
    _check(prediction, target)
    return (prediction.float() - target.float()).abs().mean(dim=(1, 2, 3))


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB, (T,); infinite where they are equal. As `mae`."""
    _check(prediction, target)
    return -10 * (prediction.float() - target.float()).square().mean(dim=(1, 2, 3)).log10()


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the structural similarity of each frame, (T,): Wang et al. 2004, 11x11 Gaussian window of sigma 1.5.

    The mean over the colours and over the positions where the window lies inside the frame. As `mae`, and H and W
    must be at least 11.
    """
    _check(prediction, target)
    if min(prediction.shape[2:]) < _SSIM_WINDOW:
        height, width = prediction.shape[2:]
        raise KinecastError(f"SSIM: expected frames of at least 11x11 pixels, found {height}x{width}: use larger ones")
    values = [
        structural_similarity(
            a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(_arrays(prediction), _arrays(target), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float32, device=prediction.device)


def apd(samples: Tensor) -> float:
    """Return the average pairwise distance of samples (M, T, 3, H, W): arXiv 2504.05537, eq. 37.

    The sum over all ordered pairs of samples, a sample with itself included, of their L1 distance, divided by
    M^2 T 3 H W. Exact in M log M: with a_(1) <= ... <= a_(M) the sorted values of a pixel, the sum over i and j of
    |a_i - a_j| is twice the sum over k of (2k - M - 1) a_(k). One frame of M samples is worked on at a time.

    Raises:
        KinecastError: wrong shape, or no samples.
    """
    if samples.ndim != 5 or samples.shape[2] != 3 or 0 in samples.shape:
        raise KinecastError(f"APD: expected samples (M, T, 3, H, W), found {tuple(samples.shape)}")
    count = len(samples)
    weights = 2 * torch.arange(1, count + 1, dtype=torch.float64) - count - 1
    distances = [
        2 * weights @ frame.float().sort(dim=0).values.mean(dim=(1, 2, 3)).cpu().double() / count**2
        for frame in samples.detach().unbind(dim=1)
    ]
    return torch.stack(distances).mean().item()


class PixelSums:
    """Exact APD of M sampled videos, and MAE and SSIM of each, from one frame of all samples at a time.

    A few numbers per sample and one per pair are kept, whatever the length and size of the videos; no video is stored.
    As each *pair* has its sum, the APD of any subset of samples is known too, so that a subset chosen at the end
    (`metrics.diversity.keep_closest_to_truth`) needs no second pass.

    Sums over disjoint frames can be added: those of observed and predicted frames give that of all.
    """

    def __init__(self, samples: int, with_ssim: bool = True) -> None:
        if samples < 1:
            raise KinecastError(f"pixel sums: expected at least 1 sample, found {samples}")
        self.samples = samples
        self.with_ssim = with_ssim
        self.frames = 0
        self._pairs = torch.zeros(samples * (samples - 1) // 2, dtype=torch.float64)  # mean |v_i - v_j|, i < j
        self._mae = torch.zeros(samples, dtype=torch.float64)
        self._ssim = torch.zeros(samples, dtype=torch.float64)

    def add(self, frames: Tensor, target: Tensor) -> None:
        """Add frame t of all samples.

        Args:
            frames: (M, 3, H, W) in [0, 1].
            target: the true frame t (3, H, W).

        Raises:
            KinecastError: wrong shapes, or another number of samples.
        """
        if len(frames) != self.samples:
            raise KinecastError(f"pixel sums: expected a frame of {self.samples} samples, found {len(frames)}")
        targets = target.expand(self.samples, -1, -1, -1) if target.ndim == 3 else target
        self._mae += mae(frames, targets).cpu().double()
        if self.with_ssim:
            self._ssim += ssim(frames, targets).cpu().double()
        flat = frames.detach().float().flatten(1)
        for part in flat.split(_SUMMED_TOGETHER, dim=1):
            self._pairs += torch.pdist(part.contiguous(), p=1).cpu().double() / flat.shape[1]
        self.frames += 1

    def __add__(self, other: "PixelSums") -> "PixelSums":
        if (self.samples, self.with_ssim) != (other.samples, other.with_ssim):
            raise KinecastError(
                f"pixel sums: expected sums of the same samples, found {self.samples} and {other.samples} samples, "
                f"SSIM {self.with_ssim} and {other.with_ssim}"
            )
        total = PixelSums(self.samples, self.with_ssim)
        total.frames = self.frames + other.frames
        total._pairs = self._pairs + other._pairs
        total._mae, total._ssim = self._mae + other._mae, self._ssim + other._ssim
        return total

    @property
    def mae(self) -> Tensor:
        """Mean absolute error of each sample over its frames and pixels, (M,)."""
        return self._mae / self._counted()

    @property
    def ssim(self) -> Tensor:
        """Mean structural similarity of each sample over its frames, (M,).

        Raises:
            KinecastError: it was not enabled.
        """
        if not self.with_ssim:
            raise KinecastError("pixel sums: expected sums made with SSIM, found sums without: enable it")
        return self._ssim / self._counted()

    def apd(self, kept: Tensor | None = None) -> float:
        """Return the average pairwise distance, as `apd` does, of all samples or of those `kept` (indices)."""
        pairs = torch.zeros(self.samples, self.samples, dtype=torch.float64)
        pairs[tuple(torch.triu_indices(self.samples, self.samples, offset=1))] = self._pairs / self._counted()
        if kept is not None:
            pairs = (pairs + pairs.T)[kept][:, kept] / 2
        return 2 * pairs.sum().item() / len(pairs) ** 2

    def _counted(self) -> int:
        if not self.frames:
            raise KinecastError("pixel sums: expected at least one frame, found none")
        return self.frames


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape or prediction.ndim != 4 or prediction.shape[1] != 3 or 0 in prediction.shape:
        raise KinecastError(
            f"frames to compare: expected two tensors (T, 3, H, W) of one shape, "
            f"found {tuple(prediction.shape)} and {tuple(target.shape)}"
        )


def _arrays(frames: Tensor) -> np.ndarray:
    # In double precision: the window's variances are small differences of large sums.
    return frames.detach().cpu().double().numpy()
