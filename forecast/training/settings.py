"""What can be set about training: curriculum, loss and optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from forecast.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """One part of the curriculum.

    Attributes:
        epochs: Epochs it lasts.
        horizon: Leads rolled out.
        memory: Whether forecasts read the raster; without it a step is several times faster.
            Finding agents always does.
        detected: Share of batches whose ids are hidden, so that agents must be found and tracked.
    """

    epochs: int
    horizon: int
    memory: bool = True
    detected: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.horizon < 1 or not 0 <= self.detected <= 1:
            raise ConfigError(
                "stages of at least one epoch and one lead, with a share of detected in 0..1",
                str(self),
                "correct the curriculum",
            )


@dataclass(frozen=True)
class Optimisation:
    """How the weights move.

    Attributes:
        learning_rate: Peak of a cosine schedule.
        backbone_factor: Learning rate of the raster encoder, as a share of the others'.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        clip_norm: Largest norm of the gradient.
    """

    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.backbone_factor, self.weight_decay, self.clip_norm) < 0:
            raise ConfigError(
                "an optimisation without negative numbers", str(self), "correct the optimisation"
            )


@dataclass(frozen=True)
class LossWeights:
    """Share of each part of the loss.

    Attributes:
        position: Smooth L1 of x and y in the truth's own frame, metres.
        heading: Half the length times 1 - cos of the heading error, metres.
        mask: Soft IoU of the drawn mask on sampled points.
        moving: Cross-entropy of moving at all in a step.
        existence: Cross-entropy of being there.
        still: Weight of agents that stand still beside those that move (1).
        points: Points per agent on which masks are compared.
    """

    position: float = 1.0
    heading: float = 1.0
    mask: float = 1.0
    moving: float = 0.3
    existence: float = 0.2
    still: float = 0.3
    points: int = 48
