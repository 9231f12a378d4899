"""The map of a py123d log: an Arrow table of shapes as WKB, cut down to the area of the log.

``lane_centre`` are the centre lines of lanes; ``drivable`` lanes but those for bicycles,
intersections, car parks and generic drivable areas; ``crosswalk`` and ``road_edge`` as in the file.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from data_tools.formats.columns import read_table
from data_tools.scene import MapElement
from data_tools.sources.city_map import CityMap
from forecast.errors import DataError
from forecast.storage.files import filesystem, version_of

Array = NDArray[np.float64]

MAX_COORDINATE_M = 1e8
LANE, CROSSWALK, ROAD_EDGE = 0, 3, 8
SURFACES = (LANE, 2, 5, 6)  # and intersections, car parks, generic drivable areas
BIKE_LANE = 3
_TYPES = {"map_layer": pa.int64(), "features": pa.binary(), "wkb": pa.binary()}
_FLOATS = ("<f8", "<f4")


def map_of(log: str, maps: str, way: Array) -> tuple[MapElement, ...] | None:
    """The map around the ego's way, or None where there is none.

    Args:
        log: Folder of the log.
        maps: Folder of maps for many logs; "" = ``maps`` beside ``logs``.
        way: ``(T, 2)`` the ego's places, NaN where unknown.

    Raises:
        DataError: It is no such map, or is not in the folder given.
    """
    path = posixpath.join(log, "map.arrow")
    system, inner = filesystem(path)
    if not system.isfile(inner):
        path = _shared(log, maps)
        system, inner = filesystem(path) if path else (system, inner)
        if not path or not system.isfile(inner):
            if maps:
                raise DataError("the map of the log", f"none in {maps}", "correct --set maps")
            return None
    return _read(path, version_of(path, "a map of py123d")).near(way)


def _shared(log: str, maps: str) -> str:
    """Where the map for many logs would be; "" where the log does not say."""
    sync = posixpath.join(log, "sync.arrow")
    system, inner = filesystem(sync)
    if not system.isfile(inner):
        return ""
    metadata = read_table(sync, {}).schema.metadata or {}
    try:
        content = msgpack.unpackb(metadata[b"metadata"])
        dataset, location = content["dataset"], content["location"]
    except (KeyError, TypeError, ValueError, msgpack.exceptions.UnpackException):
        return ""
    # They become part of a path.
    if not all(
        isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,99}", name)
        for name in (dataset, location)
    ):
        return ""
    prefix, mark, _ = log.rpartition("://")
    above = f"{prefix}{mark}{filesystem(log)[1]}"  # from the root, also of a relative path
    root = posixpath.dirname(posixpath.dirname(posixpath.dirname(above)))
    folder = maps.rstrip("/") or posixpath.join(root, "maps")
    return posixpath.join(folder, dataset, f"{dataset}_{location}.arrow")


@lru_cache(maxsize=4)
def _read(path: str, _version: str) -> CityMap:
    """Reads a whole map; ``_version`` makes a changed file a new one."""
    table = read_table(path, _TYPES)
    layer, features, wkb = (table[name].to_pylist() for name in _TYPES)
    try:
        with np.errstate(invalid="ignore"):  # shapely warns of NaN, refused below
            shapes = shapely.force_2d(shapely.from_wkb(wkb))
        lane = [
            (shape, msgpack.unpackb(content))
            for shape, kind, content in zip(shapes, layer, features, strict=True)
            if kind == LANE
        ]
        lanes = [shapely.LineString(_points(content["centerline"])) for _, content in lane]
        for_bicycles = {id(shape) for shape, content in lane if content["lane_type"] == BIKE_LANE}
    except (
        *(KeyError, TypeError, ValueError, OverflowError),
        *(msgpack.exceptions.UnpackException, shapely.errors.ShapelyError),
    ) as error:
        reason = f"{error!r:.200}"
        raise DataError("a map of py123d", f"{path} ({reason})", "restore it") from error
    parts = {
        name: [part for shape in found for part in shapely.get_parts(shape)]
        for name, found in {
            "drivable": [
                shape
                for shape, kind in zip(shapes, layer, strict=True)
                if kind in SURFACES and id(shape) not in for_bicycles
            ],
            "crosswalks": _of_layer(shapes, layer, CROSSWALK),
            "edges": _of_layer(shapes, layer, ROAD_EDGE),
        }.items()
    }
    _check(lanes, shapely.LineString, path)
    _check(parts["edges"], shapely.LineString, path)
    _check(parts["drivable"] + parts["crosswalks"], shapely.Polygon, path)
    return CityMap.of(lanes, **parts)


def _of_layer(shapes: NDArray[Any], layer: list[int], wanted: int) -> list[Any]:
    return [shape for shape, kind in zip(shapes, layer, strict=True) if kind == wanted]


def _points(array: Any) -> Array:
    """An array ``(n, 2 or 3)`` as py123d packs it: its type, shape and bytes; its x and y."""
    if array[b"dtype"] not in _FLOATS:
        raise ValueError(f"numbers of type {array[b'dtype']!r:.20}")
    count, axes = array[b"shape"]
    points = np.frombuffer(array[b"data"], array[b"dtype"]).reshape(int(count), int(axes))
    if not np.isfinite(points).all():
        raise ValueError("a point that is not finite")
    return points[:, :2].astype(np.float64)


def _check(shapes: list[Any], kind: type[Any], path: str) -> None:
    other = next((shape for shape in shapes if not isinstance(shape, kind)), None)
    if other is not None:
        got = f"{getattr(other, 'geom_type', other)} in {path}"
        raise DataError(f"a {kind.__name__}", got, "restore the map")
    if not (np.abs(shapely.get_coordinates(shapes)) < MAX_COORDINATE_M).all():
        raise DataError("coordinates of the map in metres", f"others in {path}", "restore the map")
