"""The nuScenes map expansion (version 1.3), cut down to the area around one scene.

``lane_centre`` are the arcs of lanes and lane connectors in their direction, ``drivable`` the
drivable areas, ``crosswalk`` the pedestrian crossings. The format has no road edges: they are the
outline of the drivable areas together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.documents import read_json
from data_tools.scene import MapElement
from data_tools.sources.city_map import CityMap
from forecast.errors import DataError
from forecast.storage.files import version_of

Array = NDArray[np.float64]

SPACING_M = 2.0
MAX_ARC_M = 10_000.0
_TURN = {"L": 1.0, "S": 0.0, "R": -1.0}


def read_map(path: str, way: Array) -> tuple[MapElement, ...]:
    """What lies around the ego's path.

    Args:
        path: ``maps/expansion/LOCATION.json``.
        way: ``(T, 2)`` the ego's places, NaN where unknown.

    Raises:
        DataError: The file is no such map.
    """
    return _city(path, version_of(path, "a nuScenes map expansion")).near(way)


def arc_line(path: Sequence[Any]) -> Array:
    """Points about every 2 m along arcs, ``(n, 2)``.

    Args:
        path: The records of one lane in ``arcline_path_3``: a start pose, then three pieces, each
            straight (S) or bent to the left or right (L, R) with the record's radius, of the
            lengths given.
    """
    pieces = [_start(path[0])]
    for record in path:
        x, y, yaw = map(float, record["start_pose"])
        for turn, length in zip(record["shape"], record["segment_length"], strict=True):
            if not 0 <= float(length) <= MAX_ARC_M:
                raise ValueError(f"a piece of {length} m")
            curvature = _TURN[turn] / float(record["radius"]) if _TURN[turn] else 0.0
            count = max(1, int(np.ceil(float(length) / SPACING_M)))
            along = np.arange(1, count + 1) * float(length) / count
            # The chord of an arc: as long as the arc times sinc of half its angle, turned by it.
            half = curvature * along / 2
            chord = along * np.sinc(half / np.pi)
            points = np.stack([x + chord * np.cos(yaw + half), y + chord * np.sin(yaw + half)], -1)
            pieces.append(points)
            (x, y), yaw = map(float, points[-1]), yaw + curvature * float(length)
    line = np.concatenate(pieces)
    if not np.abs(line).max() < 1e7:
        raise ValueError("an arc without an end")
    return line


@lru_cache(maxsize=4)  # there are four locations
def _city(path: str, _version: str) -> CityMap:
    """Reads a whole map; ``_version`` makes a changed file a new one."""
    content = read_json(path)
    try:
        nodes = {node["token"]: (float(node["x"]), float(node["y"])) for node in content["node"]}
        polygons = {p["token"]: _polygon(p, nodes) for p in content["polygon"]}
        arcs = content["arcline_path_3"]
        return CityMap.of(
            lanes=[shapely.LineString(arc_line(arc)) for arc in arcs.values() if arc],
            drivable=[
                polygons[token] for a in content["drivable_area"] for token in a["polygon_tokens"]
            ],
            crosswalks=[polygons[c["polygon_token"]] for c in content["ped_crossing"]],
        )
    except (
        *(KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError),
        *(OverflowError, shapely.errors.ShapelyError),
    ) as error:
        raise DataError(
            "a nuScenes map expansion with arcline_path_3",
            f"{path} with {error!r}",
            "restore or remove it",
        ) from error


def _polygon(record: Any, nodes: dict[str, tuple[float, float]]) -> shapely.Polygon:
    def ring(tokens: Any) -> list[tuple[float, float]]:
        points = [nodes[token] for token in tokens]
        if not np.isfinite(points).all() or not np.abs(points).max(initial=0.0) < 1e7:
            raise ValueError("a corner that is not finite")
        return points

    holes = [ring(hole["node_tokens"]) for hole in record.get("holes", ())]
    return shapely.Polygon(ring(record["exterior_node_tokens"]), [h for h in holes if len(h) >= 3])


def _start(record: Any) -> Array:
    return np.array([record["start_pose"][:2]], np.float64)
