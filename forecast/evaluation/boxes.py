"""Boxes of agents on the ground: by how much two overlap, and which of many do."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray


def corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of boxes, counter-clockwise: ``(..., 5)`` to ``(..., 4, 2)`` metres.

    A box is x, y, yaw, length, width.
    """
    along = box[..., 3, None] / 2 * np.array([1.0, -1.0, -1.0, 1.0])
    aside = box[..., 4, None] / 2 * np.array([1.0, 1.0, -1.0, -1.0])
    cos, sin = np.cos(box[..., 2, None]), np.sin(box[..., 2, None])
    x, y = box[..., 0, None], box[..., 1, None]
    return np.stack([x + cos * along - sin * aside, y + sin * along + cos * aside], axis=-1)


def box_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of pairs of boxes: two of ``(..., 5)`` to ``(...)``.

    A box with an unknown number overlaps none.
    """
    first, second = np.broadcast_arrays(first, second)
    found = np.zeros(first.shape[:-1])
    close = _close(first, second)
    one, other = first[close], second[close]
    shared = shapely.area(
        shapely.intersection(shapely.polygons(corners(one)), shapely.polygons(corners(other)))
    )
    found[close] = shared / (one[:, 3] * one[:, 4] + other[:, 3] * other[:, 4] - shared)
    return found


def overlaps_another(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the boxes of a frame overlap another one of it: ``(..., N, 5)`` to ``(..., N)``.

    Boxes that only touch do not overlap; one with an unknown number overlaps none.
    """
    found = np.zeros(boxes.shape[:-1], bool)
    one, other = np.triu_indices(boxes.shape[-2], 1)
    for frame in np.ndindex(boxes.shape[:-2]):
        those = boxes[frame]
        close = _close(those[one], those[other])
        pairs = one[close], other[close]
        first, second = those[pairs[0]], those[pairs[1]]
        both = ~(_separated(first, second) | _separated(second, first))
        for side in pairs:
            found[frame][side[both]] = True
    return found


def _close(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the circles around two boxes meet; not if a number is unknown."""
    gap = np.hypot(first[..., 0] - second[..., 0], first[..., 1] - second[..., 1])
    reach = np.hypot(first[..., 3], first[..., 4]) + np.hypot(second[..., 3], second[..., 4])
    near: NDArray[np.bool_] = (gap < reach / 2) & np.isfinite(first[..., 2] + second[..., 2])
    return near


def _separated(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a line along a side of the first box has the two on different sides."""
    x, y = second[:, 0] - first[:, 0], second[:, 1] - first[:, 1]
    cos, sin = np.cos(first[:, 2]), np.sin(first[:, 2])
    turn = second[:, 2] - first[:, 2]
    even, across = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    ahead = (first[:, 3] + even * second[:, 3] + across * second[:, 4]) / 2
    aside = (first[:, 4] + across * second[:, 3] + even * second[:, 4]) / 2
    apart: NDArray[np.bool_] = np.abs(x * cos + y * sin) >= ahead
    return apart | (np.abs(y * cos - x * sin) >= aside)
