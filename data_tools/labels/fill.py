"""The pixels that ``cv2.fillPoly`` fills, without OpenCV; published labels are made with it.

OpenCV fills the pixels of every edge, by Bresenham's line from its left end, and in each row those
between two edges, so that a polygon is wider than its outline by up to a pixel all around. This is,
pixel for pixel, OpenCV until 4.7, with which the published labels were made. OpenCV 4.8 to 4.10
fills some more pixels inside; from 4.11 on only polygons that leave the picture differ, near its
border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_tools.labels.rasterise import ranges

Index = NDArray[np.int64]

FRACTION_BITS = 16  # of the fixed-point columns in which OpenCV follows an edge


def fill_polygons(corners: Index, shape: tuple[int, int]) -> tuple[Index, Index, Index]:
    """Fills polygons whose corners are pixels.

    Args:
        corners: ``(M, K, 2)`` column and row of each one's corners in order, on or off the picture.
        shape: Rows and columns of the picture.

    Returns:
        Polygon, row and column of each filled pixel, in the order of the polygons, some repeated.

    Source:
        OpenCV 4.5.1, ``CollectPolyEdges``, ``FillEdgeCollection``, ``LineIterator`` and
        ``clipLine`` of ``modules/imgproc/src/drawing.cpp``.
    """
    edges = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2, 2)
    polygon_of = np.arange(len(edges)) // corners.shape[1]
    parts = _outline(edges, polygon_of, shape), _inside(edges, polygon_of, shape)
    polygon, row, column = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(polygon, kind="stable")
    return polygon[order], row[order], column[order]


def _outline(edges: Index, polygon_of: Index, shape: tuple[int, int]) -> tuple[Index, Index, Index]:
    """The pixels of edges: on the axis with fewer steps rounded, halves towards the start."""
    cut, shown = _clip(edges, shape)
    cut, polygon_of = cut[shown], polygon_of[shown]
    start, end = _ordered(cut, axis=0)
    step = end - start
    steps = np.abs(step).max(axis=1)
    edge = np.repeat(np.arange(len(cut)), steps + 1)
    done = ranges(np.zeros_like(steps), steps + 1)[:, None]
    of, all_steps = np.abs(step)[edge], steps[edge, None]
    moved = (2 * of * done + all_steps - 1) // np.maximum(2 * all_steps, 1)
    pixel = start[edge] + np.sign(step)[edge] * moved
    return polygon_of[edge], pixel[:, 1], pixel[:, 0]


def _inside(edges: Index, polygon_of: Index, shape: tuple[int, int]) -> tuple[Index, Index, Index]:
    """The pixels between the first and second edge that cross a row, the third and fourth, ..."""
    rows, columns = shape
    top, bottom = _ordered(edges, axis=1)
    first = top[:, 1].clip(0, rows)
    count = bottom[:, 1].clip(0, rows) - first  # an edge's last row belongs to the next edge
    edge, row = np.repeat(np.arange(len(edges)), count), ranges(first, count)
    wide, high = (bottom - top).T
    # Rounded towards zero, as C divides.
    slope = np.sign(wide) * ((np.abs(wide) << FRACTION_BITS) // np.maximum(high, 1))
    crossing = (top[edge, 0] << FRACTION_BITS) + (row - top[edge, 1]) * slope[edge]
    order = np.lexsort((crossing, row, polygon_of[edge]))
    polygon, row = polygon_of[edge][order][::2], row[order][::2]
    left, right = crossing[order].reshape(-1, 2).T
    first = np.maximum(-(-left >> FRACTION_BITS), 0)
    count = np.maximum(np.minimum(right >> FRACTION_BITS, columns - 1) - first + 1, 0)
    return np.repeat(polygon, count), np.repeat(row, count), ranges(first, count)


def _ordered(edges: Index, axis: int) -> tuple[Index, Index]:
    """The two ends of edges ``(E, 2, 2)``, that of the lower column (axis 0) or row (1) first."""
    forward = (edges[:, 0, axis] <= edges[:, 1, axis])[:, None]
    first = np.where(forward, edges[:, 0], edges[:, 1])
    return first, np.where(forward, edges[:, 1], edges[:, 0])


def _clip(edges: Index, shape: tuple[int, int]) -> tuple[Index, NDArray[np.bool_]]:
    """Edges cut at the picture's border, first in rows, then in columns, cuts rounded to pixels.

    Returns:
        ``(E, 2, 2)`` edges, and ``(E,)`` whether anything of each is on the picture.
    """
    highest = np.array(shape[::-1]) - 1
    cut = edges.copy()
    for axis in (1, 0):
        below, above = cut < 0, cut > highest
        missed = (below.all(axis=1) | above.all(axis=1)).any(axis=-1)
        for end in (0, 1):
            chosen = (below | above)[:, end, axis] & ~missed
            here, there = cut[chosen, end], cut[chosen, 1 - end]
            border = np.where(below[chosen, end, axis], 0, highest[axis])
            span = (there - here).astype(np.float64)
            shift = (border - here[:, axis]) * span[:, 1 - axis] / span[:, axis]
            cut[chosen, end, axis] = border
            cut[chosen, end, 1 - axis] += np.trunc(shift).astype(np.int64)
    within: NDArray[np.bool_] = (cut >= 0) & (cut <= highest)
    return cut, np.logical_and.reduce(within, axis=(1, 2))
