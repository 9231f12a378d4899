"""Variations of a scene: what they change, and what they must leave alone."""

from __future__ import annotations

import pytest
import torch

from forecast.data.augment import augment
from forecast.data.settings import Augmentation
from forecast.model.baselines import Baseline
from forecast.rollout import rollout
from tests.sequences import TRAFFIC, sequences


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


def test_every_batch_has_a_tracker_of_its_own_up_to_the_noise_that_was_set() -> None:
    batch = sequences(TRAFFIC)
    how = Augmentation(0.0, 0.2, 0.0, 0.0, 0.0, 0.0)
    dice = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(200):
        varied = augment(batch, how, 3, dice)
        assert varied.track_state is not None
        assert batch.track_state is not None
        shift = (varied.track_state - batch.track_state)[:, :, :3, :2]
        errors.append(float(shift[torch.isfinite(shift)].std()))
    levels = torch.tensor(errors)
    assert levels.min() < 0.03
    assert levels.max() > 0.15
    assert 0.07 < levels.mean() < 0.13


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
