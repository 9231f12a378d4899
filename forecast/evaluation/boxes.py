"""Boxes of agents on the ground: by how much two overlap, and which of many do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_tools.geometry import box_corners

APART_M = 1e-6
"""What is taken off a box, so that it has no side in common with another."""
TINY = 1e-12


def box_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of pairs of boxes: two of ``(..., 5)`` to ``(...)``.

    A box with an unknown number overlaps none.
    """
    first, second = np.broadcast_arrays(first, second)
    found = np.zeros(first.shape[:-1])
    close = _close(first, second)
    one, other = first[close], second[close].copy()
    # No side of one may lie on one of the other.
    other[:, 3:] -= APART_M
    place = box_corners(one), box_corners(other)
    shared = np.zeros(len(one))
    for mine, theirs in ((place[0], other), (place[1], one)):
        along = np.roll(mine, -1, axis=1) - mine
        # The shared part is bounded by what of each box's sides lies in the other box.
        turned = mine - one[:, None, :2]
        around = turned[..., 0] * along[..., 1] - turned[..., 1] * along[..., 0]
        shared += (_share_inside(mine, along, theirs) * around).sum(axis=1) / 2
    areas = one[:, 3] * one[:, 4] + second[close][:, 3] * second[close][:, 4]
    found[close] = shared / (areas - shared)
    return found


def _share_inside(
    start: NDArray[np.float64], along: NDArray[np.float64], box: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much of each line ``(n, 4)`` lies in a box ``(n, 5)``: 0 to 1."""
    cos, sin = np.cos(box[:, 2, None]), np.sin(box[:, 2, None])
    x, y = np.moveaxis(start - box[:, None, :2], -1, 0)
    into, out = np.zeros(x.shape), np.ones(x.shape)
    for (c, s), side in (((cos, sin), box[:, 3, None]), ((-sin, cos), box[:, 4, None])):
        at, step = c * x + s * y, c * along[..., 0] + s * along[..., 1]
        step = np.where(np.abs(step) < TINY, TINY, step)
        ends = (-side / 2 - at) / step, (side / 2 - at) / step
        into, out = np.maximum(into, np.minimum(*ends)), np.minimum(out, np.maximum(*ends))
    share: NDArray[np.float64] = np.maximum(out - into, 0.0)
    return share


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
