"""Which boxes overlap."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from forecast.model.scene import se2


def overlapping(
    pose: Float[Tensor, "s a 3"], size: Float[Tensor, "s a 2"], live: Bool[Tensor, "s a"]
) -> Bool[Tensor, "s a a"]:
    """Which agents of a scene overlap, by the theorem of separating axes.

    Args:
        pose: x, y, yaw of their centres.
        size: Length and width, metres.
        live: Which slots hold an agent.
    """
    unit = size.new_tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    corners = se2.apply(pose[:, :, None], size[:, :, None] / 2 * unit)
    # Of each box in the frame of each other: [s, frame, box, corner, (x, y)].
    seen = se2.unapply(pose[:, :, None, None], corners[:, None])
    half = size[:, :, None] / 2
    apart = ((seen.amin(-2) > half) | (seen.amax(-2) < -half)).any(-1)
    pairs = live[:, :, None] & live[:, None]
    pairs = pairs & ~torch.eye(live.shape[1], dtype=torch.bool, device=live.device)
    return pairs & ~apart & ~apart.transpose(1, 2)
