"""The map beside a bag: GeoJSON in the frame of the odometry, or Lanelet2."""

from __future__ import annotations

import posixpath
from collections import Counter

import numpy as np

from data_tools.formats import lanelet2
from data_tools.formats.geojson import read_map
from data_tools.formats.xml import read_xml
from data_tools.scene import MapElement
from data_tools.utm import to_utm, zone_at
from forecast.errors import DataError
from forecast.storage.files import filesystem

MGRS = "mgrs"
SQUARE_M = 100_000.0


def map_beside(path: str, origin: str, notes: Counter[str]) -> tuple[MapElement, ...]:
    """The map of a bag; empty where there is none.

    That is ``BAG.mcap.geojson``, ``BAG.map.geojson``, ``BAG.osm``, or ``lanelet2_map.osm`` in its
    folder, the first that is there.

    Args:
        path: Of the bag.
        origin: Where x and y of a Lanelet2 map are 0: "mgrs", in the corner of its 100 km square,
            as Autoware has it; or latitude and longitude, "49.01,8.43".
        notes: Counts of what had to be left out; added to.

    Raises:
        DataError: A map is there and cannot be read, or there is no such origin.
    """
    stem = path.removesuffix(".mcap")
    for name in (f"{path}.geojson", f"{stem}.map.geojson"):
        if _is_file(name):
            return read_map(name)
    for name in (f"{stem}.osm", posixpath.join(posixpath.dirname(path), "lanelet2_map.osm")):
        if _is_file(name):
            return lanelet2.read_map(name, _projection(name, origin), notes)
    return ()


def _is_file(path: str) -> bool:
    system, inner = filesystem(path)
    return bool(system.isfile(inner))


def _projection(path: str, origin: str) -> lanelet2.Projection:
    if origin != MGRS:
        try:
            latitude, longitude = map(float, origin.split(","))
        except ValueError as error:
            raise DataError(
                "origin=mgrs or origin=LATITUDE,LONGITUDE", repr(origin), "correct --set"
            ) from error
        return lanelet2.centred(latitude, longitude)
    for element in read_xml(path, "osm"):
        if element.tag == "node":
            return _square_of(element.get("lat"), element.get("lon"), path)
    raise DataError("a Lanelet2 map", f"{path} without nodes", "leave the map out")


def _square_of(lat: str | None, lon: str | None, path: str) -> lanelet2.Projection:
    """The 100 km square that a place is in, its corner as the origin."""
    try:
        latitude, longitude = float(lat or ""), float(lon or "")
        epsg = zone_at(latitude, longitude)
        (place,) = to_utm(np.array([[longitude, latitude]]), epsg)
    except ValueError as error:
        raise DataError(
            "latitude and longitude in a Lanelet2 map", f"{lat}, {lon} in {path}", "correct it"
        ) from error
    east, north = np.floor(place / SQUARE_M) * SQUARE_M
    return lanelet2.Projection(epsg, (float(east), float(north)))
