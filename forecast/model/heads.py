"""What a decoded query says: how its motion changes, how sure that is, whether it is there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP

# Typical change of the motion per time unit: metres ahead, metres aside, radians turned.
RESIDUAL_SCALE = (0.5, 0.15, 0.06)
# Typical error of a forecast pose, metres ahead and aside: at the present, and what is added per
# squared time unit since; and the least, as no pose is known exactly.
ERROR_NOW = (0.1, 0.05)
ERROR_GROWTH = (0.06, 0.012)
LEAST_ERROR_M = 0.05
# It is at most so many times larger or smaller.
MOST_SURE = 40.0
# An untrained model believes that every agent stays in view and none stops.
SURE_BIAS = 4.0


@dataclass(frozen=True)
class Motion:
    """How each agent moves in this step.

    Attributes:
        residual: Change of the twist per time unit (metres ahead, metres aside, radians).
        persistence: Share of the last acceleration that repeats: 1 = it keeps accelerating.
        moving: Logit of moving at all: agents that stand still must not creep.
        existence: Logit of being there after the step.
        uncertainty: Log of how much larger its error will be than is typical, ahead and aside.
    """

    residual: Float[Tensor, "n 3"]
    persistence: Float[Tensor, "n 3"]
    moving: Float[Tensor, "n"]
    existence: Float[Tensor, "n"]
    uncertainty: Float[Tensor, "n 2"]

    def error(self, units: float) -> Float[Tensor, "n 2"]:
        """Expected error of poses so many time units after the present, metres ahead and aside.

        It is the scale of Laplace distributions: traffic surprises more often than a normal
        distribution would.
        """
        now, growth = (self.uncertainty.new_tensor(x) for x in (ERROR_NOW, ERROR_GROWTH))
        most = math.log(MOST_SURE)
        factor = self.uncertainty.clamp(-most, most).exp()
        return ((now + growth * units**2) * factor).clamp(min=LEAST_ERROR_M)

    def applied(
        self, twist: Float[Tensor, "n 3"], acceleration: Float[Tensor, "n 3"], units: float
    ) -> Float[Tensor, "n 3"]:
        """The twist of a step of so many time units from the last one and how that had changed.

        Brakes end at a standstill: no agent is braked into reverse, or pushed out of it, in one
        step.
        """
        changed = twist + (self.residual + self.persistence * acceleration) * units
        ends = twist[:, :1] * changed[:, :1] < 0
        ahead = torch.tensor([True, False, False], device=changed.device)
        return torch.where(ends & ahead, 0.0, changed)


class MotionHead(nn.Module):
    """Motion and existence; untrained it changes no motion and keeps every agent."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.residual = MLP(dim, dim, 3, silent=True)
        self.persistence = MLP(dim, dim, 3, silent=True)
        self.moving = MLP(dim, dim, 1, silent=True)
        self.existence = MLP(dim, dim, 1, silent=True)
        self.uncertainty = MLP(dim, dim, 2, silent=True)
        self.register_buffer("scale", torch.tensor(RESIDUAL_SCALE), persistent=False)

    @record_function("motion head")
    def forward(self, x: Float[Tensor, "n d"]) -> Motion:
        """Reads decoded queries."""
        residual = self.residual(x) * self.scale
        moving, existence = (head(x).squeeze(-1) for head in (self.moving, self.existence))
        return Motion(
            residual,
            self.persistence(x),
            moving + SURE_BIAS,
            existence + SURE_BIAS,
            self.uncertainty(x),
        )
