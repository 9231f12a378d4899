"""Lane points that a forecaster reads: as far apart on every map."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.model.scene.lanes import thinned

SPACING_M = 3.0


def lane(aside: float, yaw: float = 0.0, spacing: float = 0.5) -> torch.Tensor:
    """Points of a straight lane along x."""
    x = torch.arange(-30.0, 30.0, spacing) + 0.1
    return torch.stack((x, 0 * x + aside, 0 * x + yaw), -1)


def test_a_dense_lane_is_read_at_the_spacing_and_a_sparse_one_as_it_is() -> None:
    dense = thinned(lane(1.0)[None], SPACING_M)
    assert dense.shape == (1, 20, 3), "60 m in squares of 3 m"
    sparse = lane(1.0, spacing=4.0)[None]
    assert torch.equal(thinned(sparse, SPACING_M), sparse)


def test_what_drives_the_other_way_at_the_same_place_stays() -> None:
    both = torch.cat((lane(1.0), lane(1.0, math.pi)))[None]
    found = thinned(both, SPACING_M)
    assert found.shape[1] == 40
    assert int((found[0, :, 2] == 0).sum()) == 20


def test_padding_is_no_point_and_every_scene_is_thinned_for_itself() -> None:
    none = torch.full_like(lane(1.0), torch.nan)
    found = thinned(torch.stack((none, lane(-4.0))), SPACING_M)
    assert bool(found[0].isnan().all())
    assert torch.equal(found[1], thinned(lane(-4.0)[None], SPACING_M)[0])
    assert thinned(none[None], SPACING_M).shape == (1, 0, 3)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60))
def test_every_point_is_one_of_those_given_and_near_each_dropped_one_is_a_kept_one(
    seed: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([20.0, 20.0, 3.0])
    points = torch.randn(1, count, 3, generator=generator) * scale
    found = thinned(points, SPACING_M)[0]
    for point in found:
        assert bool((points[0] == point).all(-1).any())
    apart = torch.linalg.vector_norm(points[0, :, None, :2] - found[None, :, :2], dim=-1)
    turn = (points[0, :, None, 2] - found[None, :, 2] + math.pi) % (2 * math.pi) - math.pi
    near = (apart < SPACING_M * math.sqrt(2)) & (turn.abs() <= math.pi / 4 + 1e-4)
    assert bool(near.any(1).all())
