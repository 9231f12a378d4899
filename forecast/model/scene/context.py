"""Packed queries, and poses and motions as the numbers that networks read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forecast.model.scene.packing import Packing

POINT_SCALE_M = 20.0


# Metres ahead, metres aside, radians, per time unit of the model (half a second).
TWIST_SCALE = (5.0, 1.0, 0.2)


@dataclass(frozen=True)
class EgoMotion:
    """Where the ego is and how it moves: agents are seen from there.

    Attributes:
        pose: Pose at the last observation.
        twist: Its motion per time unit, in its own frame.
    """

    pose: Float[Tensor, "b 3"]
    twist: Float[Tensor, "b 3"]


@dataclass(frozen=True)
class PackedQueries:
    """Live queries of the whole batch, packed in its order.

    Attributes:
        packing: Where they come from.
        pose: Pose now, in the present frame.
        twist: Motion per time unit, in the query's own frame.
        attributes: Class (one-hot), length and width.
        group: Queries of different groups do not see each other; None = all are of one.
    """

    packing: Packing
    pose: Float[Tensor, "n 3"]
    twist: Float[Tensor, "n 3"]
    attributes: Float[Tensor, "n k"]
    group: Int[Tensor, "n"] | None = None

    @property
    def sequence(self) -> Int[Tensor, "n"]:
        """Which sequence of the batch each query belongs to."""
        return self.packing.sequence


def relative(pose: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 5"]:
    """A pose relative to another as bounded numbers: x, y, distance, cos and sin of the yaw."""
    xy = pose[..., :2] / POINT_SCALE_M
    distance = torch.sqrt(xy.square().sum(-1, keepdim=True) + 1e-6)
    return torch.cat((xy, distance, pose[..., 2:].cos(), pose[..., 2:].sin()), -1)


def bounded(twist: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """A twist in units in which ordinary traffic is about 1."""
    return twist / twist.new_tensor(TWIST_SCALE)
