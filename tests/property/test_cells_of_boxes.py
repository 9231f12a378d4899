"""Truth and forecast give a box the same cells, also where its edges fall on cell centres."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.labels.rasterise import rasterise_boxes
from forecast.grid import GRIDS, BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.rasterizer import rasterize

HALVES = st.sampled_from([2.0, 2.1, 2.5, 4.5, 5.5, 8.5, 10.0])  # typical sizes, metres
QUARTERS = st.integers(-40, 40).map(lambda count: count / 4)
TURNS = st.integers(-4, 4).map(lambda count: count * math.pi / 2)
EDGES_ON_CENTRES = st.tuples(QUARTERS, QUARTERS, TURNS, HALVES, HALVES)
ANY = st.tuples(
    st.floats(-14, 14), st.floats(-14, 14), st.floats(-7, 7), st.floats(0.1, 18), st.floats(0.1, 4)
)


def truth(box: tuple[float, ...], grid: BEVGrid, least_cell: bool = False) -> np.ndarray:
    frame, value = np.zeros(1, np.int64), np.ones(1, np.uint16)
    return rasterise_boxes(np.array([box]), frame, value, 1, grid, least_cell)[0] > 0


def forecast(box: tuple[float, ...], grid: BEVGrid, least_cell: bool = False) -> np.ndarray:
    """Drawn as a model draws it: after steps that leave the agent where it is."""
    state = torch.tensor(box)[None, None]
    pose = se2.compose(state[..., :3], torch.zeros(1, 1, 3))
    everyone = torch.ones(1, 1, dtype=torch.long)
    agents = Agents(
        ids=everyone,
        label=everyone,
        past=pose[:, :, None],
        seen=everyone[..., None] > 0,
        time_s=torch.zeros(1, 1),
        size=state[..., 3:],
    )
    there = agents.live
    drawn = rasterize(
        agents, pose, pose, there.float(), there, None, grid, 1, least_cell=least_cell
    )
    return drawn.instance[0].numpy() > 0


@given(st.one_of(EDGES_ON_CENTRES, ANY), st.sampled_from(sorted(GRIDS)))
@settings(max_examples=300, deadline=None)
def test_a_box_has_the_same_cells_in_truth_and_forecast(box: tuple[float, ...], grid: str) -> None:
    np.testing.assert_array_equal(forecast(box, GRIDS[grid]), truth(box, GRIDS[grid]))


SMALL = st.tuples(
    st.floats(-20, 20), st.floats(-20, 20), st.floats(-4, 4), st.floats(0.1, 1), st.floats(0.1, 1)
)


@given(SMALL, st.sampled_from(sorted(GRIDS)))
@settings(max_examples=200, deadline=None)
def test_by_the_rule_for_small_boxes_no_agent_on_the_grid_is_without_a_cell(
    box: tuple[float, ...], grid: str
) -> None:
    plain, drawn = (truth(box, GRIDS[grid], least_cell) for least_cell in (False, True))
    np.testing.assert_array_equal(forecast(box, GRIDS[grid], least_cell=True), drawn)
    x, y = np.float32(box[:2])
    if plain.any() or not GRIDS[grid].contains(x, y):
        np.testing.assert_array_equal(plain, drawn)
    else:
        ((row, column),) = np.argwhere(drawn)
        half = GRIDS[grid].resolution_m / 2 + 1e-4
        assert abs(GRIDS[grid].x_m[column] - x) < half
        assert abs(GRIDS[grid].y_m[row] - y) < half


def test_a_box_covers_as_many_cells_as_its_area_says_whichever_edges_are_on_centres() -> None:
    for yaw in (0.0, math.pi / 2, math.pi, -math.pi / 2):
        for grid, cells in ((GRIDS["bev-100m"], 17 * 5), (GRIDS["bev-30m"], None)):
            drawn = forecast((0.0, 0.0, yaw, 8.5, 2.5), grid)
            assert cells is None or drawn.sum() == cells
            np.testing.assert_array_equal(drawn, truth((0.0, 0.0, yaw, 8.5, 2.5), grid))
