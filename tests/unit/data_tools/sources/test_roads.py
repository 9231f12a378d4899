"""Areas that sources make of the centre lines of lanes."""

import numpy as np
import shapely

from data_tools.scene import MapElement
from data_tools.sources.roads import widened


def test_the_island_inside_a_turning_loop_is_not_drivable():
    turn = np.linspace(0.0, 2 * np.pi, 60)
    loop = np.column_stack([12 * np.cos(turn), 12 * np.sin(turn)])
    straight = np.array([[12.0, 0.0], [60.0, 0.0]])
    areas = widened([MapElement("lane_centre", points) for points in (loop, straight)])
    drivable = shapely.union_all([shapely.Polygon(area.points) for area in areas])
    assert all(area.layer == "drivable" and area.closed for area in areas)
    assert not drivable.covers(shapely.Point(0.0, 0.0))
    assert drivable.covers(shapely.MultiPoint([(0.0, 12.5), (-11.0, 0.0), (40.0, 1.5)]))
