"""Boxes from the edges of masks: nearer to the truth than moments, whatever the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene import mask_edges
from forecast.model.scene.masks import mask_poses
from tests.support.stores import draw

GRID = BEVGrid(-30, 42, -20, 24, 0.5)
"""Neither square nor the same on both sides of the ego."""


def cars(seed: int) -> Tensor:
    """``(12, 5)`` boxes of vehicles that stand apart, half of them nearly along the grid."""
    random = np.random.default_rng(seed)
    columns, rows = np.meshgrid(np.linspace(-22, 32, 4), np.linspace(-12, 16, 3))
    place = np.stack((columns, rows), -1).reshape(-1, 2) + random.uniform(-1, 1, (12, 2))
    yaw = np.where(np.arange(12) % 2, random.normal(0, 0.06, 12), random.uniform(-1.5, 1.5, 12))
    size = np.stack((random.normal(4.7, 0.4, 12), random.normal(1.95, 0.12, 12)), -1)
    return torch.as_tensor(np.concatenate((place, yaw[:, None], size), -1), dtype=torch.float32)


def masks(boxes: Tensor, grid: BEVGrid = GRID) -> Tensor:
    """``(1, h, w)`` their ids in every cell whose centre they cover."""
    return torch.as_tensor(draw(grid, boxes.numpy()).astype(np.int64))[None]


def found(instance: Tensor, grid: BEVGrid = GRID) -> Tensor:
    """``(n, 5)`` the box of every id from 1."""
    _, _, pose, size, _ = mask_poses(instance, (instance > 0).long(), grid)
    return torch.cat((pose, size), -1)[0, 1:]


def errors(boxes: Tensor, truth: Tensor) -> Tensor:
    """``(n, 5)`` ahead and aside, of the axis, of length and width; without sign."""
    away, cos, sin = (boxes - truth)[:, :2], truth[:, 2].cos(), truth[:, 2].sin()
    ahead = away[:, 0] * cos + away[:, 1] * sin
    aside = away[:, 1] * cos - away[:, 0] * sin
    axis = torch.remainder(boxes[:, 2] - truth[:, 2] + math.pi / 2, math.pi) - math.pi / 2
    return torch.cat((torch.stack((ahead, aside, axis), -1), boxes[:, 3:] - truth[:, 3:]), -1).abs()


def test_edges_tell_boxes_better_than_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [cars(seed) for seed in range(30)]
    edges = torch.cat([errors(found(masks(scene)), scene) for scene in scenes]).mean(0)
    monkeypatch.setattr(mask_edges, "ITERATIONS", 0)
    moments = torch.cat([errors(found(masks(scene)), scene) for scene in scenes]).mean(0)
    ahead, aside, axis, length, width = (edges / moments).tolist()
    assert ahead < 0.87
    assert aside < 1.0
    assert axis < 0.82
    assert length < 0.95
    assert width < 0.97


def test_edges_that_are_off_by_a_cell_here_and_there_do_not_mislead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = torch.Generator().manual_seed(0)
    worn = []
    for seed in range(30):
        instance = masks(scene := cars(seed))
        grown = torch.nn.functional.max_pool2d(instance.float(), 3, 1, 1).long()
        beside = torch.nn.functional.max_pool2d((instance == 0).float(), 3, 1, 1) > 0
        off = torch.rand(instance.shape, generator=random) < 0.08
        eaten, added = off & beside, off & (instance == 0)
        worn.append((torch.where(added, grown, torch.where(eaten, 0, instance)), scene))
    edges = torch.cat([errors(found(cells), scene) for cells, scene in worn]).mean(0)
    monkeypatch.setattr(mask_edges, "ITERATIONS", 0)
    moments = torch.cat([errors(found(cells), scene) for cells, scene in worn]).mean(0)
    assert bool((edges < moments).all())


def test_a_turned_scene_has_turned_boxes() -> None:
    instance = masks(cars(3))
    turned = BEVGrid(-24, 20, -30, 42, 0.5)  # a quarter of a turn to the left
    boxes = found(instance)
    other = found(instance.transpose(1, 2).flip(2).contiguous(), turned)
    expected = torch.stack((-boxes[:, 1], boxes[:, 0], boxes[:, 2] + math.pi / 2), -1)
    assert float(errors(other, torch.cat((expected, boxes[:, 3:]), -1)).max()) < 0.02


def test_an_agent_that_the_grid_cuts_off_is_not_drawn_out_beyond_it() -> None:
    boxes = torch.tensor([[40.0, 2.0, 0.1, 4.8, 1.9], [-30.0, -8.0, 0.0, 9.0, 2.2]])
    seen = found(masks(boxes))
    assert bool(torch.isfinite(seen).all())
    assert float(seen[0, 0] + seen[0, 3] / 2) < 42.5
    assert float(seen[1, 0] - seen[1, 3] / 2) > -30.5
    assert seen[:, 4].tolist() == pytest.approx([1.9, 2.2], abs=0.3)
