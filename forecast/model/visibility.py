"""Staying in sight: what existence depends on beside the agent itself.

A recording loses agents that are far from the ego, or behind others as it sees them. An agent's own
frame, in which all else is read, does not tell from where it is looked at.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.model.scene import se2
from forecast.model.scene.context import Rows, Surroundings, bounded, relative


class Sight(nn.Module):
    """What being looked at from the ego adds to the logit of existence; untrained it adds nothing.

    It sees no map and teaches the motion nothing: else it would learn by heart whom the recordings
    lost where.

    Args:
        traits: Numbers in ``Rows.traits``.
        hidden: Width.
    """

    def __init__(self, traits: int, hidden: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.judge = nn.Sequential(
            nn.Linear(traits + 5 + 5 + 3 + 3 + 1, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            last,
        )

    def forward(
        self, rows: Rows, around: Surroundings, lead: int, part: float
    ) -> Float[Tensor, "n"]:
        """The addition for every row.

        Args:
            rows: The queries after the step.
            around: Says where the ego is at the present and how it moves, which it goes on doing.
            lead: Steps after the present.
            part: Which part of the learned horizon that is.
        """
        twist = around.ego_twist[rows.sequence]
        eye = se2.compose(around.ego_pose[rows.sequence], se2.exp(twist * lead))
        features = (
            rows.traits,
            relative(se2.between(eye, rows.pose)),
            relative(se2.between(rows.pose, eye)),
            bounded(twist),
            bounded(rows.twist),
            rows.pose.new_full((len(rows.pose), 1), part),
        )
        out: Tensor = self.judge(torch.cat(features, -1).detach()).squeeze(-1)
        return out
