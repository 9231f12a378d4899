"""Where no rule of theirs applies, all label protocols draw the same but for how corners round."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.geometry import box_corners
from data_tools.labels.protocols import PROTOCOLS, Traffic
from forecast.grid import BEVGrid

FRAMES, HISTORY = 5, 2
GRIDS = st.sampled_from([BEVGrid(-16.0, 24.0, -12.0, 12.0, 0.5), BEVGrid(-9, 9, -15, 12, 0.3)])
# Wholly inside either grid wherever they turn.
BOXES = st.tuples(
    st.floats(-5, 5), st.floats(-8, 8), st.floats(-7, 7), st.floats(0.3, 6), st.floats(0.3, 2)
)


def still(box):
    """One agent that stands where a box is, around an ego that stands."""
    state = np.tile(np.array(box), (1, FRAMES, 1))
    return Traffic(state, np.zeros((1, FRAMES), bool), np.zeros((FRAMES, 3)), 0.3, HISTORY)


@given(BOXES, GRIDS)
@settings(max_examples=60, deadline=None)
def test_still_agents_inside_are_drawn_alike_up_to_rounding(box, grid):
    drawn = {name: rules.draw(still(box), grid) for name, rules in PROTOCOLS.items()}
    outline = shapely.Polygon(box_corners(np.array(box)))
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    away = shapely.distance(outline.exterior, shapely.points(x, y)) / grid.resolution_m
    inside = shapely.contains_xy(outline, x, y)
    for labels in drawn.values():
        assert (labels == labels[0]).all()
        # In each axis a corner is rounded by half a cell, the picture is off by half a cell, and
        # an edge is half a cell wide.
        assert (labels[0] == inside)[away > 1.5 * np.sqrt(2)].all()
    np.testing.assert_array_equal(drawn["fiery"], drawn["powerbev"])
    mirrored = (box[0], -box[1], -box[2], box[3], box[4])
    across = BEVGrid(grid.x_min_m, grid.x_max_m, -grid.y_max_m, -grid.y_min_m, grid.resolution_m)
    np.testing.assert_array_equal(
        drawn["uniad"][:, ::-1], PROTOCOLS["powerbev"].draw(still(mirrored), across)
    )
