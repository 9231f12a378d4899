"""By how much a sum over agents is divided."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_count(count: Tensor) -> Tensor:
    """A count averaged over the training's processes, at least 1.

    Processes average their gradients; divided by one number, every agent weighs the same in a
    process with few as in one with many.
    """
    count = count.detach().float()
    if distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        count = count / distributed.get_world_size()
    return count.clamp(min=1.0)
