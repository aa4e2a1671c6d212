"""All losses of one training step in one forward pass."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from kinecast.models import Backbone
from kinecast.training.backbone_config import BackboneTrainingConfig
from kinecast.training.discriminator import MultiScaleDiscriminator, adversarial_losses
from kinecast.training.methods import Guide, method_of
from kinecast.training.perceptual import PerceptualLoss, load_features


class Batch:
    """Pairs to learn from: source, driving and target frames (B, 3, H, W), and the `Guide` of the losses.

    Neither dataclass nor tuple: Fabric would round their tensors to the run's precision, pixels to 8 bits and points to
    whole pixels.
    """

    def __init__(self, source: Tensor, driving: Tensor, target: Tensor, guide: Guide) -> None:
        self.source, self.driving, self.target, self.guide = source, driving, target, guide


class TrainingLosses(nn.Module):
    """The model and its training loss in one forward pass, so that Fabric can wrap it."""

    def __init__(self, config: BackboneTrainingConfig, model: Backbone) -> None:
        super().__init__()
        self.model = model
        self.weights = config.loss
        self.method = method_of(type(model))
        self.dropout = config.dropout_splines
        self.perceptual: PerceptualLoss | None = None
        if config.loss.perceptual:
            features = load_features(config.loss.network, config.loss.network_weights)
            self.perceptual = PerceptualLoss(features, config.loss.scales)
        self.train_motion = config.train_motion

    def forward(
        self,
        batch: Batch,
        discriminator: MultiScaleDiscriminator | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Reconstruct driving frames (B, 3, H, W): the weighted losses by name, and the prediction without gradient."""
        source, driving, target, guide = batch.source, batch.driving, batch.target, batch.guide
        of_motion: dict[str, Tensor] = {}
        if self.train_motion:
            prediction, of_motion = self.method.losses(self.model, source, driving, guide, self.dropout)
        else:
            prediction = cast(Any, self.model).reconstruct(source, driving)[0]  # see `BackboneTrainingConfig`
        parts: dict[str, Tensor] = {}
        if self.perceptual is not None:
            parts["perceptual"] = self.weights.perceptual * self.perceptual(prediction, target)
        closeups = self.method.closeups
        if self.perceptual is not None and self.weights.closeup and closeups and isinstance(guide, Tensor):
            pairs = zip(closeups(prediction, guide), closeups(target, guide), strict=True)
            near = torch.stack([self.perceptual.compare(*pair) for pair in pairs]).sum()
            parts["closeup"] = self.weights.closeup * near
        if self.weights.pixel:
            parts["pixel"] = self.weights.pixel * (prediction - target).abs().mean()
        for name, value in of_motion.items():
            if weight := getattr(self.weights, name):
                parts[name] = weight * value
        if discriminator is not None:
            gan, matching = adversarial_losses(discriminator, prediction, target)
            parts["adversarial"] = self.weights.adversarial * gan
            parts["feature_matching"] = self.weights.feature_matching * matching
        return parts, prediction.detach()
