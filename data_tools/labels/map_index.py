"""A map that many scenes share: its elements found by place, each prepared when first needed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Any

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
        lanes = [is_lane(self[number]) for number in self._drawn]
        refuse_longer(shapely.length(self._shapes[self._drawn][lanes]).max(initial=0.0))
        return shapely.STRtree(self._shapes[self._drawn])

    @cached_property
    def _shapes(self) -> NDArray[Any]:
        """A line or a polygon of each element; None where it has too few points."""
        points = [_finite(element.points) for element in self]
        is_area = [e.closed and len(p) > 2 for e, p in zip(self, points, strict=True)]
        lines = [n for n, p in enumerate(points) if len(p) > 1 and not is_area[n]]
        shapes = np.full(len(self), None, object)
        if lines:
            which = np.repeat(np.arange(len(lines)), [len(points[n]) for n in lines])
            every = np.concatenate([points[n] for n in lines])
            shapes[lines] = shapely.linestrings(every, indices=which)
        for number in np.flatnonzero(is_area):
            shapes[number] = shapely.Polygon(points[number])
        return shapes

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
        ends = np.searchsorted(area[order], np.arange(len(areas) + 1)).tolist()
        chosen = number[order].tolist()
        return [chosen[start:stop] for start, stop in pairwise(ends)]

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


def _finite(points: Array) -> Array:
    return points[np.isfinite(points).all(axis=1)]
