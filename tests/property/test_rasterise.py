"""The rasteriser against brute force: every cell centre asked whether it lies in the shape."""

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_tools.geometry import box_corners, to_frame
from data_tools.labels.rasterise import lane_points, map_edges, rasterise_boxes, rasterise_map
from data_tools.scene import MapElement
from forecast.errors import DataError
from forecast.grid import SUBCELLS, BEVGrid
from forecast.schema import MAP_LAYERS


def rounded(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers to a millionth: GEOS, the judge here, divides by zero on lengths of 1e-200 m."""
    return st.floats(low, high).map(lambda value: round(value, 6))


GRIDS = st.builds(
    lambda x0, y0, width, height, cell: BEVGrid(
        x0, x0 + width * cell, y0, y0 + height * cell, cell
    ),
    st.sampled_from([-10.0, -3.5, 0.0, 2.25]),
    st.sampled_from([-8.0, -1.75, 0.0]),
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([0.25, 0.5, 1.0]),
)
BOXES = st.tuples(
    rounded(-15, 25),
    rounded(-15, 20),
    rounded(-7, 7),
    rounded(0.05, 20),
    rounded(0.05, 20),
)


def centres_inside(polygon, grid, doubt_m=1e-9):
    """Cell centres in a polygon, and those too near its border for float arithmetic to tell."""
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    centres = shapely.points(x, y)
    shapely.prepare(polygon)
    near = shapely.dwithin(polygon.boundary, centres, doubt_m)
    return shapely.contains(polygon, centres), near


def box_inside(box, grid):
    """The same of a box, whose corners are rounded before it is drawn."""
    rounding_m = grid.resolution_m / SUBCELLS
    return centres_inside(shapely.Polygon(box_corners(np.array(box))), grid, rounding_m)


def draw(boxes, grid):
    state = np.array(boxes, float).reshape(-1, 5)
    frame = np.zeros(len(state), np.int64)
    value = np.arange(1, len(state) + 1, dtype=np.uint16)
    return rasterise_boxes(state, frame, value, 1, grid)[0]


@given(BOXES, GRIDS)
@settings(max_examples=100, deadline=None)
def test_a_cell_belongs_to_a_box_iff_its_centre_lies_inside(box, grid):
    inside, near = box_inside(box, grid)
    drawn = draw([box], grid) == 1
    assert (drawn == inside)[~near].all()


@given(st.lists(BOXES, min_size=1, max_size=8), GRIDS)
@settings(max_examples=40, deadline=None)
def test_of_overlapping_boxes_the_smallest_is_on_top(boxes, grid):
    area = np.array([length * width for *_, length, width in boxes])
    expected = np.zeros(grid.shape, np.uint16)
    doubtful = np.zeros(grid.shape, bool)
    for index in np.argsort(-area, kind="stable"):
        inside, near = box_inside(boxes[index], grid)
        expected[inside] = index + 1
        doubtful |= near
    assert (draw(boxes, grid) == expected)[~doubtful].all()


@given(st.integers(-8, 8), st.integers(-8, 8), st.integers(1, 6), st.integers(1, 6))
def test_abutting_boxes_neither_overlap_nor_leave_a_gap_where_numbers_are_exact(
    x, y, length, width
):
    # Edges on cell centres: quarter metres are exact in binary, so half-open intervals decide.
    grid = BEVGrid(-8.0, 8.0, -8.0, 8.0, 0.5)
    left, low = x * 0.5 + 0.25, y * 0.5 + 0.25
    boxes = [
        (left + length / 2 + i * length, low + width / 2 + j * width, 0.0, length, width)
        for i in range(2)
        for j in range(2)
    ]
    each = sum((draw([box], grid) > 0).astype(int) for box in boxes)
    whole = draw([(left + length, low + width, 0.0, 2 * length, 2 * width)], grid) > 0
    np.testing.assert_array_equal(each, whole.astype(int))


POLYGONS = st.lists(
    st.tuples(rounded(-12, 20), rounded(-12, 12)), min_size=3, max_size=9, unique=True
)


@given(st.lists(POLYGONS, min_size=1, max_size=4), GRIDS)
@settings(max_examples=100, deadline=None)
def test_polygons_of_a_layer_fill_their_union_even_if_they_cross_themselves(rings, grid):
    elements = [MapElement("crosswalk", np.array(ring), closed=True) for ring in rings]
    drawn = rasterise_map(map_edges(elements), grid)
    expected = np.zeros(grid.shape, bool)
    doubtful = np.zeros(grid.shape, bool)
    for ring in rings:
        for part in shapely.get_parts(shapely.make_valid(shapely.Polygon(ring))):
            if part.geom_type == "Polygon":
                inside, near = centres_inside(part, grid)
                expected |= inside
                doubtful |= near
    assert (drawn[MAP_LAYERS.index("crosswalk")].astype(bool) == expected)[~doubtful].all()
    assert not drawn[[0, 1, 2]].any()


@given(
    st.lists(st.tuples(rounded(-15, 25), rounded(-15, 20)), min_size=2, max_size=6),
    GRIDS,
)
@example([(1.0, -1.0), (1.0, 0.0), (0.0, 0.0)], BEVGrid(-10.0, 1.0, -8.0, 0.0, 1.0))
@settings(max_examples=100, deadline=None)
def test_a_line_marks_the_cells_that_it_passes_through(points, grid):
    line = shapely.LineString(points)
    drawn = rasterise_map(map_edges([MapElement("road_edge", np.array(points))]), grid)[2] > 0
    half = grid.resolution_m / 2
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    cells = shapely.box(x - half, y - half, x + half, y + half)
    touched = shapely.distance(line, cells) < 1e-9
    # What runs along a border lies in one of the two cells, or beyond the grid.
    half -= 1e-7
    insides = shapely.box(x - half, y - half, x + half, y + half)
    length_inside = shapely.length(shapely.intersection(line, insides))
    assert not (drawn & ~touched).any()
    # Half a cell of line in a cell cannot fall between samples a quarter of a cell apart.
    assert drawn[length_inside > grid.resolution_m * 0.5 * len(points)].all()


@given(
    st.lists(st.tuples(rounded(-50, 50), rounded(-50, 50)), min_size=2, max_size=6),
    st.tuples(rounded(-50, 50), rounded(-50, 50), rounded(-4, 4)),
)
@settings(deadline=None)
def test_lane_points_lie_on_the_lane_two_metres_apart_and_point_along_it(points, pose):
    line = to_frame(np.array(points), np.array(pose))
    path = shapely.LineString(line)
    found = lane_points([MapElement("lane_centre", line)])
    if path.length < 1e-6:
        return
    assert len(found) == max(1, round(path.length / 2))
    assert shapely.distance(path, shapely.points(found[:, :2])).max() < 1e-6
    ahead = found[:, :2] + 1e-3 * np.stack([np.cos(found[:, 2]), np.sin(found[:, 2])], axis=1)
    # A step along the direction stays on the lane, unless a corner comes first.
    corners = shapely.multipoints(line)
    clear = shapely.distance(corners, shapely.points(found[:, :2])) > 2e-3
    assert (shapely.distance(path, shapely.points(ahead[clear])) < 1e-6).all()


def test_a_line_to_the_end_of_the_world_is_drawn_as_what_is_seen_of_it():
    grid = BEVGrid(-15.0, 25.0, -15.0, 20.0, 0.5)
    near, far = ([[0.3, 0.2], [end, 0.2]] for end in (60.0, 5e7))
    drawn = [
        rasterise_map(map_edges([MapElement("road_edge", np.array(line))]), grid)
        for line in (near, far)
    ]
    np.testing.assert_array_equal(*drawn)


def test_a_lane_longer_than_any_is_refused():
    with pytest.raises(DataError, match=r"100 km at most; got one of 9000 km"):
        lane_points([MapElement("lane_centre", np.array([[0.0, 0.0], [9e6, 0.0]]))])


@pytest.mark.parametrize("count", [0, 1])
def test_a_scene_of_nothing_draws_nothing(count):
    grid = BEVGrid(-4.0, 4.0, -2.0, 2.0, 0.5)
    elements = [MapElement("drivable", np.full((4, 2), np.nan), closed=True)] * count
    assert not rasterise_map(map_edges(elements), grid).any()
    assert lane_points(elements).shape == (0, 3)
    assert not draw([(100.0, 0.0, 0.0, 4.0, 2.0)] * count, grid).any()
