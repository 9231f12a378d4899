"""The direction of the nearest lane as a raster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecast.grid import BEVGrid

Array = NDArray[np.float64]

SPACING_M = 0.5  # of the points to give: a bend of 10 m is then exact to 1.5 degrees
REACH_M = 2.0  # from a lane's centre, half of a wide lane


def lane_directions(points: Array | None, grid: BEVGrid) -> NDArray[np.float16]:
    """The direction of the nearest lane centre, where one is near.

    Args:
        points: ``(P, 3)`` x, y, yaw along lane centres in the grid's frame, metres and radians;
            None if not asked for.
        grid: Where the cells are.

    Returns:
        ``(2, height, width)`` x and y of a unit vector; 0 where no point is within
        :data:`REACH_M`; ``(0, height, width)`` if not asked for.
    """
    if points is None:
        return np.empty((0, *grid.shape), np.float16)
    from scipy.spatial import KDTree  # slow to import, and few stores have directions

    x, y, yaw = points.T
    near = (x > grid.x_min_m - REACH_M) & (x < grid.x_max_m + REACH_M)
    near &= (y > grid.y_min_m - REACH_M) & (y < grid.y_max_m + REACH_M)
    if not near.any():
        return np.zeros((2, *grid.shape), np.float16)
    cells = np.stack(np.meshgrid(grid.x_m, grid.y_m), axis=-1)
    _, nearest = KDTree(points[near, :2]).query(cells, distance_upper_bound=REACH_M)
    # Cells with no point within reach are given one past the last.
    ahead, left = np.append(np.cos(yaw[near]), 0.0), np.append(np.sin(yaw[near]), 0.0)
    return np.stack([ahead[nearest], left[nearest]]).astype(np.float16)
