"""Head pose and expression of a picture, and their effect on keypoints: face-vid2vid, arXiv 2011.15126.

Notation: B batch, K keypoints.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DEGREES, _FIRST = 3, -99  # of one bin, and of the first
_PI = 3.14  # the published weights were trained with this value


class HeadPose(NamedTuple):
    """Rotation (B, 3): yaw, pitch, roll in radians; translation (B, 3); expression (B, K, 3), shifts of keypoints."""

    rotation: Tensor
    translation: Tensor
    expression: Tensor


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut; with `stride`, the 3x3 strides and the shortcut is projected."""

    def __init__(self, features: int, stride: int = 1) -> None:
        super().__init__()
        inner = features // 4
        self.conv1 = nn.Conv2d(features, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(inner, features, 1)
        self.norm1 = nn.BatchNorm2d(inner)
        self.norm2 = nn.BatchNorm2d(inner)
        self.norm3 = nn.BatchNorm2d(features)
        self.strided = stride != 1
        if self.strided:
            self.skip = nn.Conv2d(features, features, 1, stride)
            self.norm4 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h/stride, w/stride)."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        return F.relu(out + (self.norm4(self.skip(x)) if self.strided else x))


class HeadPoseEstimator(nn.Module):
    """A residual network with heads for the three angles (bins), translation and expression (paper, figure 12).

    Args:
        keypoints: K.
        width: of the first convolution; 4 times as wide before the first stage, doubled before the other three.
        bins: number of bins of each angle.
        blocks: plain blocks of each stage; a strided one stands before those of the later three.
    """

    def __init__(self, keypoints: int, width: int, bins: int, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3)
        self.norm1 = nn.BatchNorm2d(width)
        self.stages: list[list[str]] = []  # names of each stage's parts in order; conv1 and the heads are separate
        widths = [width, *(4 * width * 2**i for i in range(4))]
        number = 0
        for stage, (narrow, wide) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            conv, norm = f"conv{stage + 2}", f"norm{stage + 2}"
            self.add_module(conv, nn.Conv2d(narrow, wide, 1))
            self.add_module(norm, nn.BatchNorm2d(wide))
            names = [conv, norm]
            if stage:
                number += 1
                self.add_module(f"block{number}", Bottleneck(wide, 2))
                names.append(f"block{number}")
            number += 1
            plain = nn.Sequential()
            for i in range(blocks[stage]):
                plain.add_module(f"b{number}_{i}", Bottleneck(wide))
            self.add_module(f"block{number}", plain)
            self.stages.append([*names, f"block{number}"])
        # The published names of two heads are swapped: fc_roll gives the yaw, fc_yaw the roll.
        self.fc_roll, self.fc_pitch, self.fc_yaw = (nn.Linear(widths[-1], bins) for _ in range(3))
        self.fc_t, self.fc_exp = nn.Linear(widths[-1], 3), nn.Linear(widths[-1], 3 * keypoints)

    def heads(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits `yaw`, `pitch`, `roll` (B, bins), and `t` (B, 3), `exp` (B, 3 K) for images (B, 3, H, W)."""
        out = F.max_pool2d(F.relu(self.norm1(self.conv1(image))), 3, stride=2, padding=1)
        for conv, norm, *blocks in self.stages:
            out = F.relu(self.get_submodule(norm)(self.get_submodule(conv)(out)))
            for name in blocks:
                out = self.get_submodule(name)(out)
        heads = {"yaw": self.fc_roll, "pitch": self.fc_pitch, "roll": self.fc_yaw, "t": self.fc_t, "exp": self.fc_exp}
        with torch.autocast(image.device.type, enabled=False):  # half precision would shift the points
            features = out.float().mean(dim=(2, 3))
            return {name: head(features) for name, head in heads.items()}

    def forward(self, image: Tensor) -> HeadPose:
        """Estimate the pose of images (B, 3, H, W)."""
        heads = self.heads(image)
        rotation = torch.stack([radians(heads[name]) for name in ("yaw", "pitch", "roll")], dim=1)
        return HeadPose(rotation, heads["t"], heads["exp"].view(len(image), -1, 3))


def radians(logits: Tensor) -> Tensor:
    """Return the expected angle (B,) of a distribution over bins (B, bins)."""
    index = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    degrees = (F.softmax(logits, dim=1) * index).sum(dim=1) * _DEGREES + _FIRST
    return degrees / 180 * _PI


def rotation_matrix(rotation: Tensor) -> Tensor:
    """Return pitch about x, times yaw about y, times roll about z, (B, 3, 3), for angles (B, 3) yaw, pitch, roll."""
    (sy, sp, sr), (cy, cp, cr) = rotation.sin().unbind(1), rotation.cos().unbind(1)
    rows = [
        [cy * cr, -cy * sr, sy],
        [cp * sr + sp * sy * cr, cp * cr - sp * sy * sr, -sp * cy],
        [sp * sr - cp * sy * cr, sp * cr + cp * sy * sr, cp * cy],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def rotation_angles(matrix: Tensor) -> Tensor:
    """Return yaw, pitch, roll (B, 3) of rotations (B, 3, 3): inverts `rotation_matrix` for a yaw within 90 degrees."""
    yaw = torch.asin(matrix[:, 0, 2].clamp(-1, 1))
    pitch = torch.atan2(-matrix[:, 1, 2], matrix[:, 2, 2])
    roll = torch.atan2(-matrix[:, 0, 1], matrix[:, 0, 0])
    return torch.stack([yaw, pitch, roll], dim=1)


def posed_keypoints(canonical: Tensor, pose: HeadPose) -> Tensor:
    """Return R x + t + expression (B, K, 3) for canonical keypoints (B, K, 3), or (1, K, 3) for all (equation 1)."""
    with torch.autocast(canonical.device.type, enabled=False):  # half precision would shift the points
        turned = canonical @ rotation_matrix(pose.rotation).transpose(1, 2)
        return turned + pose.translation.unsqueeze(1) + pose.expression
