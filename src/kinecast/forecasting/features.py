"""Input features of recurrent forecasters, and the conversion of their outputs to motion.

Three arrangements, by config. `frame` (as printed in the papers): one recurrent net reads only the D numbers of a
frame. `joint`: it also reads their increments and the window's level of motion. `shared`: the same small net runs along
each of the D numbers with its own state, and reads the window's level of motion and a learnt embedding of the number. A
few training people have few independent windows but D times as many single series, so the shared net generalises to
people it was not trained on.

A forecast of one window takes many small steps, whose calls cost more than their arithmetic. So everything constant
across frames is computed once (`Unchanging`), the observed frames are read in one call, and nets and cells call the
functions behind their modules.

Notation: R rows (windows, or samples of windows), D numbers per frame, C channels (D shared, else 1), F features.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from kinecast.forecasting.normalize import Units

Channels = Literal["joint", "shared", "frame"]
CHANNELS: tuple[str, ...] = ("joint", "shared", "frame")
Variable = Literal["residual", "position"]
VARIABLES: tuple[str, ...] = ("residual", "position")


class Unchanging(NamedTuple):
    """Features shared by all frames of a window. A value that no module stores."""

    shift: Tensor  # (R or 1, D)
    scale: Tensor  # (R or 1, D)
    features: Tensor  # (R, C, those of the F that do not change)


class MotionFeatures(nn.Module):
    """Frames and increments, in units, to features (R, C, F); read-outs (R, C, P D/C) to P of (R, D)."""

    def __init__(self, motion_dim: int, channels: Channels, identity: int) -> None:
        super().__init__()
        self.motion_dim = motion_dim
        self.shared = channels == "shared"
        self.frame_alone = channels == "frame"
        self.identity = nn.Parameter(0.1 * torch.randn(motion_dim, identity)) if self.shared and identity else None

    @property
    def channels(self) -> int:
        """C."""
        return self.motion_dim if self.shared else 1

    @property
    def size(self) -> int:
        """F."""
        if self.frame_alone:
            return self.motion_dim
        if not self.shared:
            return 2 * self.motion_dim + 2
        return 5 + (0 if self.identity is None else self.identity.shape[1])

    def read_out_size(self, parts: int) -> int:
        """Return the outputs per channel needed for P values of each of the D numbers."""
        return parts if self.shared else parts * self.motion_dim

    def unchanging(self, units: Units, rows: int) -> Unchanging:
        """Return the constant features of R windows measured in these units."""
        level = units.level[:, 0].expand(rows, -1)
        overall = level.mean(dim=1, keepdim=True)
        if not self.shared:
            features = overall.unsqueeze(1)
        else:
            features = torch.stack([level, overall.expand_as(level)], dim=2)
            if self.identity is not None:
                features = torch.cat([features, self.identity.expand(rows, -1, -1)], dim=2)
        return Unchanging(units.shift[:, 0], units.scale[:, 0], features)

    def forward(self, window: Unchanging, frame: Tensor, increment: Tensor) -> Tensor:
        """Return the features (R, C, F) of a raw frame (R, D) that was reached by an increment (R, D), in steps.

        Of T frames at once, time outermost: (T, R, D) to (T, R, C, F).
        """
        position = (frame - window.shift) / window.scale
        if self.frame_alone:
            return position.unsqueeze(-2)
        # asinh: a jump (a cut, a lost keypoint) must not push the recurrent state far outside its training range.
        increment = torch.asinh(increment)
        activity = (increment.abs().mean(dim=-1, keepdim=True) + 1e-2).log()
        same = window.features.expand(*frame.shape[:-2], -1, -1, -1)
        if not self.shared:
            return torch.cat([torch.cat([position, increment, activity], dim=-1).unsqueeze(-2), same], dim=-1)
        return torch.cat([torch.stack([position, increment, activity.expand_as(position)], dim=-1), same], dim=-1)

    def split(self, read_out: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return P tensors (R, D) from the channels' outputs (R, C, `read_out_size(P)`)."""
        if self.shared:
            return read_out.unbind(dim=2)
        return read_out.view(len(read_out), parts, self.motion_dim).unbind(dim=1)


class Chain(nn.Sequential):
    """Linear layers, SiLUs and dropout. Evaluated without calling them: a call takes as long as a small product."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the result of applying the parts in sequence."""
        if self.training:
            return super().forward(inputs)
        for part in self._modules.values():
            if isinstance(part, nn.Linear):
                inputs = linear(inputs, *_weights(part))
            elif isinstance(part, nn.SiLU):
                inputs = silu(inputs)
        return inputs


def mlp(inputs: int, hidden: int, outputs: int, dropout: float = 0.0, near_zero: bool = False) -> Chain:
    """Return a net of one hidden layer; with `near_zero` its outputs start there, as corrections should."""
    last = nn.Linear(hidden, outputs)
    if near_zero:
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
    return Chain(nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), last)


def hidden_layer(inputs: int, hidden: int, dropout: float) -> Chain:
    """Return the first half of such a net: it reads features."""
    return Chain(nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout))


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
        return torch.gru_cell(inputs.flatten(0, 1), state.flatten(0, 1), *_weights(self.cell)).view_as(state)


def _weights(layer: nn.Module) -> tuple[Tensor, ...]:
    """Return a layer's own parameters in order, much faster than by attribute access such as `layer.weight`."""
    return tuple(layer._parameters.values())  # type: ignore[arg-type]
