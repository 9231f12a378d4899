"""A map that many scenes share: its elements found by place, each prepared when first needed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.labels.rasterise import (
    MapEdges,
    element_segments,
    is_lane,
    joined,
    lane_points,
    refuse_longer,
)
from data_tools.scene import MapElement
from forecast.grid import BEVGrid

Array = NDArray[np.float64]

MARGIN_M = 5.0  # around a grid: lanes beside it give directions in it, and coordinates are rounded


class MapIndex(tuple[MapElement, ...]):
    """The elements of a map, in their order, with a spatial index of them.

    What is drawn of a part of the map is, to the bit, what is drawn there of the whole: elements
    keep their order, and one that reaches into the part is taken as a whole.
    """

    @classmethod
    def of(cls, elements: Iterable[MapElement]) -> MapIndex:
        """The same elements; those that have an index already keep it."""
        return elements if isinstance(elements, cls) else cls(elements)

    @cached_property
    def tree(self) -> shapely.STRtree:
        """The index of all shapes, each a line or a polygon.

        Raises:
            DataError: A lane is longer than any (:data:`data_tools.labels.rasterise.MAX_LANE_M`).
        """
        shapes = [self._shapes[number] for number in self._drawn]
        lanes = [self._shapes[number] for number in self._drawn if is_lane(self[number])]
        refuse_longer(shapely.length(lanes).max(initial=0.0))
        return shapely.STRtree(shapes)

    @cached_property
    def _shapes(self) -> list[shapely.Geometry | None]:
        return [_shape(element) for element in self]

    @cached_property
    def _drawn(self) -> NDArray[np.intp]:
        """Which element each shape of the tree is."""
        return np.flatnonzero([shape is not None for shape in self._shapes])

    @cached_property
    def _segments(self) -> dict[int, list[Array]]:
        return {}

    @cached_property
    def _points(self) -> dict[tuple[int, float], Array]:
        return {}

    def near(self, areas: Array) -> list[list[int]]:
        """The numbers of the elements whose bounds meet each of some areas, ascending.

        Args:
            areas: ``(n, 4)`` lowest x, y and highest x, y in the map's frame, metres.
        """
        if not self:
            return [[]] * len(areas)
        area, found = self.tree.query(shapely.box(*areas.T))
        number = self._drawn[found]
        order = np.lexsort((number, area))
        ends = np.searchsorted(area[order], np.arange(1, len(areas)))
        return [part.tolist() for part in np.split(number[order], ends)]

    def edges(self, area: Array) -> MapEdges:
        """What :func:`~data_tools.labels.rasterise.map_edges` gives of the elements in an area."""
        (chosen,) = self.near(area[None])
        for number in chosen:
            if number not in self._segments:
                self._segments[number] = element_segments(self[number])
        return joined((self[number], self._segments[number]) for number in chosen)

    def lane_points(self, area: Array, spacing_m: float = 2.0) -> Array:
        """What :func:`~data_tools.labels.rasterise.lane_points` gives of the lanes in an area."""
        return self.lane_points_of(area[None], spacing_m)[0]

    def lane_points_of(self, areas: Array, spacing_m: float = 2.0) -> list[Array]:
        """The same of areas ``(n, 4)``."""
        none = np.empty((0, 3))
        return [
            np.concatenate([none, *(self._points_of(n, spacing_m) for n in chosen)])
            for chosen in self.near(areas)
        ]

    def _points_of(self, number: int, spacing_m: float) -> Array:
        """The points of an element, none where it is no lane."""
        if (number, spacing_m) not in self._points:
            self._points[number, spacing_m] = lane_points([self[number]], spacing_m)
        return self._points[number, spacing_m]


def area_of(grid: BEVGrid, pose: Array) -> Array:
    """The part of the world that is seen of it in a grid at a pose ``(3,)``, with a margin.

    Returns:
        ``(4,)`` lowest x, y and highest x, y, metres.
    """
    x, y = np.meshgrid([grid.x_min_m, grid.x_max_m], [grid.y_min_m, grid.y_max_m])
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    corners = np.stack([cos * x - sin * y, sin * x + cos * y]).reshape(2, 4) + pose[:2, None]
    return np.concatenate([corners.min(axis=1) - MARGIN_M, corners.max(axis=1) + MARGIN_M])


def _shape(element: MapElement) -> shapely.Geometry | None:
    points = element.points[np.isfinite(element.points).all(axis=1)]
    if element.closed and len(points) > 2:
        return shapely.Polygon(points)
    return shapely.LineString(points) if len(points) > 1 else None
