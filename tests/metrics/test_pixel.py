import math

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from helpers import draw_frames
from kinecast.errors import KinecastError
from kinecast.media.video import to_tensor
from kinecast.metrics.pixel import PixelSums, apd, mae, psnr, ssim


def test_mae_and_psnr_by_hand():
    target = torch.zeros(3, 3, 2, 2)
    prediction = target.clone()
    prediction[1] = 0.25  # everywhere: MAE 1/4, MSE 1/16
    prediction[2, 0, 0, 0] = -0.6  # one value of twelve
    assert mae(prediction, target).tolist() == pytest.approx([0, 0.25, 0.05])
    assert psnr(prediction, target).tolist() == pytest.approx(
        [math.inf, 10 * math.log10(16), 10 * math.log10(12 / 0.36)]
    )


def test_half_precision_is_not_summed_in_half():
    target = torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16)
    assert mae(target + 0.25, target).dtype == torch.float32
    assert mae(target + 0.25, target).item() == 0.25


def own_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM of frames (T, 3, H, W) by its definition (Wang et al. 2004, eq. 13), windows wholly inside the frame."""
    offset = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(offset**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def mean(x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, 1, *x.shape[2:])
        return conv2d(flat, window[None, None]).reshape(*x.shape[:2], x.shape[2] - 10, x.shape[3] - 10)

    a, b = a.double(), b.double()
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return values.mean(dim=(1, 2, 3))


def test_ssim_is_the_published_one():
    frames = to_tensor(draw_frames(4, (40, 56)))
    noisy = (frames + 0.1 * torch.randn(frames.shape)).clamp(0, 1)
    noisy[3] = frames[3]
    found = ssim(noisy, frames)
    assert found.shape == (4,) and found.dtype == torch.float32
    assert found.numpy() == pytest.approx(own_ssim(noisy, frames).numpy(), abs=1e-6)
    assert found[3].item() == pytest.approx(1)
    assert (found[:3] < 0.9).all()


def test_ssim_of_flat_frames_by_hand():
    # No variance: only the luminance term (2ab + C1) / (a^2 + b^2 + C1) is left.
    found = ssim(torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.25))
    assert found.item() == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4), abs=1e-6)


def brute_force_apd(samples: np.ndarray) -> float:
    count = len(samples)
    total = sum(np.abs(samples[i] - samples[j]).sum() for i in range(count) for j in range(count))
    return total / (count**2 * samples[0].size)


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_apd_equals_the_double_sum(count):
    samples = np.random.default_rng(count).random((count, 3, 3, 5, 4))
    assert apd(torch.from_numpy(samples).float()) == pytest.approx(brute_force_apd(samples), abs=1e-6)


def test_apd_by_hand():
    # Values 0, 0, 1: of the nine ordered pairs four differ, by 1.
    samples = torch.stack([torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)])
    assert apd(samples) == pytest.approx(4 / 9)
    assert apd(torch.rand(1, 2, 3, 4, 4).expand(5, -1, -1, -1, -1)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("metric", [mae, psnr, ssim])
@pytest.mark.parametrize(
    "shapes", [((2, 3, 16, 16), (1, 3, 16, 16)), ((3, 16, 16), (3, 16, 16)), ((0, 3, 16, 16),) * 2]
)
def test_frames_that_cannot_be_compared(metric, shapes):
    with pytest.raises(KinecastError) as error:
        metric(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    assert str(error.value) == (
        f"frames to compare: expected two tensors (T, 3, H, W) of one shape, found {shapes[0]} and {shapes[1]}"
    )


def test_other_foreign_shapes():
    with pytest.raises(KinecastError) as error:
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
    assert str(error.value) == "SSIM: expected frames of at least 11x11 pixels, found 10x40: use larger ones"
    with pytest.raises(KinecastError) as error:
        apd(torch.zeros(2, 3, 8, 8))
    assert str(error.value) == "APD: expected samples (M, T, 3, H, W), found (2, 3, 8, 8)"


def test_sums_of_single_frames_are_exact():
    videos, truth = torch.rand(7, 4, 3, 16, 20), torch.rand(4, 3, 16, 20)
    sums = PixelSums(7)
    for t in range(4):
        sums.add(videos[:, t], truth[t])
    assert sums.frames == 4
    assert sums.apd() == pytest.approx(apd(videos), rel=1e-6)
    kept = torch.tensor([5, 0, 3])
    assert sums.apd(kept) == pytest.approx(apd(videos[kept]), rel=1e-6)
    assert sums.apd(kept[:1]) == 0
    assert sums.mae.tolist() == pytest.approx([mae(video, truth).mean().item() for video in videos], rel=1e-6)
    assert sums.ssim.tolist() == pytest.approx([ssim(video, truth).mean().item() for video in videos], rel=1e-6)


def test_sums_of_observed_and_predicted_frames_add_up():
    videos, truth = torch.rand(3, 6, 3, 12, 12), torch.rand(6, 3, 12, 12)
    videos[:, :2] = truth[:2]
    parts = {name: PixelSums(3, with_ssim=False) for name in ("observed", "predicted", "all")}
    for t in range(6):
        parts["observed" if t < 2 else "predicted"].add(videos[:, t], truth[t])
        parts["all"].add(videos[:, t], truth[t])
    total = parts["observed"] + parts["predicted"]
    assert total.frames == 6 and parts["observed"].apd() == 0
    assert total.apd() == pytest.approx(parts["all"].apd()) == pytest.approx(parts["predicted"].apd() * 4 / 6)
    assert total.mae.tolist() == pytest.approx(parts["all"].mae.tolist())


def test_large_frames_are_summed_precisely():
    frame = torch.rand(3, 3, 128, 128)
    sums = PixelSums(3, with_ssim=False)
    sums.add(frame, frame[0])
    assert sums.apd() == pytest.approx(brute_force_apd(frame[:, None].double().numpy()), rel=1e-6)


def test_one_sample_has_no_spread():
    sums = PixelSums(1, with_ssim=False)
    sums.add(torch.rand(1, 3, 4, 4), torch.rand(3, 4, 4))
    assert sums.apd() == 0


def test_sums_that_do_not_fit_are_refused():
    sums = PixelSums(2, with_ssim=False)
    for call, message in [
        (lambda: sums.add(torch.zeros(3, 3, 4, 4), torch.zeros(3, 4, 4)), "expected a frame of 2 samples, found 3"),
        (lambda: sums.add(torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 5)), "expected two tensors"),
        (lambda: sums.apd(), "expected at least one frame, found none"),
        (lambda: sums.ssim, "found sums without"),
        (lambda: sums + PixelSums(2), "expected sums of the same samples"),
        (lambda: PixelSums(0), "at least 1 sample"),
    ]:
        with pytest.raises(KinecastError, match=message):
            call()
