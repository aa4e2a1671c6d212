"""What recurrent forecasters read of a frame, and how their read-outs become motion again.

Two arrangements, by config. `joint` (as published): one recurrent net reads and predicts all D numbers. `shared`:
the same small net runs along each of the D numbers with a state of its own, told how lively the window is and which
number it reads by a learnt vector. A handful of training people hold few independent windows but D times as many
single series, so the shared net is the one that carries over to people it was not trained on.

Letters: R rows (windows, or samples of windows), D numbers a frame, C channels (1 joint, D shared), F features.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kinecast.forecasters.normalize import Units

Channels = Literal["joint", "shared"]
CHANNELS: tuple[str, ...] = ("joint", "shared")


class MotionFeatures(nn.Module):
    """Frame and increment, in units, to features (R, C, F) of one time step; read-outs (R, C, P D/C) to P of (R, D)."""

    def __init__(self, motion_dim: int, channels: Channels, identity: int) -> None:
        super().__init__()
        self.motion_dim = motion_dim
        self.shared = channels == "shared"
        self.identity = nn.Parameter(0.1 * torch.randn(motion_dim, identity)) if self.shared and identity else None

    @property
    def channels(self) -> int:
        """C."""
        return self.motion_dim if self.shared else 1

    @property
    def size(self) -> int:
        """F."""
        if not self.shared:
            return 2 * self.motion_dim + 2
        return 5 + (0 if self.identity is None else self.identity.shape[1])

    def read_out_size(self, parts: int) -> int:
        """Return the numbers that each channel must give for P values of each of the D."""
        return parts if self.shared else parts * self.motion_dim

    def forward(self, units: Units, frame: Tensor, increment: Tensor) -> Tensor:
        """Return the features (R, C, F) of a raw frame (R, D) that was reached by an increment (R, D), in steps."""
        position = (frame - units.shift[:, 0]) / units.scale[:, 0]
        # asinh: a jump (a cut, a lost keypoint) must not throw the recurrent state far out of what it was trained on.
        increment = torch.asinh(increment)
        activity = (increment.abs().mean(dim=1, keepdim=True) + 1e-2).log()
        level = units.level[:, 0].expand_as(frame)
        overall = level.mean(dim=1, keepdim=True)
        if not self.shared:
            return torch.cat([position, increment, activity, overall], dim=1).unsqueeze(1)
        parts = [position, increment, activity.expand_as(frame), level, overall.expand_as(frame)]
        features = torch.stack(parts, dim=2)
        if self.identity is None:
            return features
        return torch.cat([features, self.identity.expand(len(frame), -1, -1)], dim=2)

    def split(self, read_out: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return P tensors (R, D) of what the channels gave (R, C, `read_out_size(P)`)."""
        if self.shared:
            return read_out.unbind(dim=2)
        return read_out.view(len(read_out), parts, self.motion_dim).unbind(dim=1)


def mlp(inputs: int, hidden: int, outputs: int, dropout: float = 0.0, near_zero: bool = False) -> nn.Sequential:
    """Return a net of one hidden layer; with `near_zero` its outputs start there, as corrections should."""
    last = nn.Linear(hidden, outputs)
    if near_zero:
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), last)


class RecurrentCell(nn.Module):
    """A GRU cell that runs along every channel: states (R, C, hidden), inputs (R, C, F)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(inputs, hidden)

    def initial(self, rows: int, channels: int, like: Tensor) -> Tensor:
        """Return the state before the first frame."""
        return like.new_zeros(rows, channels, self.cell.hidden_size)

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the next state."""
        return self.cell(inputs.flatten(0, 1), state.flatten(0, 1)).view_as(state)
