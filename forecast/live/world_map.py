"""A map in world coordinates, of which a model reads what is around the ego."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.formats.geojson import read_map
from data_tools.geometry import poses_to_frame, to_world
from data_tools.labels.map_index import MapIndex, area_of
from data_tools.labels.rasterise import rasterise_map
from data_tools.scene import MapElement, MapLayer
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.live.checks import NUMBERS, Array, floats, of_kind, refusing
from forecast.live.inputs import checked_pose
from forecast.schema import MAP_LAYERS


@dataclass(frozen=True)
class MapRaster:
    """Map layers as a raster anywhere in the world, such as a tile of a city's.

    Attributes:
        layers: ``(M, H, W)`` of 0 and 1, or of truth values.
        grid: Where its cells are, in the frame of ``pose``; of any size and resolution.
        pose: ``(3,)`` x, y, yaw of that frame in the world.
        names: Name of each layer, of ``forecast.schema.MAP_LAYERS``, each once at most.
    """

    layers: ArrayLike
    grid: BEVGrid
    pose: ArrayLike = (0.0, 0.0, 0.0)
    names: tuple[str, ...] = MAP_LAYERS

    def around(self, ego_pose: Array, grid: BEVGrid) -> NDArray[np.uint8]:
        """The same on another grid around the ego, layers in the order of ``MAP_LAYERS``."""
        cells = np.stack(np.meshgrid(grid.x_m, grid.y_m), axis=-1)
        # By way of the ego's pose in the tile's frame, so that no coordinate is large.
        ego = poses_to_frame(ego_pose, np.asarray(self.pose, np.float64))
        there = np.moveaxis(to_world(cells, ego), -1, 0)
        low, step = (self.grid.x_min_m, self.grid.y_min_m), self.grid.resolution_m
        column, row = (np.floor((at - edge) / step) for at, edge in zip(there, low, strict=True))
        inside = (column >= 0) & (column < self.grid.width) & (row >= 0) & (row < self.grid.height)
        column, row = (np.where(inside, index, 0).astype(np.int64) for index in (column, row))
        shown = np.zeros((len(MAP_LAYERS), *grid.shape), np.uint8)
        for name, layer in zip(self.names, np.asarray(self.layers), strict=True):
            shown[MAP_LAYERS.index(name)] = (layer[row, column] != 0) & inside
        return shown


class WorldMap:
    """Lanes, roads and crossings in the world frame that the stack uses.

    Args:
        lane_centre: Polylines ``(n, 2)`` of x, y, each in its direction of travel.
        road_edge: Polylines.
        drivable: Polygons ``(n, 2)``, their last point need not repeat the first.
        crosswalk: Polygons.
        lane_points: ``(P, 3)`` x, y, yaw of lane centres, about 2 m apart, where they are known
            as such; else they are made of ``lane_centre``.
        raster: Layers that are there as a raster, instead of lines and polygons.

    Raises:
        DataError: Something is not an array of finite coordinates, or has another shape.
    """

    def __init__(
        self,
        lane_centre: Iterable[ArrayLike] = (),
        road_edge: Iterable[ArrayLike] = (),
        drivable: Iterable[ArrayLike] = (),
        crosswalk: Iterable[ArrayLike] = (),
        lane_points: ArrayLike | None = None,
        raster: MapRaster | None = None,
    ) -> None:
        with refusing("sequences of polylines and polygons", "correct the map"):
            self._index = MapIndex(
                chain(
                    _elements("lane_centre", lane_centre, closed=False),
                    _elements("road_edge", road_edge, closed=False),
                    _elements("drivable", drivable, closed=True),
                    _elements("crosswalk", crosswalk, closed=True),
                )
            )
        self._points = None if lane_points is None else _points("lane_points", lane_points, 3)
        self._raster = _checked(raster)

    @classmethod
    def read(cls, path: str) -> WorldMap:
        """A map from GeoJSON in the metres of the world; docs/data_format.md says its layers.

        Raises:
            DataError: It is not there, or not such a file.
        """
        made = cls()
        try:
            with refusing("the path of a map", "correct it"):
                made._index = read_map(path)
        except DataError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise DataError("a map", f"{path}, which is not there", "correct the path") from error
        return made

    def around(
        self, ego_pose: Array, grid: BEVGrid, names: Sequence[str] | None = None
    ) -> tuple[NDArray[np.uint8], Array]:
        """What is seen of it from the ego.

        Args:
            ego_pose: ``(3,)`` x, y, yaw of the ego in the world.
            grid: Around the ego.
            names: Of the layers wanted; None = ``MAP_LAYERS``. Others are empty.

        Returns:
            ``(M, H, W)`` layers in the order of their names, and ``(P, 3)`` x, y, yaw of lane
            centres near the grid, in the ego frame.
        """
        area = area_of(grid, ego_pose)
        points = self._index.lane_points(area) if self._points is None else self._points
        near = (points[:, :2] >= area[:2]).all(axis=1) & (points[:, :2] <= area[2:]).all(axis=1)
        layers = rasterise_map(self._index.edges(area).to_frame(ego_pose), grid)
        if self._raster is not None:
            layers = layers | self._raster.around(ego_pose, grid)
        return _ordered(layers, names), poses_to_frame(points[near], ego_pose)


def _ordered(layers: NDArray[np.uint8], names: Sequence[str] | None) -> NDArray[np.uint8]:
    """Layers of ``MAP_LAYERS`` in another order."""
    if names is None or tuple(names) == MAP_LAYERS:
        return layers
    drawn = dict(zip(MAP_LAYERS, layers, strict=True))
    empty = np.zeros_like(layers[0])
    wanted = [drawn.get(name, empty) for name in names]
    return np.stack(wanted) if wanted else layers[:0]


def _elements(layer: MapLayer, shapes: Iterable[ArrayLike], closed: bool) -> Iterable[MapElement]:
    return (MapElement(layer, _points(layer, shape, 2), closed) for shape in shapes)


def _points(name: str, points: ArrayLike, columns: int) -> Array:
    wanted = f"points of shape (n, {columns}), finite numbers, in {name}"
    array = floats(wanted, "the map", points)
    if array.ndim != 2 or array.shape[1] != columns:
        raise DataError(wanted, f"shape {array.shape}", "correct the map")
    if not np.isfinite(array).all():
        raise DataError(wanted, f"NaN or infinity in shape {array.shape}", "correct the map")
    return array


@refusing("a raster with layers, a BEVGrid, a pose and names", "correct the raster")
def _checked(raster: MapRaster | None) -> MapRaster | None:
    if raster is None:
        return None
    pose = checked_pose(of_kind("raster", raster, MapRaster).pose, "pose of the raster")
    layers, names = np.asarray(raster.layers), tuple(raster.names)
    wanted, known = (len(names), *raster.grid.shape), set(names) & set(MAP_LAYERS)
    if layers.shape != wanted or len(known) < len(names):
        expected = f"a raster of shape {wanted}, layers among {', '.join(MAP_LAYERS)}, each once"
        got = f"shape {layers.shape}, layers {', '.join(names)}"
        raise DataError(expected, got, "correct the raster, its grid or its names")
    for name, layer in zip(names, layers, strict=True):
        if layer.dtype.kind not in NUMBERS or not ((layer == 0) | (layer == 1)).all():
            expected = "layers of 0 and 1, or of truth values, in the raster"
            raise DataError(expected, f"other values in {name}", "correct the raster")
    return replace(raster, layers=layers, pose=pose, names=names)
