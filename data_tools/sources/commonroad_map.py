"""The lanelets of a CommonRoad scenario as a map.

A lanelet is what lies between two bounds whose points go in the direction of travel: its area is
drivable, the line midway between its bounds is ``lane_centre``. The outline of all drivable areas
is ``road_edge``. How lanelets follow each other is not kept: maps here are lines and areas.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.lanes import midline
from data_tools.formats.polygons import outline, rings
from data_tools.scene import MapElement
from data_tools.sources.roads import area, line
from forecast.errors import DataError

Array = NDArray[np.float64]

MAX_LANELETS = 50_000  # of a city; their union takes seconds
# Types of lanelets (2020a; 2018b has none) without a lane to drive along, and those not driven on.
NO_LANE = {"border", "crosswalk", "parking", "shoulder", "sidewalk"}
NOT_DRIVABLE = {"bicycleLane", "border", "crosswalk", "sidewalk"}


@dataclass(frozen=True)
class Lanelet:
    """A lanelet: its types, and its bounds ``(n, 2)`` in the direction of travel."""

    kinds: frozenset[str]
    left: Array
    right: Array

    @property
    def ring(self) -> Array:
        """Its outline."""
        return np.concatenate([self.left, self.right[::-1]])

    @property
    def centre(self) -> Array:
        """The line midway between its bounds, whose points belong together where as many."""
        if len(self.left) == len(self.right):
            return (self.left + self.right) / 2
        return midline(self.left, self.right)


def lanelet_of(element: ET.Element, unit: str) -> Lanelet:
    """A lanelet of a file.

    Args:
        element: It.
        unit: The file, for the error.

    Raises:
        DataError: Its bounds are no lines of places on Earth.
    """
    kinds = frozenset((kind.text or "").strip() for kind in element.findall("laneletType"))
    left, right = (_bound(element, name, unit) for name in ("leftBound", "rightBound"))
    return Lanelet(kinds, left, right)


def map_of(lanelets: Sequence[Lanelet], unit: str) -> tuple[MapElement, ...]:
    """Lanelets as map elements: lanes, drivable areas, crosswalks and edges.

    Args:
        lanelets: All of a file.
        unit: The file, for the error.

    Raises:
        DataError: There are more than any map has.
    """
    if len(lanelets) > MAX_LANELETS:
        wanted = f"{MAX_LANELETS} lanelets at most"
        raise DataError(wanted, f"{len(lanelets)} in {unit}", "leave it out")
    areas = [shapely.Polygon(x.ring) for x in lanelets if not x.kinds & NOT_DRIVABLE]
    return (
        *(MapElement("lane_centre", x.centre) for x in lanelets if not x.kinds & NO_LANE),
        *(MapElement("drivable", ring, closed=True) for area in areas for ring in rings(area)),
        *_crosswalks(lanelets),
        *(MapElement("road_edge", edge) for edge in outline(areas)),
    )


def _crosswalks(lanelets: Sequence[Lanelet]) -> Iterator[MapElement]:
    for lanelet in lanelets:
        if "crosswalk" in lanelet.kinds:
            yield from area("crosswalk", lanelet.ring, "a crosswalk")


def _bound(element: ET.Element, name: str, unit: str) -> Array:
    where = f"{name} of lanelet {element.get('id')} of {unit}"
    points = [
        [float(point.findtext(axis, "")) for axis in "xy"]
        for point in element.findall(f"{name}/point")
    ]
    found = line("lane_centre", np.array(points).reshape(-1, 2), where)
    if not found:
        raise DataError("two points or more", f"{len(points)} in {where}", "leave it out")
    return found[0].points
