"""The map of a whole city, cut down to the area around one scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.formats.polygons import outline, rings
from data_tools.scene import MapElement

MARGIN_M = 200.0  # around the ego's path: grids may reach this far


@dataclass(frozen=True)
class CityMap:
    """Indexed shapes in the frame of the recordings, metres.

    Attributes:
        lanes: Centre lines in their direction.
        drivable: Polygons.
        crosswalks: Polygons.
        edges: Road edges; None = the outline of what is drivable.
    """

    lanes: shapely.STRtree
    drivable: shapely.STRtree
    crosswalks: shapely.STRtree
    edges: shapely.STRtree | None = None

    @classmethod
    def of(
        cls,
        lanes: Sequence[shapely.LineString],
        drivable: Sequence[shapely.Polygon],
        crosswalks: Sequence[shapely.Polygon],
        edges: Sequence[shapely.LineString] | None = None,
    ) -> CityMap:
        """The map of these shapes."""
        return cls(
            shapely.STRtree(lanes),
            shapely.STRtree(drivable),
            shapely.STRtree(crosswalks),
            None if edges is None else shapely.STRtree(edges),
        )

    def near(self, way: NDArray[np.float64]) -> tuple[MapElement, ...]:
        """Elements within :data:`MARGIN_M` of the box around the ego's path.

        Args:
            way: ``(T, 2)`` the ego's places, NaN where unknown.
        """
        low, high = np.nanmin(way, axis=0) - MARGIN_M, np.nanmax(way, axis=0) + MARGIN_M
        place = shapely.box(*low, *high)
        drivable = _near(self.drivable, place)
        lanes = map(shapely.get_coordinates, _near(self.lanes, place))
        edges = (
            outline(drivable)
            if self.edges is None
            else map(shapely.get_coordinates, _near(self.edges, place))
        )
        crosswalks = (ring for area in _near(self.crosswalks, place) for ring in rings(area))
        return (
            *(MapElement("lane_centre", line) for line in lanes),
            *(MapElement("drivable", r, closed=True) for area in drivable for r in rings(area)),
            *(MapElement("crosswalk", ring, closed=True) for ring in crosswalks),
            *(MapElement("road_edge", edge) for edge in edges),
        )


def _near(tree: shapely.STRtree, place: shapely.Polygon) -> list[Any]:
    """The shapes whose bounds meet a box, in the order of the file."""
    return list(tree.geometries[np.sort(tree.query(place))])
