"""Visibility: how existence depends on where the ego is.

A recording loses agents that are far from the ego, or hidden from it by others. All else is read in
each agent's own frame, which does not tell where the ego is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.model.layers.mlp import MLP
from forecast.model.scene import se2
from forecast.model.scene.context import EgoMotion, PackedQueries, bounded, relative


class VisibilityHead(nn.Module):
    """What visibility from the ego adds to the logit of existence; untrained it adds nothing.

    It does not read the map, and no gradient of it reaches other parts of the network: otherwise it
    would learn by heart where recordings lost which agent.

    Args:
        attributes: Numbers in ``PackedQueries.attributes``.
        hidden: Width.
    """

    def __init__(self, attributes: int, hidden: int) -> None:
        super().__init__()
        self.judge = MLP(attributes + 5 + 5 + 3 + 3 + 1, hidden, hidden, 1, silent=True)

    def forward(
        self, packed: PackedQueries, ego: EgoMotion, units: float, part: float
    ) -> Float[Tensor, "n"]:
        """The addition for every query.

        Args:
            packed: The queries after the step.
            ego: Pose and motion of the ego at the present; its motion is taken to repeat.
            units: Time units after the present.
            part: The same time as a share of the learned horizon.
        """
        twist = ego.twist[packed.sequence]
        eye = se2.compose(ego.pose[packed.sequence], se2.exp(twist * units))
        features = (
            packed.attributes,
            relative(se2.between(eye, packed.pose)),
            relative(se2.between(packed.pose, eye)),
            bounded(twist),
            bounded(packed.twist),
            packed.pose.new_ones(len(packed.pose), 1) * part,
        )
        out: Tensor = self.judge(torch.cat(features, -1).detach()).squeeze(-1)
        return out
