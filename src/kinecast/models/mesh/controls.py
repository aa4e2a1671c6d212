"""Openings of lips and eyelids, and the smile, as functions of the expression, and the expression that changes them.

Notation: K expression numbers, V points (478 landmarks), C controls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kinecast.faces import topology as faces

# Pairs of points that face each other across an opening: those above, those below.
_LIPS = (82, 13, 312), (87, 14, 317)
_RIGHT_EYE = (160, 159, 158), (144, 145, 153)
_LEFT_EYE = (387, 386, 385), (373, 374, 380)
OPENINGS = (_LIPS, _RIGHT_EYE, _LEFT_EYE)
_CORNERS = (78, 308), (33, 133), (362, 263)  # of the same openings: how wide they are
LIPS, EYES = 0, slice(1, 3)  # which of the C = 3 controls is which
_RIGHT_CORNER, _LEFT_CORNER = 61, 291  # of the lips
_MIDDLE = 13, 14  # of their inner edges


@dataclass(frozen=True)
class Controls:
    """How expression opens lips and lids and raises the corners of the mouth, in closed form of its basis.

    An opening is a linear function of the expression: `mean + expression @ slopes`, in units of the head. Of all
    changes of expression that give wanted openings, `gains` is the likeliest if component k has a standard deviation
    in proportion to 1 / (k + 1), as those of the training people nearly have: the jaw moves with the lips, the brows
    with the lids.

    Attributes:
        mean: (C,), openings of the mean face: lips, right eye, left eye.
        widths: (C,), of the same on the mean face.
        slopes: (K, C).
        gains: (C, K), expression for openings of one.
        mouth: (K, K), takes an expression to its part below the nose; what it leaves is that of the eyes.
        smile: (K,), the likeliest expression that raises and widens the corners of the mouth by one in all and leaves
            the openings.
    """

    mean: Tensor
    widths: Tensor
    slopes: Tensor
    gains: Tensor
    mouth: Tensor
    smile: Tensor

    @classmethod
    def of(cls, mean: Tensor, weights: Tensor, basis: Tensor) -> "Controls":
        """Compute them for a mean face (V, 3) and an expression's weights (V, 3) and basis (K, V, 3)."""
        mean, weights, basis = (part.double().cpu() for part in (mean, weights, basis))
        offsets = basis / weights
        slopes = torch.stack([opening(offsets, *pair) for pair in OPENINGS], dim=1)
        mouth = (basis * _below_nose(mean)[:, None]).flatten(1) @ basis.flatten(1).T
        eyes = torch.eye(len(basis), dtype=torch.float64) - mouth
        variance = (torch.arange(len(basis), dtype=torch.float64) + 2).square().reciprocal().diag()
        # Lips are opened by what moves the mouth, lids by what moves the eyes.
        spread = torch.cat(
            [part.T @ variance @ part @ slopes[:, of] for part, of in ((mouth, [0]), (eyes, [1, 2]))], dim=1
        )
        raised = _corners(offsets)[:, None]
        all_slopes = torch.cat((slopes, raised), dim=1)
        all_spread = torch.cat((spread, mouth.T @ variance @ mouth @ raised), dim=1)
        return cls(
            mean=torch.stack([opening(mean[None], *pair)[0] for pair in OPENINGS]),
            widths=torch.stack([(mean[a] - mean[b]).norm() for a, b in _CORNERS]),
            slopes=slopes,
            gains=_gains(slopes, spread),
            mouth=mouth,
            smile=_gains(all_slopes, all_spread)[-1],
        )

    def openings(self, expression: Tensor) -> Tensor:
        """Return the openings (C,) of an expression (K,)."""
        return self.mean + expression @ self.slopes


def opening(points: Tensor, above: tuple[int, ...], below: tuple[int, ...]) -> Tensor:
    """Return the mean vertical distance from points `above` to points `below`: (N,) for points (N, V, 3)."""
    return (points[:, below, 1] - points[:, above, 1]).mean(dim=1)


def _gains(slopes: Tensor, spread: Tensor) -> Tensor:
    """Return expressions (C, K), each of which changes one of C controls by one and leaves the others."""
    return torch.linalg.lstsq((slopes.T @ spread).T, spread.T, driver="gelsd").solution


def _corners(points: Tensor) -> Tensor:
    """Return half the mouth's width, and how far its corners are above its middle, together: (N,) for (N, V, 3)."""
    right, left = points[:, _RIGHT_CORNER], points[:, _LEFT_CORNER]
    raised = points[:, _MIDDLE, 1].mean(dim=1) - (right[:, 1] + left[:, 1]) / 2
    return (left[:, 0] - right[:, 0]) / 2 + raised


def _below_nose(mean: Tensor) -> Tensor:
    """Return how far each point (V,) belongs to the mouth: 0 from the eyes up, 1 from the tip of the nose down."""
    eyes = mean[[faces.RIGHT_EYE_CORNER, faces.LEFT_EYE_CORNER], 1].mean()
    lids = mean[[145, 374], 1].mean()  # the lower ones
    top = torch.maximum(eyes, lids)
    part = ((mean[:, 1] - top) / (mean[4, 1] - top)).clamp(0, 1)
    return part.square() * (3 - 2 * part)
