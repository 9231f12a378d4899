"""A part of a map that is found by its index is drawn as the same part of the whole map."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.geometry import poses_to_frame
from data_tools.labels.directions import SPACING_M, lane_directions
from data_tools.labels.map_index import MapIndex, area_of
from data_tools.labels.rasterise import lane_points, map_edges, rasterise_map
from data_tools.scene import MapElement
from forecast.grid import BEVGrid
from forecast.schema import MAP_LAYERS

number = st.floats(-60.0, 60.0).map(lambda value: round(value, 3))
odd = st.sampled_from([np.nan, np.inf])
point = st.tuples(number, number)
shape = st.tuples(
    st.sampled_from(MAP_LAYERS),
    st.lists(st.one_of(point, point, point, st.tuples(odd, number)), min_size=0, max_size=6),
    st.booleans(),
)
maps = st.lists(shape, max_size=30)
pose = st.tuples(number, number, st.floats(-4.0, 4.0)).map(np.array)
GRID = BEVGrid(-10.0, 20.0, -8.0, 8.0, 0.5)


def elements(shapes, origin):
    """Map elements around a place."""
    return [
        MapElement(layer, np.array(points, float).reshape(-1, 2) + origin, closed=closed)
        for layer, points, closed in shapes
    ]


@given(maps, pose, st.sampled_from([0.0, 1e5, 1e7]))
@settings(max_examples=200, deadline=None)
def test_the_cut_by_the_index_is_drawn_to_the_bit_as_the_whole_map(shapes, pose, origin):
    every = elements(shapes, origin)
    pose += [origin, origin, 0.0]
    index, area = MapIndex.of(every), area_of(GRID, pose)
    cut = rasterise_map(index.edges(area).to_frame(pose), GRID)
    np.testing.assert_array_equal(cut, rasterise_map(map_edges(every).to_frame(pose), GRID))
    inside = []
    for points in (index.lane_points(area), lane_points(every)):
        moved = poses_to_frame(points, pose)
        inside.append(moved[GRID.contains(moved[:, 0], moved[:, 1])])
    np.testing.assert_array_equal(*inside)
    ways = [
        lane_directions(poses_to_frame(points, pose), GRID)
        for points in (index.lane_points(area, SPACING_M), lane_points(every, SPACING_M))
    ]
    np.testing.assert_array_equal(*ways)


@given(maps)
@settings(deadline=None)
def test_what_is_far_from_an_area_is_not_touched(shapes):
    """Elements elsewhere are neither found nor prepared."""
    index = MapIndex.of(elements(shapes, 0.0) + elements(shapes, 1e4))
    spans = np.array([[-100.0, 100.0], [3000.0, 4000.0], [9900.0, 10100.0]])
    here, nowhere, there = index.near(spans.repeat(2, axis=1))
    assert all(number < len(shapes) for number in here)
    assert nowhere == []
    assert there == [number + len(shapes) for number in here]
