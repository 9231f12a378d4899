"""Lanelet2 maps, ``.osm``: lanes, areas and borders in the metres of a recording.

A lanelet is the road between a left and a right border, whichever way these are drawn; it leads
such that they are where their names say. The official library (``lanelet2`` on PyPI) has wheels for
Linux only; the tests compare with it where it is installed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.lanes import aligned, midline
from data_tools.formats.polygons import outline, rings
from data_tools.formats.xml import read_xml
from data_tools.labels.map_index import MapIndex
from data_tools.scene import MapElement
from data_tools.utm import to_utm, zone_at
from forecast.errors import DataError
from forecast.storage.files import version_of

Array = NDArray[np.float64]

FARTHEST_M = 100_000.0  # from the recording's origin
# A lanelet without a subtype is a road. ``bikelane`` is not in the standard, but in maps.
LANES = frozenset({"road", "highway", "play_street", "exit", "bus_lane"})
CYCLEWAYS = frozenset({"bicycle_lane", "bikelane"})
PAVED = LANES | {"emergency_lane", "parking", "freespace"}
SIDES = ("left", "right")
BORDERS = frozenset({"road_border", "curbstone", "guard_rail", "jersey_barrier", "wall", "fence"})
_FAULTS = (LookupError, ValueError, shapely.errors.ShapelyError)  # of single relations and ways


@dataclass(frozen=True)
class Projection:
    """Where a recording's x and y are on Earth.

    Args:
        epsg: Number of the UTM zone.
        origin_m: Easting and northing of its origin.
    """

    epsg: int
    origin_m: tuple[float, float]


def centred(latitude: float, longitude: float) -> Projection:
    """The projection of a recording whose origin is at a place, in degrees.

    Raises:
        DataError: There is no such place.
    """
    epsg = zone_at(latitude, longitude)
    try:
        ((east, north),) = to_utm(np.array([[longitude, latitude]]), epsg)
    except ValueError as error:
        raise DataError(
            "latitude and longitude of a map's origin", str(error), "correct it"
        ) from error
    return Projection(epsg, (float(east), float(north)))


def read_map(path: str, projection: Projection, notes: Counter[str]) -> tuple[MapElement, ...]:
    """Reads a Lanelet2 map.

    Lanelets for vehicles and bicycles give ``lane_centre``, both ways where ``one_way`` is "no";
    those for vehicles, emergency lanes and areas to park ``drivable``; crosswalks ``crosswalk``;
    kerbs, rails and walls ``road_edge``, or, where the map has none, the outline of what is
    drivable.

    Args:
        path: Local path or fsspec URL.
        projection: Of the recording.
        notes: Counts of what had to be left out; added to.

    Raises:
        DataError: It is no such map, has no whole lanelet, or is not where the recording is.
    """
    elements, left_out = _read(path, version_of(path, "a Lanelet2 map"), projection)
    notes.update(left_out)
    return elements


@lru_cache(maxsize=1)
def _read(path: str, _version: str, projection: Projection) -> tuple[MapIndex, Counter[str]]:
    """Reads a map, and counts what is left out; ``_version`` makes a changed file a new one."""
    content = _content(path)
    try:
        places = to_utm(np.array(content.degrees).reshape(-1, 2), projection.epsg)
    except ValueError as error:
        raise DataError("a map near the recording", f"{path} ({error})", "correct it") from error
    places -= projection.origin_m
    if not (np.abs(places) <= FARTHEST_M).all():
        away = float(np.abs(places).max()) / 1000
        raise DataError(
            f"a map within {FARTHEST_M / 1000:g} km of the recording's origin",
            f"{path}, {away:g} km away",
            "name latitude and longitude of the origin (map.origin in a preset)",
        )
    notes = Counter[str]()
    elements = MapIndex(_elements(content, places, notes))
    if not any(element.layer == "lane_centre" for element in elements):
        raise DataError("lanelets with two borders", f"none in {path}", "leave the map out")
    return elements, notes


@dataclass
class _Content:
    """A file as it is: nodes by their id, ways of nodes, and relations of ways."""

    node: dict[str, int] = field(default_factory=dict)
    degrees: list[tuple[float, float]] = field(default_factory=list)
    ways: dict[str, list[str]] = field(default_factory=dict)
    borders: list[str] = field(default_factory=list)
    relations: list[tuple[dict[str, str], list[tuple[str, str]]]] = field(default_factory=list)

    def line(self, way: str, places: Array) -> Array:
        """The points of a way, ``(n, 2)``.

        Raises:
            LookupError: The way or one of its nodes is not in the file.
            ValueError: It has fewer than two points.
        """
        points = places[[self.node[name] for name in self.ways[way]]]
        if len(points) < 2:
            raise ValueError(f"a way of {len(points)} nodes")
        return np.asarray(points)


def _content(path: str) -> _Content:
    content = _Content()
    for element in read_xml(path, "osm"):
        try:
            if element.get("action") != "delete":
                _add(element, content)
        except (KeyError, ValueError) as error:
            raise DataError(
                "ids, and numbers for latitude and longitude",
                f"{element.tag} {element.get('id')} of {path} with {error!r}",
                "restore the map",
            ) from error
    return content


def _add(element: ET.Element, content: _Content) -> None:
    if element.tag == "node":
        content.node[element.attrib["id"]] = len(content.degrees)
        content.degrees.append((float(element.attrib["lon"]), float(element.attrib["lat"])))
    elif element.tag == "way":
        name = element.attrib["id"]
        content.ways[name] = [node.attrib["ref"] for node in element.iter("nd")]
        if _tags(element).get("type") in BORDERS:
            content.borders.append(name)
    elif element.tag == "relation":
        members = [
            (member.get("role", ""), member.attrib["ref"])
            for member in element.iter("member")
            if member.get("type") == "way"
        ]
        content.relations.append((_tags(element), members))


def _tags(element: ET.Element) -> dict[str, str]:
    return {tag.attrib["k"]: tag.attrib["v"] for tag in element.iter("tag")}


def _elements(content: _Content, places: Array, notes: Counter[str]) -> Iterator[MapElement]:
    paved: list[shapely.Geometry] = []
    for tags, members in content.relations:
        kind = tags.get("type")
        try:
            if kind == "lanelet":
                left, right = (_border(side, members, content, places) for side in SIDES)
                yield from _lanelet(tags, *aligned(left, right), paved)
            elif kind == "multipolygon" and tags.get("subtype") in PAVED:
                paved.append(_area(members, content, places))
        except _FAULTS:
            notes[f"{kind}s of the map without whole borders, left out"] += 1
    for area in paved:
        yield from (MapElement("drivable", ring, closed=True) for ring in rings(area))
    for edge in _edges(content, places, notes) or outline(paved):
        yield MapElement("road_edge", edge)


def _edges(content: _Content, places: Array, notes: Counter[str]) -> list[Array]:
    edges: list[Array] = []
    for way in content.borders:
        try:
            edges.append(content.line(way, places))
        except _FAULTS:
            notes["borders of the map without all their nodes, left out"] += 1
    return edges


def _lanelet(
    tags: dict[str, str], left: Array, right: Array, paved: list[shapely.Geometry]
) -> list[MapElement]:
    """The elements of a lanelet; if vehicles may be on it, it is added to what is paved."""
    subtype = tags.get("subtype", "road")
    area = shapely.Polygon(np.concatenate([left, right[::-1]]))
    if subtype in PAVED:
        paved.append(area)
    if subtype == "crosswalk":
        return [MapElement("crosswalk", ring, closed=True) for ring in rings(area)]
    if subtype not in LANES | CYCLEWAYS:
        return []
    centre = midline(left, right)
    ways = (centre, centre[::-1]) if tags.get("one_way") == "no" else (centre,)
    return [MapElement("lane_centre", way) for way in ways]


def _border(side: str, members: list[tuple[str, str]], content: _Content, places: Array) -> Array:
    """One border of a lanelet, ``(n, 2)``, joined where it is several ways in a row."""
    lines = _lines(side, members, content, places)
    joined = lines[0] if len(lines) == 1 else shapely.line_merge(shapely.MultiLineString(lines))
    if not isinstance(joined, shapely.LineString):
        raise ValueError(f"a {side} border in pieces")
    return np.asarray(joined.coords)


def _area(members: list[tuple[str, str]], content: _Content, places: Array) -> shapely.Geometry:
    """An area between the ways of its rim, without its holes."""
    rim, holes = (
        shapely.union_all(shapely.get_parts(shapely.polygonize(lines)))
        for lines in (_lines(role, members, content, places) for role in ("outer", "inner"))
    )
    if rim.is_empty:
        raise ValueError("an area whose rim is open")
    return shapely.difference(rim, holes)


def _lines(
    role: str, members: list[tuple[str, str]], content: _Content, places: Array
) -> list[shapely.LineString]:
    """The ways that have a role in a relation."""
    return [shapely.LineString(content.line(way, places)) for name, way in members if name == role]
