"""The classical stack for rasters without ids: components, linked from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forecast.loop import observed, rollout
from forecast.model.baselines import Baseline, Components
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.tracking.components import link_components
from forecast.model.tracking.lifecycle import TrackManager
from forecast.types import BEVSequence
from tests.support.sequences import INPUTS, SMALL, sequences
from tests.support.stores import GRID, Mover

# Far enough apart that no two touch.
APART = (
    (
        Mover(0.0, 0.0, 0.0, 8.0),
        Mover(10.0, 6.0, 3.1, 5.0),
        Mover(-8.0, -6.0, 1.5, 0.0),
        Mover(4.0, -8.0, 1.5, 1.4, length=0.8, width=0.8, label=2),
    ),
)


def test_components_keep_their_ids_through_the_history() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    found = link_components(past.semantic, GRID, past.dt_s, 99)
    assert torch.equal(found > 0, past.instance > 0)
    pairs = {tuple(pair) for pair in torch.stack((found, past.instance), -1).view(-1, 2).tolist()}
    assert len(pairs) == len(APART[0]) + 1  # one id each, and the background


def test_classes_are_never_linked() -> None:
    here, there = (sequences(((Mover(0, 0, 0, 0, label=k),),), history=3) for k in (1, 2))
    semantic = torch.cat((here.semantic[:, :1], there.semantic[:, :1]), 1)
    found = link_components(semantic, GRID, 0.5, 99)
    assert not found[:, 0].any()  # nobody at the present was there
    assert set(found[:, 1].unique().tolist()) == {0, 1}


def test_a_jump_beyond_any_traffic_is_another_agent() -> None:
    near, far = (sequences(((Mover(x, 0, 0, 0),),), history=3) for x in (-12.0, 12.0))
    semantic = torch.cat((near.semantic[:, :1], far.semantic[:, :1]), 1)
    found = link_components(semantic, GRID, 0.5, 99)
    assert not found[:, 0].any()
    assert set(found[:, 1].unique().tolist()) == {0, 1}


def test_agents_that_leave_and_appear_are_no_error() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    semantic = past.semantic.clone()
    semantic[:, 1] = 0
    found = link_components(semantic, GRID, 0.5, 99)
    assert not found[:, :2].any()
    assert len(found[:, 2].unique()) == len(APART[0]) + 1
    assert not link_components(0 * semantic, GRID, 0.5, 99).any()


def test_of_a_noisy_raster_the_largest_components_are_kept() -> None:
    semantic = torch.zeros(1, 3, *GRID.shape, dtype=torch.long)
    semantic[..., ::2, ::2] = 1
    semantic[..., 10:14, 10:14] = 1
    found = link_components(semantic, GRID, 0.5, 5)
    assert set(found.unique().tolist()) == {0, 1, 2, 3, 4, 5}
    assert (found[..., 10:14, 10:14] == 1).all()
    assert (next(iter(rollout(Components(3, 5), noisy(semantic), 1))).ids > 0).sum() == 5


def test_what_no_track_covers_gets_ids_after_those_that_are_taken() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    tracked = torch.where(past.instance == 2, 7, 0)
    found = link_components(past.semantic, GRID, past.dt_s, 99, tracked, torch.tensor([8]))
    assert torch.equal(found == 7, past.instance == 2)
    assert set(found[past.instance != 2].unique().tolist()) == {0, 9, 10, 11}


def test_where_tracks_cover_everything_nothing_changes() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    found = link_components(past.semantic, GRID, past.dt_s, 99, past.instance)
    assert torch.equal(found, past.instance)


def test_a_track_that_begins_late_takes_over_whoever_was_where_it_comes_from() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    tracked = past.instance.clone()
    tracked[:, :2][tracked[:, :2] == 1] = 0  # not found before the present
    tracked[:, 0][tracked[:, 0] == 2] = 9  # another track had it
    found = link_components(past.semantic, GRID, past.dt_s, 99, tracked)
    assert torch.equal(found, past.instance)


def test_a_track_is_believed_whatever_lies_nearer() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    swapped = past.instance.clone()
    swapped[:, 2] = torch.tensor([0, 2, 1, 3, 4])[past.instance[:, 2]]
    assert torch.equal(link_components(past.semantic, GRID, past.dt_s, 99, swapped), swapped)


def test_a_track_unseen_in_between_keeps_its_past_from_whoever_is_near() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    tracked = past.instance.clone()
    hidden = tracked[:, 1] == 1
    tracked[:, 1][hidden] = 0
    semantic = past.semantic.clone()
    semantic[:, 1][hidden] = 0
    near = (torch.arange(GRID.shape[1]) + 4) % GRID.shape[1]  # another, two metres beside it
    tracked[:, 1:][past.instance[:, 1:, :, near] == 1] = 9
    semantic[tracked > 0] = past.semantic.max()
    found = link_components(semantic, GRID, past.dt_s, 99, tracked, torch.tensor([9]))
    assert torch.equal(found[:, 0] == 1, past.instance[:, 0] == 1)


def test_a_component_is_never_given_the_id_of_a_track_without_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would be told what the tracker knows of that one."""
    past = sequences(APART, history=3).crop(0, 3)
    torch.manual_seed(0)
    model = Forecaster(replace(SMALL, birth_threshold=1e-6, track_threshold=1e-6), INPUTS).eval()
    monkeypatch.setattr("forecast.model.detected_input.segment", lambda semantic, *_: 0 * semantic)
    detecting = Detecting(model)
    with torch.no_grad():
        window = observed(detecting, past).window
        state = detecting.look_ahead(window)
        encoded = [features for features in window.features if features is not None]
        tracks, _ = detecting.tracker(encoded, window.context, TrackManager(1e-6, 1e-6))
    assert tracks.ids.max() > 0
    assert int(state.agents.ids[state.agents.live].min()) > int(tracks.ids.max())


def noisy(semantic: Tensor) -> BEVSequence:
    return replace(sequences(APART, history=3).crop(0, 3), semantic=semantic)


def test_where_components_are_the_agents_it_equals_constant_velocity_of_their_masks() -> None:
    past = sequences(APART, history=3).crop(0, 3)
    masks = replace(past, track_state=None, track_class=None)
    ours = [step.semantic for step in rollout(Components(3), past, 3)]
    other = [step.semantic for step in rollout(Baseline("constant-velocity", 3), masks, 3)]
    assert all(torch.equal(a, b) for a, b in zip(ours, other, strict=True))


@pytest.mark.parametrize("value", [0, 7])
def test_ids_of_the_store_are_not_read(value: int) -> None:
    past = sequences(APART, history=3).crop(0, 3)
    blind = replace(past, instance=torch.full_like(past.instance, value), track_state=None)
    ours, other = (next(iter(rollout(Components(3), p, 1))).semantic for p in (past, blind))
    assert torch.equal(ours, other)
