import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecast.grid import BEVGrid
from forecast.model import se2
from forecast.model.warp import cell_centres, sample_at, warp_by_agents
from tests.warps import seen_from

WIDE = BEVGrid(-8.0, 24.0, -6.0, 10.0, 1.0)  # 16 x 32, neither square nor centred


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_a_shift_by_whole_cells_moves_every_label_exactly(dx: int, dy: int) -> None:
    labels = torch.randint(1, 99, (1, 1, *WIDE.shape)).float()
    moved = seen_from(labels, torch.tensor([[dx, dy, 0.0]]), WIDE, mode="nearest")
    for row in range(16):
        for column in range(32):
            source = row - dy, column - dx
            inside = 0 <= source[0] < 16 and 0 <= source[1] < 32
            expected = labels[0, 0, source[0], source[1]] if inside else 0.0
            assert moved[0, 0, row, column] == expected


def test_a_quarter_turn_on_a_grid_that_is_not_square() -> None:
    grid = BEVGrid(-12.0, 12.0, -8.0, 8.0, 1.0)
    image = torch.zeros(1, 1, *grid.shape)
    image[0, 0, 8 + 2, 12 + 5] = 1.0  # centre x = 5.5, y = 2.5
    turned = seen_from(image, torch.tensor([[0.0, 0.0, math.pi / 2]]), grid)
    assert turned[0, 0, 8 + 5, 12 - 3] == pytest.approx(1.0, abs=1e-4)  # x = -2.5, y = 5.5
    assert turned.sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_warp_agrees_with_an_analytic_field_on_every_level(stride: int) -> None:
    pose = torch.tensor([[1.3, -0.7, 0.4]], dtype=torch.float64)
    centres = cell_centres((16 // stride, 32 // stride), WIDE, pose)
    field = (2 * centres[..., 0] - 3 * centres[..., 1])[None, None]  # linear: bilinear is exact
    warped = seen_from(field, pose, WIDE)
    source = se2.unapply(pose[:, None, None], centres[None])
    expected = 2 * source[..., 0] - 3 * source[..., 1]
    inside = (
        (source[..., 0] > WIDE.x_min_m + stride)
        & (source[..., 0] < WIDE.x_max_m - stride)
        & (source[..., 1] > WIDE.y_min_m + stride)
        & (source[..., 1] < WIDE.y_max_m - stride)
    )
    torch.testing.assert_close(warped[:, 0][inside], expected[inside])


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
