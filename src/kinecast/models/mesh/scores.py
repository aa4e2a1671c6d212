"""What a face's mouth does, as ARKit scores of its mesh, and the expression with which a face scores as asked.

A score is a number from 0 to 1 that means the same on every face, which geometry alone does not: a chin that hangs, a
corner of the mouth that turns up are shape in one person and speech or a smile in another.

Notation: K expression numbers, S scores.
"""

from functools import cache

import torch
from torch import Tensor

from kinecast.faces import topology as faces
from kinecast.faces.networks import BlendshapeNetwork
from kinecast.faces.weights import load_blendshapes
from kinecast.models.mesh.controls import Controls

SCORES = (("jawOpen",), ("mouthSmileLeft", "mouthSmileRight"), ("mouthPucker",))
JAW = 0  # which of the S = 3 scores it is
_COLUMNS = tuple(tuple(faces.BLENDSHAPES.index(name) for name in names) for names in SCORES)
_FLOOR = 0.01  # scores nearer to 0 or 1 than about this are alike
_TRUST = 0.02  # variance of a score's logit that is not worth following, where the prior's is as in `Controls`
_LONGEST = 2.0  # of a correction: where it would have to be longer, the expression that scores as asked is no face


class MouthScores:
    """Scores of faces, and Gauss-Newton steps towards wanted ones that leave lips and lids as far open as they are.

    Args:
        mean: the mean face (478, 3).
        offsets: (K, 478, 3), what each number of the expression moves.
        controls: of the same basis; what moves the mouth is all that is used.
    """

    def __init__(self, mean: Tensor, offsets: Tensor, controls: Controls) -> None:
        seen = list(faces.BLENDSHAPE_POINTS)
        self._network = _network()
        # Tensors of inference mode, in which frames are made, have no gradient.
        with torch.inference_mode(False):
            self._mean, self._offsets = mean[seen].cpu().clone(), offsets[:, seen].cpu().clone()
            variance = (torch.arange(len(offsets), dtype=torch.float64) + 2).square().reciprocal().diag()
            self._spread = (controls.mouth.T @ variance @ controls.mouth).float()
            self._openings = controls.slopes.T.float()

    def __call__(self, expression: Tensor, rotation: Tensor) -> Tensor:
        """Return the scores (S,) of an expression (K,) on a head that is turned by a rotation (1, 3, 3)."""
        with torch.no_grad():
            return self._scores(expression[None].float(), rotation)[0]

    def step(self, expression: Tensor, rotation: Tensor, correction: Tensor, wanted: Tensor, counts: Tensor) -> Tensor:
        """Return a better correction (K,) of an expression: the likeliest by which it scores as wanted.

        Args:
            expression: (K,), before the correction.
            rotation: (1, 3, 3), of the head.
            correction: (K,), as found so far.
            wanted: (S,), scores.
            counts: (S,), 1 for scores that matter, else 0.
        """
        with torch.inference_mode(False), torch.enable_grad():
            numbers = (expression + correction).float().detach().clone()[None].requires_grad_()
            scores = self._scores(numbers, rotation.clone())[0]
            # One pass back for each score: a batch of as many faces would need as many forward, too.
            logits = scores.logit(eps=1e-6)
            slopes = torch.cat([torch.autograd.grad(each, numbers, retain_graph=True)[0] for each in logits])
        missing = counts * (_logit(wanted) - _logit(scores.detach()) + slopes @ correction)
        rows = torch.cat((slopes * counts[:, None], self._openings))
        asked = torch.cat((missing, torch.zeros(len(self._openings))))
        noise = torch.cat((torch.full_like(missing, _TRUST), torch.full((len(self._openings),), 1e-6)))
        spread = self._spread @ rows.T
        found = spread @ torch.linalg.solve(rows @ spread + noise.diag(), asked)
        return found * (_LONGEST / found.norm().clamp(min=1e-9)).clamp(max=1)

    def _scores(self, expression: Tensor, rotation: Tensor) -> Tensor:
        """Return the scores (N, S) of expressions (N, K); where a head is and how large does not matter."""
        head = self._mean + torch.einsum("nk,kvc->nvc", expression, self._offsets)
        scores = self._network((head @ rotation.mT)[..., :2])
        return torch.stack([scores[:, columns].mean(dim=1) for columns in _COLUMNS], dim=1)


@cache
def _network() -> BlendshapeNetwork:
    """Return the network of the scores, which nothing changes: one serves every face and clip."""
    with torch.inference_mode(False):
        return load_blendshapes()


def _logit(scores: Tensor) -> Tensor:
    """Return logits that have an end where scores are too near to 0 or 1 to tell them apart."""
    return ((scores + _FLOOR) / (1 + _FLOOR - scores)).log()
