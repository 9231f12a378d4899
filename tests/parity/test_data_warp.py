"""Rasters are moved by numpy in ``data_tools`` as features are by torch in the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_tools import warp
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.cells import metric_cell_centres
from forecast.model.scene.warp import sample_at

GRID = BEVGrid(-8.0, 24.0, -6.0, 10.0, 1.0)  # 16 x 32, neither square nor centred
POSES = [(0.0, 0.0, 0.0), (1.3, -0.7, 0.4), (-5.2, 3.1, -2.2), (0.3, 0.2, np.pi / 2), (99, 0, 0)]


@pytest.mark.parametrize("pose", POSES)
def test_labels_and_channels_are_moved_as_the_model_samples(pose):
    at = torch.tensor([pose], dtype=torch.float64)
    points = se2.unapply(at[:, None, None], metric_cell_centres(GRID.shape, GRID, at)[None])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, GRID.shape).astype(np.uint8)
    channels = rng.normal(size=(3, *GRID.shape)).astype(np.float32)
    for raster, ours, mode in (
        (labels[None], warp.nearest, "nearest"),
        (channels, warp.bilinear, "bilinear"),
    ):
        there = sample_at(torch.from_numpy(raster.astype(np.float64))[None], points, GRID, mode)
        moved = ours(raster, np.array(pose), GRID, GRID)
        assert moved.dtype == raster.dtype
        np.testing.assert_allclose(moved, there[0], atol=1e-5)


def test_another_grid_is_read_at_its_own_cell_centres():
    fine = BEVGrid(-3.0, 5.0, -2.0, 2.0, 0.25)
    ahead = np.broadcast_to(GRID.x_m.astype(np.float32), GRID.shape)
    pose = np.array([2.0, 1.0, np.pi / 2])  # what lies ahead of it lies to the left of us
    moved = warp.bilinear(ahead, pose, GRID, fine)
    np.testing.assert_allclose(
        moved, np.broadcast_to(fine.y_m[:, None] - 1.0, fine.shape), atol=1e-5
    )
    assert warp.nearest(ahead, pose, GRID, fine).shape == fine.shape


def test_where_a_frame_does_not_reach_there_is_nothing():
    ones = np.ones(GRID.shape, np.uint16)
    moved = warp.nearest(ones, np.array([20.0, 0.0, 0.0]), GRID, GRID)
    assert moved[:, GRID.x_m > 12.0].all()
    assert not moved[:, GRID.x_m < 12.0].any()
