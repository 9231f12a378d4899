"""Where the cells of a feature map lie: as shares of the map, or in metres."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.grid import BEVGrid


def cell_centres(shape: tuple[int, int], device: torch.device) -> Float[Tensor, "h w 2"]:
    """Centre of every cell of a map, x and y in [0, 1]."""
    height, width = shape
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def metric_cell_centres(
    shape: tuple[int, int], grid: BEVGrid, like: Tensor
) -> Float[Tensor, "h w 2"]:
    """Centres x, y in metres of the cells of a pyramid level that covers the grid."""
    columns, rows = cell_centres(shape, like.device).unbind(-1)
    return torch.stack(
        (
            grid.x_min_m + columns * (grid.x_max_m - grid.x_min_m),
            grid.y_min_m + rows * (grid.y_max_m - grid.y_min_m),
        ),
        -1,
    ).to(like.dtype)
