"""Visibility: how existence depends on where the ego is, and on how agents get out of its sight.

A recording loses agents that are far from the ego, or hidden from it by others. All else is read in
each agent's own frame, which does not tell where the ego is. An agent that is hidden now may be
lost, or missed for a moment: the other agents of the scene tell which its tracker does.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.model.layers.mlp import MLP
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.context import EgoMotion, PackedQueries, bounded, relative

HIDDEN = 3
"""Inputs that tell of being hidden."""


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
        self.judge = MLP(attributes + 5 + 5 + 3 + 3 + 1 + HIDDEN, hidden, hidden, 1, silent=True)

    def forward(
        self,
        packed: PackedQueries,
        agents: Agents,
        ego: EgoMotion,
        units: float,
        part: float,
    ) -> Float[Tensor, "n"]:
        """The addition for every query.

        Args:
            packed: The queries after the step.
            agents: Who they are, as they were seen.
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
            _hidden(packed, agents),
        )
        out: Tensor = self.judge(torch.cat(features, -1).detach()).squeeze(-1)
        return out


def _hidden(packed: PackedQueries, agents: Agents) -> Float[Tensor, "n 3"]:
    """Whether each agent is hidden, for how long, and whether others that were hidden came back."""
    since_s = packed.packing.pack(agents.hidden_s)
    hidden = (since_s > 0).to(since_s.dtype)
    return torch.stack((hidden, since_s, hidden * agents.came_back.logit()[packed.sequence]), -1)
