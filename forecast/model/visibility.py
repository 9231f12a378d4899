"""Staying in sight: what existence depends on beside the agent itself.

A recording loses agents that are far from the ego, or behind others as it sees them. An agent's own
frame, in which all else is read, does not tell from where it is looked at.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.model.layers.mlp import MLP
from forecast.model.scene import se2
from forecast.model.scene.context import PackedQueries, SceneContext, bounded, relative


class VisibilityHead(nn.Module):
    """What being looked at from the ego adds to the logit of existence; untrained it adds nothing.

    It sees no map and teaches the motion nothing: else it would learn by heart whom the recordings
    lost where.

    Args:
        attributes: Numbers in ``PackedQueries.attributes``.
        hidden: Width.
    """

    def __init__(self, attributes: int, hidden: int) -> None:
        super().__init__()
        self.judge = MLP(attributes + 5 + 5 + 3 + 3 + 1, hidden, hidden, 1, silent=True)

    def forward(
        self, packed: PackedQueries, context: SceneContext, lead: int, part: float
    ) -> Float[Tensor, "n"]:
        """The addition for every row.

        Args:
            packed: The queries after the step.
            context: Says where the ego is at the present and how it moves, which it goes on doing.
            lead: Steps after the present.
            part: Which part of the learned horizon that is.
        """
        twist = context.ego_twist[packed.sequence]
        eye = se2.compose(context.ego_pose[packed.sequence], se2.exp(twist * lead))
        features = (
            packed.attributes,
            relative(se2.between(eye, packed.pose)),
            relative(se2.between(packed.pose, eye)),
            bounded(twist),
            bounded(packed.twist),
            packed.pose.new_full((len(packed.pose), 1), part),
        )
        out: Tensor = self.judge(torch.cat(features, -1).detach()).squeeze(-1)
        return out
