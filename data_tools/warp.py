"""Rasters moved into another frame: every new cell samples the old one once, at its exact place.

The same as ``forecast.model.scene.warp`` does with torch for features; cells from outside the old
raster are 0.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_tools.geometry import to_frame
from forecast.grid import BEVGrid

Array = NDArray[np.float64]
_Label = TypeVar("_Label", bound=np.generic)

# Between equally near cells the choice must not depend on rounding: ties go to one side.
TIE = 1e-6


def nearest(raster: NDArray[_Label], pose: Array, have: BEVGrid, want: BEVGrid) -> NDArray[_Label]:
    """Labels, each taken from the cell that its place is in.

    Args:
        raster: ``(..., H, W)`` on the grid ``have``, in a frame of its own.
        pose: ``(3,)`` x, y, yaw of that frame in the frame of the result.
        have: Its grid.
        want: The grid of the result.

    Returns:
        ``(..., height, width)`` on ``want``.
    """
    row, column = np.floor(_places(pose, have, want) + (0.5 + TIE)).astype(np.int64)
    inside = (row >= 0) & (row < have.height) & (column >= 0) & (column < have.width)
    seen = raster[..., row.clip(0, have.height - 1), column.clip(0, have.width - 1)]
    return np.where(inside, seen, np.zeros((), raster.dtype))


def bilinear(
    raster: NDArray[np.float32], pose: Array, have: BEVGrid, want: BEVGrid
) -> NDArray[np.float32]:
    """Channels, interpolated between the four cells around each place.

    ``raster`` is ``(..., H, W)`` as for :func:`nearest`, and so are the others and the result.
    """
    from scipy.ndimage import map_coordinates  # slow to import, and no source of tracks needs it

    places = _places(pose, have, want)
    layers: list[NDArray[Any]] = [
        map_coordinates(layer, places, order=1, mode="grid-constant", prefilter=False)
        for layer in raster.reshape(-1, *have.shape)
    ]
    return np.array(layers, np.float32).reshape(*raster.shape[:-2], *want.shape)


def _places(pose: Array, have: BEVGrid, want: BEVGrid) -> Array:
    """Where the cells of ``want`` are in a raster on ``have``: ``(2, height, width)``, in cells."""
    x, y = to_frame(np.stack(np.meshgrid(want.x_m, want.y_m), axis=-1), pose).transpose(2, 0, 1)
    edge = np.array([have.y_min_m, have.x_min_m])[:, None, None]
    places: Array = (np.stack([y, x]) - edge) / have.resolution_m - 0.5
    return places
