"""Variations of a scene: what they change, and what they must leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forecast.data.augment import augment
from forecast.data.settings import Augmentation
from forecast.model.baselines import Baseline
from forecast.rollout import rollout
from tests.sequences import TRAFFIC, sequences
from tests.support import Mover

OFF = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_the_mirror_image_of_a_forecast_is_the_forecast_of_the_mirror_image() -> None:
    batch = sequences(TRAFFIC)
    model = Baseline("constant-turn", 3)
    ours = list(rollout(model, batch.mirror().crop(0, 3), 4))[-1]
    theirs = list(rollout(model, batch.crop(0, 3), 4))[-1]
    assert torch.equal(ours.instance, theirs.instance.flip(-2))
    live = ours.ids > 0
    signs = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(ours.pose[live], (theirs.pose * signs)[live], atol=1e-4, rtol=0)


def test_noise_leaves_the_truth_alone() -> None:
    batch = sequences(TRAFFIC)
    assert batch.track_state is not None
    how = Augmentation(mirror=0.0, position_noise_m=1.0, drop_lanes=1.0, drop_map=1.0)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    assert varied.track_state is not None
    assert varied.map_point is None
    assert varied.map is not None
    assert not varied.map.any()
    torch.testing.assert_close(
        varied.track_state[:, :, 3:], batch.track_state[:, :, 3:], equal_nan=True
    )
    assert not torch.equal(varied.track_state[0, 0, 2], batch.track_state[0, 0, 2])


def test_a_scaled_scene_drives_as_the_scene_did_only_larger() -> None:
    batch = sequences(TRAFFIC)
    model = Baseline("constant-turn", 3)
    how = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, scale=0.2)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    factor = varied.grid.resolution_m / batch.grid.resolution_m
    assert factor != pytest.approx(1.0)
    ours = list(rollout(model, varied.crop(0, 3), 4))[-1]
    theirs = list(rollout(model, batch.crop(0, 3), 4))[-1]
    live = ours.ids > 0
    by = torch.tensor([factor, factor, 1.0])
    torch.testing.assert_close(ours.pose[live], (theirs.pose * by)[live], atol=1e-4, rtol=1e-4)
    assert torch.equal(ours.instance, theirs.instance)


def varied_state(**how: float) -> tuple[Tensor, Tensor]:
    """States of a walker and a car before and after some augmentation, in 64 sequences."""
    walker = Mover(3.0, 2.0, 0.2, 1.3, length=0.8, width=0.8, label=2)
    batch = sequences([[walker, Mover(-6.0, 1.0, 0.0, 4.0)]] * 64)
    varied = augment(batch, replace(OFF, **how), 3, torch.Generator().manual_seed(0))
    assert batch.track_state is not None
    assert varied.track_state is not None
    return batch.track_state, varied.track_state


def test_every_agent_has_a_noise_of_its_own() -> None:
    before, after = varied_state(position_noise_m=0.02, noise_spread=1.0)
    moved = (after - before)[:, :, :3, :2].square().mean((2, 3)).sqrt()
    assert moved.max() / moved.min() > 20
    assert 0.01 < moved.median() < 0.04
    assert torch.equal(before[:, :, 3:], after[:, :, 3:])


def test_walkers_look_aside_for_good_and_from_frame_to_frame_but_cars_do_not() -> None:
    before, after = varied_state(round_heading_rad=0.1)
    turned = (after - before)[..., 2]
    assert not turned[:, 1].any()
    seen, later = turned[:, 0, :3], turned[:, 0, 3:]
    assert torch.allclose(later, later[:, :1].expand_as(later), atol=1e-6)
    assert 0.07 < later[:, 0].std() < 0.13
    assert 0.07 < (seen - later[:, :1]).std() < 0.13
    assert torch.equal(before[..., :2], after[..., :2])
