"""The vector map of an Argoverse 2 log or scenario, ``log_map_archive_*.json``.

Lane segments give ``lane_centre`` in their direction of travel, from the file where it has centre
lines, else midway between the two boundaries. Drivable areas and pedestrian crossings are polygons.
The format has no road edges: they are the outline of all drivable areas together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.documents import read_json
from data_tools.formats.lanes import midline
from data_tools.formats.polygons import outline, rings
from data_tools.scene import MapElement
from forecast.errors import DataError

Array = NDArray[np.float64]

MAX_COORDINATE_M = 100_000.0  # from the city's own origin


def read_map(path: str) -> tuple[MapElement, ...]:
    """Reads a vector map.

    Raises:
        DataError: It is missing, or no such map.
    """
    content = read_json(path)
    try:
        lanes = list(_lanes(content["lane_segments"]))
        areas = [
            shapely.Polygon(_points(area["area_boundary"]))
            for area in _records(content["drivable_areas"])
        ]
        crossings = [
            np.concatenate([_points(c["edge1"]), _points(c["edge2"])[::-1]])
            for c in _records(content["pedestrian_crossings"])
        ]
        return (
            *(MapElement("lane_centre", lane) for lane in lanes),
            *(MapElement("drivable", ring, closed=True) for area in areas for ring in rings(area)),
            *(MapElement("crosswalk", crossing, closed=True) for crossing in crossings),
            *(MapElement("road_edge", edge) for edge in outline(areas)),
        )
    except (
        *(KeyError, TypeError, ValueError, AttributeError, OverflowError),
        shapely.errors.ShapelyError,
    ) as error:
        raise DataError(
            "an Argoverse 2 map with lane_segments, drivable_areas and pedestrian_crossings",
            f"{path} with {error!r}",
            "restore it or leave the recording out",
        ) from error


def _lanes(segments: Any) -> Iterator[Array]:
    for segment in _records(segments):
        if segment.get("centerline"):
            yield _points(segment["centerline"])
        else:
            left, right = (_points(segment[f"{side}_lane_boundary"]) for side in ("left", "right"))
            yield midline(left, right)


def _records(content: Any) -> list[Any]:
    """The records of a table that is an object by id, or a list."""
    return list(content.values()) if isinstance(content, dict) else list(content)


def _points(content: Any) -> Array:
    points = np.array([(point["x"], point["y"]) for point in content], np.float64).reshape(-1, 2)
    if len(points) < 2 or not np.isfinite(points).all() or np.abs(points).max() > MAX_COORDINATE_M:
        raise ValueError(f"{len(points)} points, not two or more within {MAX_COORDINATE_M:g} m")
    return points
