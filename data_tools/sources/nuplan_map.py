"""The map of a nuPlan city, ``maps/LOCATION/VERSION/map.gpkg``, cut down to the area of a scene.

``lane_centre`` are the baseline paths of lanes and lane connectors in their direction; ``drivable``
is what nuPlan's own toolkit calls so: road segments, intersections, car parks and other drivable
areas; ``crosswalk`` as in the file. It has no road edges: they are the outline of what is drivable.

The file holds longitude and latitude, and names the UTM zone that the poses of the logs are in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.databases import Database, open_database
from data_tools.formats.geopackage import TABLES, read_layer
from data_tools.scene import MapElement
from data_tools.sources.city_map import CityMap
from data_tools.utm import is_zone, to_utm
from forecast.errors import DataError
from forecast.storage.files import version_of

Array = NDArray[np.float64]

WGS84 = 4326  # EPSG number of longitude and latitude
LANES, CROSSWALKS = "baseline_paths", "crosswalks"
DRIVABLE = ("road_segments", "intersections", "generic_drivable_areas", "carpark_areas")
_OF_LANES = ("lane_fid", "lane_connector_fid")  # one of them is given
_TABLES = {
    **TABLES,
    "meta": ("key", "value"),
    LANES: _OF_LANES,
    **dict.fromkeys((CROSSWALKS, *DRIVABLE), ()),
}


def read_map(path: str, way: Array) -> tuple[MapElement, ...]:
    """What lies around the ego's path.

    Args:
        path: ``.../map.gpkg``.
        way: ``(T, 2)`` the ego's places in the UTM zone of the city, NaN where unknown.

    Raises:
        DataError: The file is no such map.
    """
    return _city(path, version_of(path, "a nuPlan map")).near(way)


@lru_cache(maxsize=4)  # there are four cities
def _city(path: str, _version: str) -> CityMap:
    """Reads a whole map; ``_version`` makes a changed file a new one."""
    with open_database(path, _TABLES) as database:
        zone = _zone(database)
        paths, rows = _layer(database, LANES, zone, _OF_LANES)
        lanes = [
            line
            for line, ids in zip(paths, rows, strict=True)
            if any(number is not None for number in ids)
        ]
        drivable = [area for layer in DRIVABLE for area in _layer(database, layer, zone)[0]]
        crosswalks, _ = _layer(database, CROSSWALKS, zone)
    _check_kind(lanes, shapely.LineString, LANES, path)
    _check_kind(drivable, shapely.Polygon, ", ".join(DRIVABLE), path)
    _check_kind(crosswalks, shapely.Polygon, CROSSWALKS, path)
    return CityMap.of(lanes, drivable, crosswalks)


def _zone(database: Database) -> int:
    """The EPSG number of the city's UTM zone."""
    found = database.rows("SELECT value FROM meta WHERE key = 'projectedCoordSystem'")
    named = re.fullmatch(r"(?i)epsg:(\d{1,6})", str(found[0][0])) if len(found) == 1 else None
    if named is None or not is_zone(int(named[1])):
        raise DataError(
            "a UTM zone as projectedCoordSystem in the table meta",
            f"{found[0][0] if found else None!r:.60} in {database.path}",
            "restore the map",
        )
    return int(named[1])


def _layer(
    database: Database, layer: str, zone: int, columns: Sequence[str] = ()
) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """The parts of a layer's shapes in the plane of a zone, and the columns of each."""
    epsg, shapes, rows = read_layer(database, layer, columns)
    where = f"layer {layer} of {database.path}"
    if epsg not in (WGS84, zone):
        got = f"EPSG {epsg} in {where}"
        raise DataError(f"coordinates as EPSG {WGS84} or {zone}", got, "restore the map")
    plane = shapely.force_2d(shapes)
    try:
        if epsg == WGS84:
            plane = shapely.transform(plane, partial(to_utm, epsg=zone))
        elif not np.isfinite(shapely.get_coordinates(plane)).all():
            raise ValueError("a corner that is not finite")
    except ValueError as error:
        raise DataError("places of the city", f"{where} ({error})", "restore the map") from error
    parts, place = shapely.get_parts(plane, return_index=True)
    return list(parts), [rows[n] for n in place]


def _check_kind(shapes: Sequence[Any], kind: type[Any], layer: str, path: str) -> None:
    other = next((shape for shape in shapes if not isinstance(shape, kind)), None)
    if other is not None:
        got = f"a {other.geom_type} in {layer} of {path}"
        raise DataError(f"a {kind.__name__}", got, "restore the map")
