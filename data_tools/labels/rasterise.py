"""Boxes and map elements to label rasters, by the cell-centre rule.

All shapes are drawn by scanlines: an edge crosses the row of cell centres at ``y`` iff its lower
end is at or below ``y`` and its upper end above; a shape covers the cells of that row from the
first centre at or right of one crossing to the last centre left of the next. Shapes that share an
edge therefore neither share a cell nor leave a gap. Forecasts draw boxes by the same rule
(``forecast.model.scene.rasterizer``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.geometry import box_corners, to_frame
from data_tools.scene import MapElement, MapLayer
from forecast.errors import DataError
from forecast.grid import SUBCELLS, BEVGrid
from forecast.schema import MAP_LAYERS

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MAX_LANE_M = 100_000.0  # longer ones are damage, and would be cut into too many points


@dataclass(frozen=True)
class MapEdges:
    """A scene's map, ready to draw: per layer, the segments of its lines and of its polygons.

    Args:
        lines: Per layer, ``(E, 2, 2)`` segments (from, to) of x, y in metres.
        polygons: Per layer, the same, of rings with their inside on the left.
    """

    lines: dict[str, Array]
    polygons: dict[str, Array]

    def to_frame(self, pose: Array) -> MapEdges:
        """The same segments in the frame of a pose ``(3,)``: x, y, yaw."""
        return MapEdges(
            {layer: to_frame(segments, pose) for layer, segments in self.lines.items()},
            {layer: to_frame(segments, pose) for layer, segments in self.polygons.items()},
        )


def rasterise_boxes(
    state: Array,
    frame: Index,
    value: NDArray[np.uint16],
    frames: int,
    grid: BEVGrid,
    least_cell: bool = False,
) -> NDArray[np.uint16]:
    """Draws boxes into label rasters, smaller ones on top of larger ones.

    Boxes are taken as stores hold them, in float32, and their corners as :data:`SUBCELLS` says.

    Args:
        state: ``(M, 5)`` x, y, yaw, length, width in the grid's frame, finite, metres and radians.
        frame: ``(M,)`` the raster that each box is drawn into.
        value: ``(M,)`` what is drawn, above 0. Boxes of one area keep their order, last on top.
        frames: Number of rasters.
        grid: Where the cells are.
        least_cell: Whether a box that no cell centre lies in has the cell that it stands in.

    Returns:
        ``(frames, height, width)``, 0 where no box is.
    """
    largest_first = np.argsort(-state[:, 3] * state[:, 4], kind="stable")
    state, frame, value = state[largest_first], frame[largest_first], value[largest_first]
    state = state.astype(np.float32).astype(np.float64)
    corners = _in_cells(box_corners(state), grid)
    edges = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2)
    rows, columns = (np.arange(cells, dtype=np.float64) for cells in grid.shape)
    edge, row, column, _ = _crossings(edges.reshape(-1, 2, 2), rows, columns)
    # A convex shape has no crossing in a row, or two: its first cell and the one past its last.
    box = edge // 4
    order = np.lexsort((column, row, box))
    box, row, column = box[order][::2], row[order][::2], column[order].reshape(-1, 2)
    first, count = column[:, 0], column[:, 1] - column[:, 0]
    if least_cell:
        missing, own = _without_cells(state, box, count, grid)
        box, count = np.r_[box, missing], np.r_[count, np.ones_like(missing)]
        row, first = np.r_[row, own[:, 1]], np.r_[first, own[:, 0]]
        order = np.argsort(box, kind="stable")
        box, row, first, count = box[order], row[order], first[order], count[order]
    start = (frame[box] * grid.height + row) * grid.width + first
    label = np.zeros(frames * grid.height * grid.width, np.uint16)
    # Of repeated indices the last is kept, which is the smallest box.
    label[ranges(start, count)] = np.repeat(value[box], count)
    return label.reshape(frames, grid.height, grid.width)


def _without_cells(state: Array, box: Index, count: Index, grid: BEVGrid) -> tuple[Index, Index]:
    """Which boxes on the grid have no cell, and the column and row that each stands in."""
    own = np.floor(_in_cells(state[:, :2], grid) + 0.5).astype(np.int64)
    on_grid = ((own >= 0) & (own < (grid.width, grid.height))).all(axis=1)
    missing = np.flatnonzero(on_grid & (np.bincount(box, count, minlength=len(state)) == 0))
    return missing, own[missing]


def map_edges(elements: Sequence[MapElement]) -> MapEdges:
    """Sorts a map into segments by layer; polygons that cross themselves are mended.

    Points that are not finite are left out, and so are elements of fewer than two points (three
    for a polygon).
    """
    return joined((element, element_segments(element)) for element in elements)


def element_segments(element: MapElement) -> list[Array]:
    """The segments of an element, ``(E, 2, 2)`` for each of its lines or rings."""
    points = _finite(element.points)
    if not element.closed:
        return [_segments(points)]
    return [_segments(ring) for ring in _rings(points)] if len(points) >= 3 else []


def joined(parts: Iterable[tuple[MapElement, list[Array]]]) -> MapEdges:
    """The segments of elements, sorted by layer."""
    nothing = np.empty((0, 2, 2))
    lines: dict[str, list[Array]] = {layer: [nothing] for layer in MAP_LAYERS}
    polygons: dict[str, list[Array]] = {layer: [nothing] for layer in MAP_LAYERS}
    for element, segments in parts:
        (polygons if element.closed else lines)[element.layer] += segments
    return MapEdges(
        {layer: np.concatenate(found) for layer, found in lines.items()},
        {layer: np.concatenate(found) for layer, found in polygons.items()},
    )


def rasterise_map(edges: MapEdges, grid: BEVGrid) -> NDArray[np.uint8]:
    """Draws map layers: polygons filled, lines as the cells that they pass through.

    Args:
        edges: Segments in the grid's frame.
        grid: Where the cells are.

    Returns:
        ``(map_layer, height, width)`` of 0 and 1, layers as in ``forecast.schema.MAP_LAYERS``.
    """
    layers = np.zeros((len(MAP_LAYERS), *grid.shape), bool)
    for layer, name in zip(layers, MAP_LAYERS, strict=True):
        if len(edges.polygons[name]):
            layer[:] = _fill(edges.polygons[name], grid)
        if len(edges.lines[name]):
            layer[_trace(edges.lines[name], grid)] = True
    return layers.view(np.uint8)


def lane_points(elements: Sequence[MapElement], spacing_m: float = 2.0) -> Array:
    """Points along lane centres with the direction of travel.

    Args:
        elements: A scene's map.
        spacing_m: Distance between points along a lane, about; every lane has at least one.

    Returns:
        ``(P, 3)`` x, y, yaw in the map's frame, metres and radians.

    Raises:
        DataError: A lane is longer than :data:`MAX_LANE_M`.
    """
    lanes = [_finite(element.points) for element in elements if is_lane(element)]
    points = [_resample(lane, spacing_m) for lane in lanes if len(lane) >= 2]
    return np.concatenate([np.empty((0, 3)), *points])


def is_lane(element: MapElement) -> bool:
    """Whether an element is the centre line of a lane."""
    layer: MapLayer = "lane_centre"
    return element.layer == layer and not element.closed


def refuse_longer(lane_m: float) -> None:
    """Refuses a lane of a length that none has.

    Raises:
        DataError: It is longer than :data:`MAX_LANE_M`.
    """
    if lane_m > MAX_LANE_M:
        raise DataError(
            f"lanes of {MAX_LANE_M / 1000:g} km at most",
            f"one of {lane_m / 1000:g} km",
            "correct the map: a point of it lies elsewhere",
        )


def _in_cells(points: Array, grid: BEVGrid) -> Array:
    """Points ``(..., 2)`` counted in cells from the centre of the first one, rounded."""
    parts = (points - (grid.x_min_m, grid.y_min_m)) * (SUBCELLS / grid.resolution_m)
    return np.rint(parts) / SUBCELLS - 0.5


def _crossings(edges: Array, rows: Array, columns: Array) -> tuple[Index, Index, Index, Index]:
    """Where edges cross rows of cell centres.

    Args:
        edges: ``(E, 2, 2)`` ends of x, y.
        rows: ``(height,)`` y of the centres, ascending.
        columns: ``(width,)`` x of the centres, ascending.

    Returns:
        Four arrays of one length: the edge, the row, the first column whose centre is at or right
        of the crossing, and +1 for an edge going down, -1 for one going up.
    """
    rising = edges[:, 1, 1] > edges[:, 0, 1]
    # The same two ends give the same crossing whichever way the edge runs.
    low = np.where(rising[:, None], edges[:, 0], edges[:, 1])
    high = np.where(rising[:, None], edges[:, 1], edges[:, 0])
    first = np.searchsorted(rows, low[:, 1])
    count = np.searchsorted(rows, high[:, 1]) - first
    edge = np.repeat(np.arange(len(edges)), count)
    row = ranges(first, count)
    low, high = low[edge], high[edge]
    along = (rows[row] - low[:, 1]) / (high[:, 1] - low[:, 1])
    x = low[:, 0] + along * (high[:, 0] - low[:, 0])
    return edge, row, np.searchsorted(columns, x), np.where(rising[edge], -1, 1)


def _fill(edges: Array, grid: BEVGrid) -> NDArray[np.bool_]:
    """The union of polygons: cells with a winding number of at least 1."""
    _, row, column, turn = _crossings(edges, grid.y_m, grid.x_m)
    # One more column than the grid collects the crossings to its right.
    flat = np.bincount(
        row * (grid.width + 1) + column, turn, minlength=grid.height * (grid.width + 1)
    )
    turns = flat.reshape(grid.height, grid.width + 1).cumsum(axis=1)[:, :-1]
    return turns > 0.5


def _trace(segments: Array, grid: BEVGrid) -> tuple[Index, Index]:
    """Rows and columns of the cells that segments pass through, sampled every quarter of a cell."""
    low = np.minimum(segments[:, 0], segments[:, 1])
    high = np.maximum(segments[:, 0], segments[:, 1])
    near = (
        (high[:, 0] >= grid.x_min_m)
        & (low[:, 0] < grid.x_max_m)
        & (high[:, 1] >= grid.y_min_m)
        & (low[:, 1] < grid.y_max_m)
    )
    segments = segments[near]
    start, way = segments[:, 0], segments[:, 1] - segments[:, 0]
    last = np.ceil(4 * np.linalg.norm(way, axis=1) / grid.resolution_m).astype(np.int64)
    enter, leave = _within(start, way, grid)
    first = np.floor(enter * last).astype(np.int64)
    count = np.maximum(np.ceil(leave * last).astype(np.int64) + 1 - first, 0)
    segment = np.repeat(np.arange(len(segments)), count)
    along = ranges(first, count) / np.maximum(last, 1)[segment]
    points = start[segment] + along[:, None] * way[segment]
    points = points[grid.contains(points[:, 0], points[:, 1])]
    cell = ((points - (grid.x_min_m, grid.y_min_m)) / grid.resolution_m).astype(np.int64)
    return cell[:, 1].clip(max=grid.height - 1), cell[:, 0].clip(max=grid.width - 1)


def _within(start: Array, way: Array, grid: BEVGrid) -> tuple[Array, Array]:
    """The shares of each way at which it enters and leaves the grid, clipped to 0..1."""
    low, high = (grid.x_min_m, grid.y_min_m), (grid.x_max_m, grid.y_max_m)
    with np.errstate(all="ignore"):  # division by 0 where it does not move along an axis
        shares = np.sort([(low - start) / way, (high - start) / way], axis=0)
    shares[:, way == 0] = [[-np.inf], [np.inf]]
    return shares[0].max(axis=1).clip(0, 1), shares[1].min(axis=1).clip(0, 1)


def ranges(start: Index, count: Index) -> Index:
    """``start, start + 1, ..., start + count - 1`` of each entry, one after the other."""
    before = np.cumsum(count) - count
    ranges: Index = np.arange(count.sum()) + np.repeat(start - before, count)
    return ranges


def _finite(points: Array) -> Array:
    return points[np.isfinite(points).all(axis=1)]


def _segments(points: Array) -> Array:
    return np.stack([points[:-1], points[1:]], axis=1)


def _rings(points: Array) -> list[Array]:
    """Closed rings of a polygon with the inside on their left (holes turn the other way)."""
    polygon = shapely.Polygon(points)
    valid = polygon if polygon.is_valid else shapely.make_valid(polygon)
    parts = [part for part in shapely.get_parts(valid) if part.geom_type == "Polygon"]
    rings = shapely.get_rings(shapely.orient_polygons(parts))
    return [shapely.get_coordinates(ring) for ring in rings]


def _resample(line: Array, spacing_m: float) -> Array:
    """Points at the middle of equal pieces of a line, with the direction of the line there."""
    step = line[1:] - line[:-1]
    length = np.hypot(step[:, 0], step[:, 1])
    if not length.all():
        line, step, length = line[np.append(True, length > 0)], step[length > 0], length[length > 0]
    if len(step) == 0:
        return np.empty((0, 3))
    travelled = np.zeros(len(line))
    np.cumsum(length, out=travelled[1:])
    refuse_longer(travelled[-1])
    count = max(1, round(travelled[-1] / spacing_m))
    at = (np.arange(count) + 0.5) * travelled[-1] / count
    segment = np.searchsorted(travelled, at, side="right") - 1
    points = np.empty((count, 3))
    for axis in (0, 1):
        points[:, axis] = np.interp(at, travelled, line[:, axis])
    points[:, 2] = np.arctan2(step[segment, 1], step[segment, 0])
    return points
