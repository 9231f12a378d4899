"""What a rollout does beyond the leads that training has rolled out.

Queries that are updated more often than in any training make parked cars creep; an ego
that drives on for longer than in any training would lose sight of every parked car. So beyond the
learned horizon queries and visibility stay as they were, and agents go straight on.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

LEAST_S = 3.0  # every training is taken to have rolled out as far
STRAIGHT_ON = (1.0, 0.0, 0.0)  # keeps motion ahead, and neither motion aside nor turning
SAME_TIME_S = 1e-3  # times are sums of steps


@dataclass(frozen=True)
class LearnedHorizon:
    """The policy of a rollout that is longer than those of training.

    Attributes:
        seconds: How far training has rolled out.
    """

    seconds: float = LEAST_S

    def updates_queries(self, arrived_s: float) -> bool:
        """Whether QIM still makes new queries after a step that ends at a time."""
        return arrived_s < self.seconds - SAME_TIME_S

    def updates_visibility(self, elapsed_s: float) -> bool:
        """Whether visibility is still judged anew in a step that begins at a time."""
        return elapsed_s < self.seconds - SAME_TIME_S

    def part(self, arrived_s: float) -> float:
        """Which part of the learned horizon lies behind at a time."""
        return arrived_s / self.seconds

    def straightened(self, elapsed_s: float, twist: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """The motion of the step that begins at a time; beyond the learned horizon straight on."""
        learned = elapsed_s < self.seconds - SAME_TIME_S
        return twist if learned else twist * twist.new_tensor(STRAIGHT_ON)
