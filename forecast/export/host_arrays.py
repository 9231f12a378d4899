"""What a host is given, checked, and what it sees from another frame: numpy alone.

`forecast export` writes this file beside `host.py`, which needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Shape = tuple[int | None, ...]
"""Of an array; None = any number."""

FARTHEST = 1e6  # metres or radians; farther away float32 is no finer than centimetres
LARGEST_M = 200.0  # length or width of anything
MOST = 2**63 - 1
EXACT = 2**53  # from which on floats leave whole numbers out
DIRECTIONS = 8  # lane points of a square in different eighths of a turn are different lanes
SPAN = 4096  # squares are told apart within so many from the origin to each side


class ExportError(ValueError):
    """An exported folder or an input that is not what it should be, in one line."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"expected {expected}; got {got}; {remedy}")
        self.parts = expected, got, remedy


def of_shape(name: str, given: ArrayLike, shape: Shape) -> NDArray[Any]:
    """Numbers of a shape.

    Raises:
        ExportError: It is another one, or they are no numbers.
    """
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if not array.size and not all(shape):
        return np.zeros([length or 0 for length in shape])
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "biuf":
        sizes = ", ".join("N" if length is None else str(length) for length in shape)
        wanted = f"{name}: numbers of shape ({sizes})" if shape else f"{name}: one number"
        found = f"an array of {array.dtype} of shape {array.shape}" if array.shape else repr(given)
        raise ExportError(wanted, found[:80].replace("\n", " "), f"correct {name}")
    return array


def numbers(
    name: str, given: ArrayLike, shape: Shape, most: float = FARTHEST
) -> NDArray[np.float64]:
    """Finite numbers of a shape, none farther from 0 than ``most``.

    Raises:
        ExportError: They are not.
    """
    array = of_shape(name, given, shape).astype(np.float64)
    wrong = array[~(np.abs(array) <= most)]
    if wrong.size:
        wanted = f"{name} of finite numbers from {-most:g} to {most:g}"
        remedy = f"correct {name}" + ("; places are metres around the ego" if shape else "")
        raise ExportError(wanted, f"{wrong[0]:.9g}", remedy)
    return array


def whole(name: str, given: ArrayLike, shape: Shape, most: int = MOST) -> NDArray[np.int64]:
    """Whole numbers from 1 to ``most``, of a shape.

    Raises:
        ExportError: They are not.
    """
    array = of_shape(name, given, shape)
    with np.errstate(invalid="ignore"):  # NaN, which is no whole number
        counts = array.astype(np.int64)
    right = (counts == array) & (counts >= 1) & (counts <= most)
    if array.dtype.kind == "f":
        right &= array < EXACT
    if not right.all():
        wanted = f"{name} of whole numbers from 1 to {most}"
        raise ExportError(wanted, str(array[~right].flat[0]), f"correct {name}")
    return counts


def zeros_and_ones(name: str, given: ArrayLike, shape: Shape) -> NDArray[np.float32]:
    """Numbers of a shape that are 0 or 1.

    Raises:
        ExportError: They are not.
    """
    array = of_shape(name, given, shape)
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ExportError(f"{name} of 0 and 1", str(wrong[0]), "draw what is there as 1")
    return array.astype(np.float32)


def agents(
    ids: ArrayLike, labels: ArrayLike, boxes: ArrayLike, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Ids, labels and boxes ``(N, 5)`` of the agents of one moment.

    Raises:
        ExportError: They are not of one length, or there are no agents like these.
    """
    ids = whole("ids", ids, (None,))
    if len(np.unique(ids)) < len(ids):
        raise ExportError("every id once in a moment", "one twice", "give each agent its own")
    labels = whole("labels", labels, ids.shape, classes)
    boxes = numbers("boxes", boxes, (len(ids), 5))
    sizes = boxes[:, 3:]
    wrong = sizes[(sizes <= 0) | (sizes > LARGEST_M)]
    if wrong.size:
        wanted = f"lengths and widths above 0, {LARGEST_M:g} m at most"
        raise ExportError(wanted, f"{wrong[0]:g}", "correct boxes, or leave the agent out")
    return ids, labels, boxes.astype(np.float32)


def off_grid(places: NDArray[Any], grid: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which rows that begin with x, y lie outside the grid of the metadata; NaN do not."""
    x, y = places[:, 0], places[:, 1]
    aside = (y < grid["y_min_m"]) | (y >= grid["y_max_m"])
    away: NDArray[np.bool_] = aside | (x < grid["x_min_m"]) | (x >= grid["x_max_m"])
    return away


def seen_from(frame: ArrayLike, rows: ArrayLike) -> NDArray[np.float64]:
    """Rows that begin with x, y, yaw as they are seen from a frame; other columns stay.

    Args:
        frame: x, y, yaw of the frame, where the rows are given.
        rows: ``(N, 3)`` or with more columns, as boxes have; none are ``[]``.

    Raises:
        ExportError: They are of another shape.
    """
    x, y, yaw = of_shape("frame", frame, (3,))
    seen = of_shape("rows", rows, (None, None)).astype(np.float64)
    if seen.shape[1] < 3:  # wrong, or there are none
        seen = of_shape("rows", rows, (None, 3))
    ahead, left = seen[:, 0] - x, seen[:, 1] - y
    seen[:, 0] = np.cos(yaw) * ahead + np.sin(yaw) * left
    seen[:, 1] = np.cos(yaw) * left - np.sin(yaw) * ahead
    seen[:, 2] = np.remainder(seen[:, 2] - yaw + np.pi, 2 * np.pi) - np.pi
    return seen


def placed(frame: NDArray[Any], x: Any, y: Any) -> tuple[Any, Any]:
    """Places of a frame, where the frame itself is given: the inverse of :func:`seen_from`."""
    cos, sin = np.cos(frame[2]), np.sin(frame[2])
    return frame[0] + cos * x - sin * y, frame[1] + sin * x + cos * y


def thinned(points: ArrayLike, spacing_m: float) -> NDArray[np.float32]:
    """The first lane point of each direction in every square of a lattice.

    Args:
        points: ``(P, 3)`` x, y, yaw.
        spacing_m: Side of the squares; 0 = all points are kept.
    """
    rows: NDArray[np.float32] = np.asarray(points, np.float32)
    if not spacing_m:
        return rows
    cell = np.floor(rows[:, :2] / np.float32(spacing_m)).astype(np.int64)
    cell = np.clip(cell, -SPAN, SPAN - 1) + SPAN
    turns = rows[:, 2] / np.float32(2 * np.pi) * np.float32(DIRECTIONS)
    turn = np.round(turns).astype(np.int64) % DIRECTIONS
    key = (cell[:, 0] * 2 * SPAN + cell[:, 1]) * DIRECTIONS + turn
    first = np.unique(key, return_index=True)[1]
    return rows[np.sort(first)]


def nearest(points: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The so many points that are nearest to the origin, in their order."""
    near = np.argsort(np.hypot(points[:, 0], points[:, 1]), kind="stable")[:count]
    return points[np.sort(near)]
