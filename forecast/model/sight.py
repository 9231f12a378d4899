"""Staying in sight: what existence depends on beside the agent itself.

A recording loses agents that are far from the ego, or behind others as it sees them. An agent's own
frame, in which all else is read, does not tell from where it is looked at.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.model import se2
from forecast.model.context import Rows, bounded, relative


class Sight(nn.Module):
    """What being looked at from the ego adds to the logit of existence; untrained it adds nothing.

    It reads nothing by which a place could be told, and teaches the motion nothing: else it would
    learn by heart whom the recordings lost where.

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
        self, rows: Rows, ego: Float[Tensor, "b 3"], lead: int, learned: int
    ) -> Float[Tensor, "n"]:
        """The addition for every row.

        Args:
            rows: The queries after the step.
            ego: Motion of the ego per step, which is taken to go on as it did.
            lead: Steps after the present.
            learned: Steps that training has rolled out; beyond them time makes nobody less likely.
        """
        twist = ego[rows.sequence]
        eye = se2.exp(twist * lead)
        late = rows.pose.new_full((len(rows.pose), 1), min(lead / learned, 1.0))
        features = (
            rows.traits,
            relative(se2.between(eye, rows.pose)),
            relative(se2.between(rows.pose, eye)),
            bounded(twist),
            bounded(rows.twist),
            late,
        )
        out: Tensor = self.judge(torch.cat(features, -1).detach()).squeeze(-1)
        return out
