"""Variations of a scene: what they change, and what they must leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forecast.config.data import Augmentation
from forecast.data.augment import augment, hide, lose, misplace_map, vary_lanes
from forecast.data.corruption import observed
from forecast.loop import rollout
from forecast.model.baselines import Baseline
from forecast.model.scene import se2
from forecast.types import BEVSequence
from tests.support.sequences import TRAFFIC, sequences


def test_the_mirror_image_of_a_forecast_is_the_forecast_of_the_mirror_image() -> None:
    batch = sequences(TRAFFIC)
    model = Baseline("constant-turn", 3)
    ours = list(rollout(model, batch.mirror().crop(0, 3), 4))[-1]
    theirs = list(rollout(model, batch.crop(0, 3), 4))[-1]
    assert torch.equal(ours.instance, theirs.instance.flip(-2))
    live = ours.ids > 0
    signs = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(ours.pose[live], (theirs.pose * signs)[live], atol=1e-4, rtol=0)


def test_lanes_and_map_are_hidden_and_the_tracks_stay() -> None:
    batch = sequences(TRAFFIC)
    how = Augmentation(mirror=0.0, drop_lanes=1.0, drop_map=1.0)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    assert varied.map_point is None
    assert varied.map is not None
    assert not varied.map.any()
    assert varied.track_state is batch.track_state


def test_a_scaled_scene_drives_as_the_scene_did_only_larger() -> None:
    batch = sequences(TRAFFIC)
    model = Baseline("constant-turn", 3)
    how = Augmentation(0.0, 0.0, 0.0, scale=0.2)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    factor = varied.grid.resolution_m / batch.grid.resolution_m
    assert factor != pytest.approx(1.0)
    ours = list(rollout(model, varied.crop(0, 3), 4))[-1]
    theirs = list(rollout(model, batch.crop(0, 3), 4))[-1]
    live = ours.ids > 0
    by = torch.tensor([factor, factor, 1.0])
    torch.testing.assert_close(ours.pose[live], (theirs.pose * by)[live], atol=1e-4, rtol=1e-4)
    assert torch.equal(ours.instance, theirs.instance)


def test_a_wrong_map_lies_off_with_its_lanes_and_the_tracks_stay() -> None:
    batch = sequences(TRAFFIC)
    assert batch.map is not None
    assert batch.map_point is not None
    grid = batch.grid
    y = grid.y_min_m + (torch.arange(grid.height) + 0.5) * grid.resolution_m
    street = (y.abs() < 5.0)[:, None].expand(batch.map.shape)  # along the lane
    batch = replace(batch, map=street.to(batch.map.dtype))
    varied = misplace_map(batch, torch.Generator().manual_seed(0))
    assert varied.map is not None
    assert varied.map_point is not None
    assert varied.track_state is batch.track_state
    moved = se2.between(batch.map_point[:, 0], varied.map_point[:, 0])
    assert bool((moved.abs() > 1e-3).any(-1).all())
    assert bool((moved[:, 2].abs() <= 0.1).all())
    for layers, points in zip(varied.map, varied.map_point, strict=True):
        points = points[grid.contains(points[:, 0], points[:, 1])]
        column = ((points[:, 0] - grid.x_min_m) / grid.resolution_m).long()
        row = ((points[:, 1] - grid.y_min_m) / grid.resolution_m).long()
        assert float(layers[0].float()[row, column].mean()) > 0.9, "lanes run on the street"
        assert not bool(torch.equal(layers[0], street[0, 0].to(layers.dtype)))


def test_other_lanes_are_some_of_those_given_and_copies_beside_them() -> None:
    batch = sequences(TRAFFIC)
    assert batch.map_point is not None
    count = batch.map_point.shape[1]
    generator = torch.Generator().manual_seed(0)
    varied = augment(batch, Augmentation(0, 0, 0, other_lanes=1.0), 3, generator).map_point
    assert varied is not None
    kept, copies = varied[:, :count], varied[:, count:]
    there = torch.isfinite(kept[..., 0])
    assert 0 < int(there.sum()) < there.numel()
    assert torch.equal(kept[there], batch.map_point[there])
    beside = torch.isfinite(copies[..., 0])
    assert bool(beside.any())
    apart = torch.linalg.vector_norm((copies - batch.map_point)[beside][:, :2], dim=-1)
    assert 0.1 < float(apart.mean()) < 5.0


def test_other_lanes_have_holes_where_there_is_no_lane() -> None:
    grid = sequences(TRAFFIC).grid
    even = torch.linspace(0, 1, 60)
    x = grid.x_min_m + even * (grid.x_max_m - grid.x_min_m)
    y = grid.y_min_m + even * (grid.y_max_m - grid.y_min_m)
    points = torch.stack((*torch.meshgrid(x, y, indexing="ij"), torch.zeros(60, 60)), -1)
    found = vary_lanes(points.view(1, -1, 3), grid, torch.Generator().manual_seed(4))[0]
    found = found[torch.isfinite(found[:, 0]), :2]
    apart = torch.linalg.vector_norm(points.view(-1, 1, 3)[..., :2] - found, dim=-1)
    assert float(apart.amin(1).max()) > 5.0, "a place that is far from every lane that is left"


def test_a_lost_track_is_gone_for_good_in_what_is_seen_and_in_the_truth() -> None:
    batch = observed_at(sequences(TRAFFIC * 20), (-1.0, -0.7, -0.2, 0.0))
    lost = lose(batch, 0.7, 3, torch.Generator().manual_seed(0))
    assert lost.track_state is not None
    assert lost.track_history is not None
    assert batch.track_state is not None
    there = torch.isfinite(batch.track_state).all(-1)
    kept, seen = (torch.isfinite(x).all(-1) for x in (lost.track_state, lost.track_history))
    assert not (kept & ~there).any()
    assert not (kept[..., 1:] & ~kept[..., :-1] & there[..., :-1]).any()
    assert not (seen[..., 1:] & ~seen[..., :-1]).any()
    early = ~seen[..., -1] & there[..., 2]  # before the present
    assert early.any()
    assert not kept[..., 2:][early].any()
    late = seen[..., -1] & there.all(-1) & ~kept[..., -1]
    assert late.any()
    assert (kept.all(-1) & there.all(-1)).any()
    torch.testing.assert_close(lost.track_state[kept], batch.track_state[kept])


def test_a_lost_track_leaves_the_rasters_of_its_frames_and_no_others() -> None:
    batch = sequences(TRAFFIC * 20)
    lost = lose(batch, 0.7, 3, torch.Generator().manual_seed(0))
    assert lost.track_state is not None
    gone = ~torch.isfinite(lost.track_state[..., 0]).transpose(1, 2)
    shown = batch.instance.flatten(2).long()
    erased = gone.gather(2, (shown - 1).clamp(min=0)).view_as(batch.instance) & (batch.instance > 0)
    assert 0 < int(erased.sum()) < int((batch.instance > 0).sum())
    assert torch.equal(lost.instance, batch.instance.masked_fill(erased, 0))
    assert torch.equal(lost.semantic, batch.semantic.masked_fill(erased, 0))


@pytest.mark.parametrize("rasters", [True, False])
def test_rasters_lose_tracks_where_they_are_read(rasters: bool) -> None:
    batch = sequences(TRAFFIC * 20)
    history = replace(batch, instance=batch.instance[:, :3], semantic=batch.semantic[:, :3])
    history = replace(history, bev=history.instance[:, :, None].float())
    how = Augmentation(0, 0, 0, lost=0.7, other_rate=0)
    lost = augment(history, how, 3, torch.Generator().manual_seed(0), rasters)
    assert lost.track_state is not None
    assert (
        torch.isnan(lost.track_state[..., 2, 0]).sum()
        > torch.isnan(batch.track_state[..., 2, 0]).sum()
    )
    assert torch.equal(lost.instance, history.instance) is not rasters
    assert lost.bev is not None
    assert torch.equal(lost.bev[:, :, 0], lost.instance.float())


def test_most_of_the_tracks_that_are_lost_are_hidden_at_the_present() -> None:
    batch = observed_at(sequences(TRAFFIC * 40), (-1.0, 0.0))
    lost = lose(batch, 0.3, 3, torch.Generator().manual_seed(0))
    assert lost.track_state is not None
    assert batch.track_state is not None
    there = torch.isfinite(batch.track_state).all(-1).all(-1)
    now, later = torch.isfinite(lost.track_state).all(-1)[there][:, [2, -1]].float().mean(0)
    assert float(1 - now) == pytest.approx(0.255, abs=0.05)
    assert float(1 - later) == pytest.approx(0.3, abs=0.05)


def observed_at(batch: BEVSequence, time_s: tuple[float, ...]) -> BEVSequence:
    """A batch that was seen at these moments, everyone where they are at present."""
    assert batch.track_state is not None
    samples = batch.track_state[:, :, 2:3].repeat(1, 1, len(time_s), 1)
    time = torch.tensor(time_s).expand(batch.batch, -1)
    return replace(batch, track_history=samples, sample_time=time)


def test_a_newcomer_is_seen_at_the_present_only_in_tracks_and_rasters() -> None:
    batch = sequences(TRAFFIC)
    how = Augmentation(0.0, 0.0, 0.0, newcomers=0.8)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    assert varied.track_state is not None
    assert batch.track_state is not None
    new = varied.track_state[:, :, :2].isnan().all(-1).all(-1)
    assert new.any()
    assert not new.all()
    past = torch.where(new[..., None, None], torch.nan, batch.track_state[:, :, :2])
    torch.testing.assert_close(varied.track_state[:, :, :2], past, equal_nan=True)
    torch.testing.assert_close(
        varied.track_state[:, :, 2:], batch.track_state[:, :, 2:], equal_nan=True
    )
    for index, row in enumerate(new):
        hidden = torch.isin(batch.instance[index, :2], 1 + row.nonzero().squeeze(1))
        assert torch.equal(
            varied.instance[index, :2] > 0, (batch.instance[index, :2] > 0) & ~hidden
        )
        assert torch.equal(varied.semantic[index, :2] > 0, varied.instance[index, :2] > 0)
    assert torch.equal(varied.instance[:, 2:], batch.instance[:, 2:])
    assert torch.equal(varied.semantic[:, 2:], batch.semantic[:, 2:])


@pytest.mark.parametrize("rasters", [3, 6])
def test_who_comes_later_is_seen_in_nothing_up_to_the_present(rasters: int) -> None:
    batch = observed(sequences(TRAFFIC), 3)
    batch = replace(
        batch, instance=batch.instance[:, :rasters], semantic=batch.semantic[:, :rasters]
    )
    how = Augmentation(0.0, 0.0, 0.0, unseen=0.6, other_rate=0.0)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(1))
    assert varied.track_state is not None
    assert varied.track_history is not None
    assert batch.track_state is not None
    there = varied.track_state.isfinite().all(-1)
    later = ~there[:, :, :3].any(-1) & batch.track_state[:, :, 0].isfinite().all(-1)
    assert later.any()
    assert varied.track_history[later].isnan().all()
    assert not varied.track_history[~later & there.any(-1)].isnan().all()
    first = there[later].int().argmax(-1)
    assert set(first.tolist()) > {3}, "at any lead"
    for row, ids in zip(varied.instance[:, :3], later, strict=True):
        assert not torch.isin(row, 1 + ids.nonzero().squeeze(1)).any()
    after = torch.where(there[..., None], varied.track_state, batch.track_state)
    torch.testing.assert_close(after, batch.track_state, equal_nan=True)


def test_a_batch_at_another_rate_is_every_so_many_th_sample_up_to_the_present() -> None:
    batch = observed(sequences(TRAFFIC, history=7), 7)
    assert batch.sample_time is not None
    generator = torch.Generator().manual_seed(0)
    steps, counts = set(), set()
    for _ in range(60):
        varied = augment(batch, Augmentation(0.0, 0.0, 0.0, other_rate=1.0), 7, generator)
        assert varied.sample_time is not None
        assert varied.track_history is not None
        assert varied.track_history.shape[2] == varied.sample_time.shape[1]
        assert (varied.sample_time[:, -1] == 0).all()
        counts.add(varied.sample_time.shape[1])
        steps |= set((varied.sample_time.diff() / batch.dt_s).flatten().round().int().tolist())
    assert steps == {1, 2, 3, 4, 5}
    assert counts == set(range(1, 8))


def test_a_newcomer_is_not_in_the_samples_before_the_present_either() -> None:
    batch = observed(sequences(TRAFFIC), 3)
    how = Augmentation(0.0, 0.0, 0.0, newcomers=0.8, other_rate=0.0)
    varied = augment(batch, how, 3, torch.Generator().manual_seed(0))
    assert varied.track_state is not None
    assert varied.track_history is not None
    torch.testing.assert_close(
        varied.track_history, varied.track_state[:, :, :3], equal_nan=True, rtol=0, atol=0
    )


def test_rasters_that_nobody_reads_are_left_alone_and_the_tracks_are_hidden_all_the_same() -> None:
    batch = sequences(TRAFFIC)
    how = Augmentation(0.0, 0.0, 0.0, newcomers=0.5)
    read, unread = (
        augment(batch, how, 3, torch.Generator().manual_seed(0), rasters)
        for rasters in (True, False)
    )
    assert unread.instance is batch.instance
    assert unread.semantic is batch.semantic
    assert read.track_state is not None
    torch.testing.assert_close(unread.track_state, read.track_state, equal_nan=True)


def test_cells_whose_id_has_no_track_stay() -> None:
    batch = sequences(TRAFFIC)
    assert batch.track_state is not None
    few = replace(batch, track_state=batch.track_state[:, :1], track_class=batch.track_class[:, :1])
    varied = hide(few, torch.ones(len(TRAFFIC), 1, dtype=torch.long), 3)
    others = torch.where(batch.instance > 1, batch.instance, 0)
    assert torch.equal(varied.instance[:, 0], others[:, 0])
