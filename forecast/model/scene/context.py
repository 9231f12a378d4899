"""The static scene, the packed queries in it, and poses as the numbers that networks read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene.packing import Packing

POINT_SCALE_M = 20.0


TWIST_SCALE = (5.0, 1.0, 0.2)  # metres ahead, metres aside, radians, per step


@dataclass(frozen=True)
class SceneContext:
    """The static scene of B sequences, in the present frame.

    Attributes:
        map: Map layers (and the user's dense channels) as numbers in 0..1.
        points: Lane centres x, y, yaw; NaN padded; None where the store has none.
        grid: The grid of ``map``.
        ego_pose: Pose of the ego at the present: agents are seen from there.
        ego_twist: Its motion per step, in its own frame.
    """

    map: Float[Tensor, "b m h w"]
    points: Float[Tensor, "b p 3"] | None
    grid: BEVGrid
    ego_pose: Float[Tensor, "b 3"]
    ego_twist: Float[Tensor, "b 3"]


@dataclass(frozen=True)
class PackedQueries:
    """Live queries of the whole batch, packed in its order.

    Attributes:
        packing: Where they come from.
        pose: Pose now, in the present frame.
        twist: Motion per step, in the query's own frame.
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
