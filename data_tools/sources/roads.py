"""Roads as map elements, for the sources that describe lanes by their centre lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.polygons import rings
from data_tools.scene import MapElement, MapLayer
from forecast.errors import DataError

Array = NDArray[np.float64]

HALF_LANE_M = 1.75
# Further than once around the Earth: no projection has such places.
MAX_COORDINATE_M = 1e8


def line(layer: MapLayer, points: Array, where: str) -> tuple[MapElement, ...]:
    """A polyline as one map element, or none where it has fewer than two points.

    Args:
        layer: Where it is drawn.
        points: ``(n, 2 or more)`` x, y, metres; lanes in the direction of travel.
        where: What to call it in the error.

    Raises:
        DataError: A coordinate is not finite, or no place on Earth.
    """
    return _element(layer, points, where, closed=False)


def area(layer: MapLayer, points: Array, where: str) -> tuple[MapElement, ...]:
    """A polygon as one map element, or none where it has fewer than three points.

    Args:
        layer: Where it is drawn.
        points: ``(n, 2 or more)`` x, y, metres.
        where: What to call it in the error.

    Raises:
        DataError: A coordinate is not finite, or no place on Earth.
    """
    return _element(layer, points, where, closed=True)


def widened(lanes: Sequence[MapElement]) -> tuple[MapElement, ...]:
    """The drivable area along centre lines, as wide as a typical lane."""
    lines = [shapely.LineString(lane.points) for lane in lanes]
    areas = shapely.buffer(
        shapely.simplify(lines, 0.05), HALF_LANE_M, cap_style="flat", quad_segs=2
    )
    # A lane that turns back upon itself leaves an island free.
    return tuple(
        MapElement("drivable", ring, closed=True)
        for part in shapely.get_parts(areas)
        for ring in rings(part)
    )


def _element(layer: MapLayer, points: Array, where: str, closed: bool) -> tuple[MapElement, ...]:
    if len(points) < (3 if closed else 2):
        return ()
    if not (np.abs(points[:, :2]) < MAX_COORDINATE_M).all():
        raise DataError("coordinates of the map in metres", f"others in {where}", "leave it out")
    return (MapElement(layer, points[:, :2], closed=closed),)
