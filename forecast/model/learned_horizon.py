"""What a rollout does beyond the leads that training has rolled out.

Queries that are updated more often than in any training make parked cars creep; an ego
that drives on for longer than in any training would lose sight of every parked car. So beyond the
learned horizon queries and visibility stay as they were, and agents go straight on.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

LEAST_STEPS = 6  # every training is taken to have rolled out as many leads
STRAIGHT_ON = (1.0, 0.0, 0.0)  # keeps motion ahead, and neither motion aside nor turning


@dataclass(frozen=True)
class LearnedHorizon:
    """The policy of a rollout that is longer than those of training.

    Attributes:
        steps: Leads that training has rolled out.
    """

    steps: int = LEAST_STEPS

    def updates_queries(self, lead: int) -> bool:
        """Whether QIM still makes new queries after the step from ``lead`` to ``lead + 1``."""
        return lead + 1 < self.steps

    def updates_visibility(self, lead: int) -> bool:
        """Whether visibility is still judged anew in the step from ``lead`` to ``lead + 1``."""
        return lead < self.steps

    def part(self, lead: int) -> float:
        """Which part of the learned horizon lies behind after the step from ``lead``."""
        return (lead + 1) / self.steps

    def straightened(self, lead: int, twist: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The motion of the step from ``lead``; beyond the learned horizon straight on."""
        return twist if lead < self.steps else twist * twist.new_tensor(STRAIGHT_ON)
