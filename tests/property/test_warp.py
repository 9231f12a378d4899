import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.cells import metric_cell_centres
from forecast.model.scene.warp import resampled, sample_at, scene_seen_from, warp_by_agents
from forecast.types import SceneContext

WIDE = BEVGrid(-8.0, 24.0, -6.0, 10.0, 1.0)  # 16 x 32, neither square nor centred


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_samples_whole_cells_away_are_the_labels_there(dx: int, dy: int) -> None:
    labels = torch.randint(1, 99, (1, 1, *WIDE.shape)).float()
    points = metric_cell_centres(WIDE.shape, WIDE, labels) + torch.tensor([float(dx), float(dy)])
    sampled = sample_at(labels, points[None], WIDE, "nearest")
    for row in range(16):
        for column in range(32):
            source = row + dy, column + dx
            inside = 0 <= source[0] < 16 and 0 <= source[1] < 32
            expected = labels[0, 0, source[0], source[1]] if inside else 0.0
            assert sampled[0, 0, row, column] == expected


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_samples_of_a_linear_field_are_exact_on_every_level(stride: int) -> None:
    x, y = metric_cell_centres((16 // stride, 32 // stride), WIDE, torch.zeros(1)).unbind(-1)
    points = torch.rand(1, 5, 7, 2) * torch.tensor([20.0, 8.0]) + torch.tensor([-2.0, -2.0])
    sampled = sample_at((2 * x - 3 * y)[None, None], points, WIDE)
    expected = 2 * points[..., 0] - 3 * points[..., 1]
    torch.testing.assert_close(sampled[:, 0], expected, atol=1e-4, rtol=1e-5)


def test_samples_outside_the_grid_are_zero() -> None:
    ones = torch.ones(1, 1, *WIDE.shape)
    far = torch.tensor([[[[500.0, 0.0], [0.0, -500.0], [0.0, 0.0]]]])
    assert sample_at(ones, far, WIDE).flatten().tolist() == [0.0, 0.0, 1.0]


def test_agents_carry_their_features_and_the_rest_stays() -> None:
    level = torch.zeros(1, 1, *WIDE.shape)
    level[0, 0, 6, 8] = 5.0  # the agent, centre x = 0.5, y = 0.5
    level[0, 0, 0, 0] = 7.0  # a kerb
    start = torch.tensor([[[0.5, 0.5, 0.0]]])
    now = torch.tensor([[[6.5, 3.5, math.pi / 2]]])
    size = torch.tensor([[[2.0, 1.0]]])
    (warped,) = warp_by_agents((level,), start, now, size, torch.ones(1, 1, dtype=torch.bool), WIDE)
    assert warped[0, 0, 9, 14] == pytest.approx(5.0, abs=1e-4)
    assert warped[0, 0, 0, 0] == 7.0


def test_an_agent_that_is_not_carried_changes_nothing() -> None:
    level = torch.rand(1, 3, *WIDE.shape)
    start, now = torch.zeros(1, 1, 3), torch.ones(1, 1, 3)
    still = torch.zeros(1, 1, dtype=torch.bool)
    (warped,) = warp_by_agents((level,), start, now, torch.ones(1, 1, 2), still, WIDE)
    torch.testing.assert_close(warped, level)


def test_each_agent_of_each_scene_carries_its_own_features() -> None:
    level = torch.rand(2, 3, *WIDE.shape)
    start = torch.tensor([[[0.5, 0.5], [8.5, -2.5]], [[-4.5, 5.5], [12.5, 2.5]]])
    moved = torch.tensor([[[3.0, 2.0], [4.0, -1.0]], [[5.0, -3.0], [6.0, 4.0]]])
    now, size = start + moved, torch.full((2, 2, 2), 0.5)
    start, now = (torch.cat([at, torch.zeros(2, 2, 1)], -1) for at in (start, now))
    (warped,) = warp_by_agents((level,), start, now, size, torch.ones(2, 2).bool(), WIDE)
    for scene in range(2):
        for agent in range(2):
            column, row = (start[scene, agent, :2] + torch.tensor([7.5, 5.5])).int().tolist()
            dx, dy = moved[scene, agent].int().tolist()
            torch.testing.assert_close(
                warped[scene, :, row + dy, column + dx],
                level[scene, :, row, column],
                atol=1e-4,
                rtol=0,
            )


def test_coarse_cells_that_a_box_touches_move_with_it_and_no_others() -> None:
    level = torch.rand(1, 3, 4, 8)  # cells of 4 m
    now = torch.tensor([[[3.5, 4.0, 0.0]]])  # a box of 2 m x 1 m across the border at x = 4
    start, size = now - torch.tensor([8.0, 0.0, 0.0]), torch.tensor([[[2.0, 1.0]]])
    (warped,) = warp_by_agents((level,), start, now, size, torch.ones(1, 1).bool(), WIDE)
    expected = level.clone()
    expected[..., 2, 2:4] = level[..., 2, 0:2]
    torch.testing.assert_close(warped, expected, atol=1e-4, rtol=0)


# Neither square nor centred; a quarter turn about the origin maps its cells onto themselves.
LATTICE = BEVGrid(-16.0, 24.0, -12.0, 12.0, 0.5)
SHAPES = ((12, 20), (6, 10))
NO_AGENTS = torch.zeros(1, 1, 3), torch.zeros(1, 1, 2), torch.zeros(1, 1, dtype=torch.bool)


def places() -> tuple[Tensor, ...]:
    """Levels whose two channels are x and y of their cells."""
    like = torch.zeros(1)
    return tuple(metric_cell_centres(s, LATTICE, like).permute(2, 0, 1)[None] for s in SHAPES)


@pytest.mark.parametrize("turn", [0.0, math.pi / 2, math.pi, -0.7])
def test_features_stay_in_the_world_when_the_ego_frame_moves_and_turns(turn: float) -> None:
    frame = torch.tensor([[4.0, -4.0, turn]])
    pose, size, moving = NO_AGENTS
    for level, warped in zip(
        places(), warp_by_agents(places(), pose, pose, size, moving, LATTICE, frame), strict=True
    ):
        centres = metric_cell_centres((level.shape[2], level.shape[3]), LATTICE, level)
        then = se2.apply(frame[:, None, None], centres)
        cell = (LATTICE.x_max_m - LATTICE.x_min_m) / level.shape[3]
        known = (then[0, ..., 0] > LATTICE.x_min_m + cell) & (
            then[0, ..., 0] < LATTICE.x_max_m - cell
        )
        known &= (then[0, ..., 1] > LATTICE.y_min_m + cell) & (
            then[0, ..., 1] < LATTICE.y_max_m - cell
        )
        assert known.sum() > 10
        expected = then[0].permute(2, 0, 1)[:, known]
        torch.testing.assert_close(warped[0][:, known], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("count", "step", "whole"),
    [
        (50, (0.2, 0.0, 0.0), (10.0, 0.0, 0.0)),
        (25, (0.4, 0.0, 0.0), (10.0, 0.0, 0.0)),
        (10, (0.0, -0.8, 0.0), (0.0, -8.0, 0.0)),
        (100, (0.0, 0.0, 0.005), (0.0, 0.0, 0.5)),
    ],
)
def test_small_moves_of_a_map_add_up(
    count: int, step: tuple[float, float, float], whole: tuple[float, float, float]
) -> None:
    given = torch.randint(0, 2, (2, 3, *WIDE.shape)).float()
    context = SceneContext(given, None, WIDE)

    for _ in range(count):
        context = scene_seen_from(context, torch.tensor([step, step]))

    expected = resampled(given, torch.tensor([whole, whole]), WIDE)
    assert (context.map != expected).float().mean() < 0.01  # an edge lies on a centre
    assert (context.map != given).any()


def test_dense_channels_are_those_of_the_last_frame_that_brought_them() -> None:
    layers, channels = torch.rand(1, 2, *WIDE.shape), torch.rand(1, 1, *WIDE.shape)
    moved = torch.tensor([[1.0, 0.0, 0.0]])
    context = SceneContext(torch.cat((layers, channels), 1), None, WIDE, given=layers)

    context = scene_seen_from(context, moved)
    fresh = torch.rand(1, 1, *WIDE.shape)
    brought = torch.cat((context.map[:, :2], fresh), 1)
    again = scene_seen_from(dataclasses.replace(context, map=brought), moved)

    assert torch.equal(context.map[:, 2:, :, :-1], channels[..., 1:])
    assert torch.equal(again.map[:, 2:, :, :-1], fresh[..., 1:])
    assert torch.equal(again.map[:, :2, :, :-2], layers[..., 2:])


@pytest.mark.parametrize("way", [(0.5, 0.0, 0.0), (0.0, 1.5, 0.0), (-2.5, -0.5, 0.0)], ids=str)
def test_no_cell_is_lost_where_the_frame_moves_by_half_a_cell(way: tuple[float, ...]) -> None:
    names = torch.arange(1.0, 1 + WIDE.height * WIDE.width).view(1, 1, *WIDE.shape)

    seen = resampled(names, torch.tensor([way]), WIDE)

    shown = seen[seen > 0]
    assert len(shown.unique()) == len(shown) > 300
