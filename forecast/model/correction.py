"""Correction: what an observation changes of what was expected, a Kalman filter that is learned.

Every query carries what the observations so far have told of its agent and its tracker. From it
come gains between 0, the observation is noise, and 1, the observation is exact. An untrained model
believes the poses that it sees, and an agent's motion is half that of the last time unit and half a
running mean of all motions; how much of either is learned too.

Source: Kalman, "A new approach to linear filtering and prediction problems" (1960), predicted and
corrected states; the gains are learned instead of computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP
from forecast.model.scene.context import bounded

# Innovations that are ordinary for a good tracker: metres ahead and aside, radians.
INNOVATION_SCALE = (0.05, 0.05, 0.01)
# Gains that are pushed beyond 0 or 1 are held there, but this part of the gradient passes.
LEAK = 0.05


@dataclass(frozen=True)
class Gains:
    """How far each agent goes from what was expected (0) to what was observed (1).

    Attributes:
        pose: Of x, y, yaw, in the agent's own frame.
        twist: Of its motion.
        acceleration: Of the change of its motion.
    """

    pose: Float[Tensor, "b a 3"]
    twist: Float[Tensor, "b a 3"]
    acceleration: Float[Tensor, "b a 3"]


@dataclass(frozen=True)
class Innovation:
    """What one observation says of each agent against what was expected of it.

    Attributes:
        pose: Observed pose in the frame of the expected one; 0 where it was not seen.
        found: Whether it was seen.
        count: How often it was seen before.
        gap: Time since it was last seen, in time units of the model.
        twist: Motion that was expected.
        acceleration: Change of motion that was expected.
    """

    pose: Float[Tensor, "b a 3"]
    found: Bool[Tensor, "b a"]
    count: Int[Tensor, "b a"]
    gap: Float[Tensor, "b a"]
    twist: Float[Tensor, "b a 3"]
    acceleration: Float[Tensor, "b a 3"]

    @property
    def features(self) -> Float[Tensor, "b a f"]:
        """As bounded numbers."""
        scaled = torch.asinh(self.pose / self.pose.new_tensor(INNOVATION_SCALE))
        found = self.found.to(scaled.dtype)
        times = torch.stack((found, self.count.log1p(), self.gap.log1p()), -1)
        return torch.cat((scaled, times, bounded(self.twist), bounded(self.acceleration)), -1)


FEATURES = 3 + 3 + 3 + 3


class Correction(nn.Module):
    """Reads innovations into queries, and gains out of queries.

    Args:
        dim: Width of the queries.
        attributes: Numbers that describe an agent's class and size.
    """

    def __init__(self, dim: int, attributes: int) -> None:
        super().__init__()
        self.innovation_encoder = MLP(FEATURES + attributes, dim, dim)
        self.gain_head = MLP(dim, dim, 9, silent=True)
        self.share_head = MLP(dim, dim, 6, silent=True)

    @record_function("reading innovations")
    def read(
        self, innovation: Innovation, attributes: Float[Tensor, "b a k"]
    ) -> Float[Tensor, "b a d"]:
        """What each query is told, as it is: learning goes through the corrections it leads to.

        Gradients through what is told as well grow from observation to observation (as in Teed and
        Deng, "RAFT", 2020, whose updates do not learn through their inputs either).
        """
        told = innovation.features.detach()
        out: Tensor = self.innovation_encoder(torch.cat((told, attributes), -1))
        return out

    def gains(
        self, query: Float[Tensor, "b a d"], innovation: Innovation, learned: bool = True
    ) -> Gains:
        """The gains that updated queries say; unless they are learned, those to start from."""
        # A mean over the last time unit, and of all there is before that.
        mean = innovation.gap / (innovation.gap + 1)
        mean = torch.maximum(mean, 1 / innovation.count.clamp(min=1))[..., None]
        start = torch.cat((torch.ones_like(mean), mean, mean), -1).repeat_interleave(3, -1)
        return Gains(*_held(start - self.gain_head(query) * learned).chunk(3, -1))

    def shares(self, query: Float[Tensor, "b a d"]) -> tuple[Tensor, Tensor]:
        """How much of an agent's motion is the corrected one, not that of the last time unit.

        Returns:
            ``(b, a, 3)`` of the motion, and of its change; a half untrained.
        """
        twist, acceleration = _held(0.5 + self.share_head(query)).chunk(2, -1)
        return twist, acceleration


def _held(wanted: Tensor) -> Tensor:
    """Numbers from 0 to 1, which some of the gradient passes beyond."""
    return wanted.clamp(0, 1) + LEAK * (wanted - wanted.detach())
