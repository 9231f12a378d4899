"""Lanes between two borders: their centre lines and their areas."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

Array = NDArray[np.float64]

SPACING_M = 2.0  # of the points of centre lines made here


def aligned(left: Array, right: Array) -> tuple[Array, Array]:
    """Two borders of a lane, whichever way each is drawn, in the lane's own direction.

    Args:
        left: ``(n, 2)`` the border that a driver has on the left.
        right: ``(m, 2)`` the one on the right.

    Returns:
        Both, each turned round where it leads against the lane.
    """
    straight = np.linalg.norm(left[[0, -1]] - right[[0, -1]], axis=1).sum()
    if np.linalg.norm(left[[0, -1]] - right[[-1, 0]], axis=1).sum() < straight:
        right = right[::-1]  # lines from end to end would cross
    around = shapely.LinearRing(np.concatenate([left, right[::-1]]))
    return (left[::-1], right[::-1]) if around.is_ccw else (left, right)


def midline(left: Array, right: Array) -> Array:
    """The line midway between two, ``(n, 2)``, from equal shares of the way along each."""
    longest = max(map(_length, (left, right)))
    count = max(len(left), len(right), int(np.ceil(longest / SPACING_M)) + 1)
    sides = [
        shapely.get_coordinates(
            shapely.line_interpolate_point(
                shapely.LineString(side), np.linspace(0, 1, count), normalized=True
            )
        )
        for side in (left, right)
    ]
    return np.asarray((sides[0] + sides[1]) / 2)


def _length(line: Array) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
