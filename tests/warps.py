"""A whole frame seen from elsewhere: what samples taken in metres make of it."""

from __future__ import annotations

from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model import se2
from forecast.model.warp import cell_centres, sample_at


def seen_from(raster: Tensor, pose: Tensor, grid: BEVGrid, mode: str = "bilinear") -> Tensor:
    """A raster ``(B, C, y, x)`` in the frame in which its own frame has ``pose``, ``(B, 3)``."""
    centres = cell_centres((raster.shape[-2], raster.shape[-1]), grid, raster)
    source = se2.unapply(pose[:, None, None], centres[None].expand(len(pose), -1, -1, -1))
    return sample_at(raster, source, grid, mode)
