"""What a query sees of its scene_context, against the plainest way to look."""

import pytest
import torch
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.context import PackedQueries
from forecast.model.scene.packing import Packing
from forecast.model.scene.warp import sample_at
from forecast.model.scene_attention import (
    CROP_BEHIND_M,
    CROP_CELL_M,
    CROP_CELLS,
    LANE_POINTS,
    _pooled,
    crop,
    nearest_points,
)
from forecast.types import SceneContext

GRID = BEVGrid(-30.0, 34.0, -20.0, 20.0, 0.5)


def rows_of(sequence: list[int]) -> PackedQueries:
    torch.manual_seed(0)
    count = len(sequence)
    pose = torch.randn(count, 3) * torch.tensor([20.0, 12.0, 2.0])
    live = torch.zeros(max(sequence, default=0) + 1, max(count, 1), dtype=torch.bool)
    for slot, number in enumerate(sequence):
        live[number, slot] = True
    return PackedQueries(Packing.of(live), pose, torch.randn(count, 3), torch.zeros(count, 5))


def test_crops_are_those_of_one_row_after_the_other() -> None:
    rows = rows_of([0, 0, 0, 2, 2])  # nobody is in the second sequence
    context = SceneContext(torch.rand(3, 2, *GRID.shape), None, GRID)
    pooled = functional.max_pool2d(context.map, 2)
    cells = torch.arange(CROP_CELLS) + 0.5
    aside, ahead = torch.meshgrid(
        (cells - CROP_CELLS / 2) * CROP_CELL_M, cells * CROP_CELL_M - CROP_BEHIND_M, indexing="ij"
    )
    views = crop(rows, context)
    for view, sequence, pose in zip(views, rows.sequence, rows.pose, strict=True):
        points = se2.apply(pose, torch.stack((ahead, aside), -1))
        plain = sample_at(pooled[sequence][None], points[None], GRID)
        torch.testing.assert_close(view, plain[0], atol=1e-4, rtol=0)


def test_a_batch_without_anybody_has_no_crops() -> None:
    context = SceneContext(torch.rand(2, 3, *GRID.shape), None, GRID)
    assert crop(rows_of([]), context).shape == (0, 3, CROP_CELLS, CROP_CELLS)


def test_lane_points_are_the_nearest_of_the_row_s_own_sequence() -> None:
    rows = rows_of([0, 1, 1])
    points = torch.randn(2, 3 * LANE_POINTS, 3) * 30
    points[0, LANE_POINTS // 2 :] = torch.nan  # fewer than are asked for
    chosen, valid = nearest_points(rows, points)
    for row, sequence in enumerate(rows.sequence.tolist()):
        centre = se2.apply(rows.pose[row], 2 * rows.twist[row, :2])
        own = points[sequence][points[sequence].isfinite().all(-1)]
        order = (own[:, :2] - centre).norm(dim=-1).argsort()[:LANE_POINTS]
        assert int(valid[row].sum()) == len(order)
        found = {tuple(point) for point in chosen[row][valid[row]].tolist()}
        assert found == {tuple(point) for point in own[order].tolist()}


@pytest.mark.parametrize(
    ("height", "width", "factor"), [(8, 12, 1), (8, 12, 2), (13, 9, 4), (2, 3, 7)]
)
def test_pooling_is_torch_s_also_where_it_does_not_divide(
    height: int, width: int, factor: int
) -> None:
    image = torch.randn(2, 3, height, width)  # a user's dense channels may be negative
    theirs = functional.max_pool2d(image, factor, ceil_mode=True)
    assert torch.equal(_pooled(image, factor), theirs)
