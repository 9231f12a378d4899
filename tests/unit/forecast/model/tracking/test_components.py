"""The classical stack for rasters without ids: components, linked from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forecast.errors import DataError
from forecast.inference.models import load_model
from forecast.loop import observed, rollout
from forecast.model.baselines import Baseline, Components
from forecast.model.detected_input import Detecting
from forecast.model.scene import se2
from forecast.model.tracking.components import Parts, link_components
from forecast.model.tracking.tracks import Tracks
from forecast.observations import observations, scene_context
from forecast.types import BEVSequence
from tests.support.rollouts import detecting
from tests.support.sequences import forecaster, sequences, some_tracks
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


def past_of(scene: tuple[tuple[Mover, ...], ...] = APART) -> BEVSequence:
    return sequences(scene, history=3).crop(0, 3)


def linked(
    semantic: Tensor,
    times: tuple[float, ...] | None = None,
    most: int = 99,
    tracked: Tensor | None = None,
    tracks: tuple[Tracks, ...] = (),
) -> tuple[Tensor, list[Tracks]]:
    """Label maps of the frames of one sequence, and its tracks after each; those with cells live.

    Args:
        semantic: ``(1, t, h, w)``.
        times: Of the frames; None = half a second apart.
        most: Largest components that get an id.
        tracked: Label maps of tracks; None = there are none.
        tracks: The tracks of each frame, where they are not those with cells in it.
    """
    times = times or tuple(0.5 * index for index in range(semantic.shape[1]))
    parts, agents, found = (Parts.none(),), dict[int, int](), []
    known: list[Tracks] = []
    for index, cells in enumerate(semantic.unbind(1)):
        labels = torch.zeros_like(cells) if tracked is None else tracked[:, index]
        now = tracks[index] if tracks else some_tracks(labels.unique()[None])
        agent = torch.tensor([[agents.get(i, 0) for i in now.ids[0].tolist()]])
        since_s = torch.tensor([times[index] - times[max(index - 1, 0)]])
        frame = link_components(
            parts, cells, since_s, GRID, most, replace(now, agent=agent), labels
        )
        known.append(replace(now, agent=frame.agent))
        agents = dict(zip(now.ids[0].tolist(), frame.agent[0].tolist(), strict=True))
        parts = frame.parts
        found.append(frame.instance)
    return torch.stack(found, 1), known


def assert_same_agents(found: Tensor, truth: Tensor) -> None:
    """The same cells are the same agent's, under whichever id."""
    pairs = {tuple(pair) for pair in torch.stack((found, truth), -1).view(-1, 2).tolist()}
    assert len(pairs) == len(found.unique()) == len(truth.unique())
    assert torch.equal(found > 0, truth > 0)


def classical(slots: int = 1024) -> Components:
    return Components(Baseline("constant-velocity", 3, slots))


def test_components_keep_their_ids_through_the_history() -> None:
    past = past_of()
    assert_same_agents(linked(past.semantic)[0], past.instance)


def test_classes_are_never_classical() -> None:
    here, there = (sequences(((Mover(0, 0, 0, 0, label=k),),), history=3) for k in (1, 2))
    semantic = torch.cat((here.semantic[:, :1], there.semantic[:, :1]), 1)
    found, _ = linked(semantic)
    assert set(found[:, 0].unique().tolist()) == {0, 1}
    assert set(found[:, 1].unique().tolist()) == {0, 2}


@pytest.mark.parametrize(("gap_s", "same"), [(0.5, False), (2.0, True)])
def test_a_jump_beyond_any_traffic_is_another_agent(gap_s: float, same: bool) -> None:
    near, far = (sequences(((Mover(x, 0, 0, 0),),), history=3) for x in (-12.0, 12.0))
    semantic = torch.cat((near.semantic[:, :1], far.semantic[:, :1]), 1)
    found, _ = linked(semantic, (0.0, gap_s))
    assert set(found[:, 1].unique().tolist()) == {0, 1 if same else 2}


def test_agents_that_leave_and_appear_are_no_error() -> None:
    semantic = past_of().semantic.clone()
    semantic[:, 1] = 0
    found, _ = linked(semantic)
    assert not found[:, 1].any()
    assert set(found[:, 0].unique().tolist()) == {0, 1, 2, 3, 4}
    assert set(found[:, 2].unique().tolist()) == {0, 5, 6, 7, 8}
    assert not linked(0 * semantic)[0].any()


def test_where_one_is_expected_depends_on_the_time_between_frames() -> None:
    """Ten metres a second: two metres in the first gap, six in the second; another stands."""
    places = ((-8.0,), (-6.0,), (0.0, -4.0))
    scenes = [sequences((tuple(Mover(x, 0.0, 0.0, 0.0, length=1.5) for x in xs),)) for xs in places]
    semantic = torch.stack([scene.semantic[:, 2] for scene in scenes], 1)
    found, _ = linked(semantic, (0.0, 0.2, 0.8))
    ahead, behind = scenes[2].instance[:, 2] == 1, scenes[2].instance[:, 2] == 2
    assert (found[:, 2][ahead] == 1).all()
    assert (found[:, 2][behind] == 2).all()
    even, _ = linked(semantic, (0.0, 0.2, 0.4))
    assert (even[:, 2][behind] == 1).all()


def test_clocks_that_stand_still_or_run_backwards_link_what_stands() -> None:
    semantic = past_of(((Mover(0.0, 0.0), Mover(8.0, 5.0)),)).semantic
    for times in ((0.0, 0.0, 0.0), (0.0, -1.0, -0.5)):
        assert set(linked(semantic, times)[0].unique().tolist()) == {0, 1, 2}


def test_of_a_noisy_raster_the_largest_components_are_kept() -> None:
    semantic = torch.zeros(1, 3, *GRID.shape, dtype=torch.long)
    semantic[..., ::2, ::2] = 1
    semantic[..., 10:14, 10:14] = 1
    found, _ = linked(semantic, most=5)
    assert all(len(frame.unique()) == 6 for frame in found[0])
    assert (found[..., 10:14, 10:14] == 1).all()
    assert (next(iter(rollout(classical(5), noisy(semantic), 1))).ids > 0).sum() == 5


def test_ids_are_given_out_in_turn_and_never_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live stack runs for hours: ids come again, but not while anybody has them."""
    monkeypatch.setattr("forecast.model.tracking.components.IDS", 3)
    semantic = torch.zeros(1, 40, *GRID.shape, dtype=torch.long)
    semantic[..., 10:14, 10:14] = 1  # one that stays, and others that come and go
    for frame in range(semantic.shape[1]):
        semantic[0, frame, 2 : 4 + frame % 3, 30 + 2 * (frame % 2) :: 8] = 1 + frame % 2
    found, _ = linked(semantic, most=9)
    assert int(found.max()) <= 3 + 4 * 9
    (stays,) = found[..., 10:14, 10:14].unique().tolist()
    others = found.clone()
    others[..., 10:14, 10:14] = 0
    assert not (others == stays).any()
    for frame in range(1, semantic.shape[1]):
        here, before = set(others[0, frame].unique().tolist()), others[0, frame - 1].unique()
        assert here & set(before.tolist()) == {0}  # classes alternate: nobody is linked
        assert len(here) > 3


def test_what_no_track_covers_gets_ids_of_its_own() -> None:
    past = past_of()
    tracked = torch.where(past.instance == 2, 7, 0)
    found, tracks = linked(past.semantic, tracked=tracked)
    assert_same_agents(found, past.instance)
    agent = dict(zip(tracks[-1].ids[0].tolist(), tracks[-1].agent[0].tolist(), strict=True))
    assert (found[past.instance == 2] == agent[7]).all()


def test_a_track_that_begins_late_takes_over_whoever_was_where_it_comes_from() -> None:
    past = past_of()
    tracked = past.instance.clone()
    tracked[:, :2][tracked[:, :2] == 1] = 0  # not found before the present
    tracked[:, 0][tracked[:, 0] == 2] = 9  # another track had it
    assert_same_agents(linked(past.semantic, tracked=tracked)[0], past.instance)


def test_a_component_goes_on_where_its_track_has_ended() -> None:
    past = past_of()
    tracked = past.instance.clone()
    tracked[:, 2] = 0
    assert_same_agents(linked(past.semantic, tracked=tracked)[0], past.instance)


def test_a_track_is_believed_whatever_lies_nearer() -> None:
    past = past_of()
    swapped = past.instance.clone()
    swapped[:, 2] = torch.tensor([0, 2, 1, 3, 4])[past.instance[:, 2]]
    assert_same_agents(linked(past.semantic, tracked=swapped)[0], swapped)


def hidden_for_a_frame(missed: int) -> tuple[Tensor, Tensor]:
    """One is not there in the second frame, but another, of its class, comes two metres beside it.

    Args:
        missed: Whether its track is not seen then, or is believed to be where it is not.

    Returns:
        The tracks' label maps, and what linking makes of them.
    """
    past = past_of()
    tracked, semantic = past.instance.clone(), past.semantic.clone()
    hidden = tracked[:, 1] == 1
    tracked[:, 1][hidden] = 0
    semantic[:, 1][hidden] = 0
    near = (torch.arange(GRID.shape[1]) + 4) % GRID.shape[1]
    tracked[:, 1:][past.instance[:, 1:, :, near] == 1] = 9
    semantic[tracked > 0] = past.semantic.max()
    ids = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 4, 9]])
    unseen = torch.tensor([[missed, 0, 0, 0, 0]])
    tracks = some_tracks(ids[0]), replace(some_tracks(ids[1]), missed=unseen), some_tracks(ids[1])
    return tracked, linked(semantic, tracked=tracked, tracks=tracks)[0]


def test_a_track_that_is_not_seen_keeps_its_agent_from_whoever_is_near() -> None:
    tracked, found = hidden_for_a_frame(missed=1)
    assert found[tracked == 1].unique().tolist() == [1]
    (other,) = found[tracked == 9].unique().tolist()
    assert other > 4


def test_a_track_that_is_seen_where_no_cell_is_loses_its_agent_to_the_cells() -> None:
    tracked, found = hidden_for_a_frame(missed=0)
    assert found[:, 0][tracked[:, 0] == 1].unique().tolist() == [1]
    assert found[tracked == 9].unique().tolist() == [1]
    (other,) = found[:, 2][tracked[:, 2] == 1].unique().tolist()
    assert other > 4  # what it is found to be then is another


def test_a_track_without_cells_tells_no_component_what_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past = past_of()
    torch.manual_seed(0)
    model = forecaster(birth_threshold=1e-6, track_threshold=1e-6)
    monkeypatch.setattr("forecast.model.detected_input.segment", lambda semantic, *_: 0 * semantic)
    detecting = Detecting(model)
    with torch.no_grad():
        state = observed(detecting, past)
        assert (state.tracks.ids > 0).any()
        assert not state.tracks.agent.any()
        told = detecting.look_ahead(state).query - model.look_ahead(state.forecast).query
        nothing = model.track_encoder(torch.zeros_like(told))
    torch.testing.assert_close(told, nothing)
    assert state.forecast.agents.live.sum() == len(APART[0])


def in_two_frames(model: Any) -> tuple[Any, Any, float]:
    """States at the present, seen from the ego frame of before and from one that has moved on."""
    past = past_of()
    *before, last = observations(past)
    cells = 6  # a grid that has moved by whole cells shows the same ones
    by = cells * GRID.resolution_m
    assert last.semantic is not None
    other = torch.roll(last.semantic, -cells, -1)
    other[..., -cells:] = 0
    moved = replace(last, semantic=other, moved=torch.tensor([[by, 0.0, 0.0]]))
    state = model.start(scene_context(past))
    with torch.inference_mode():
        for frame in before:
            state = model.observe(state, frame)
        return model.observe(state, last), model.observe(state, moved), by


def test_in_another_frame_the_same_components_are_the_same_agents() -> None:
    # Where nobody is born, all are components.
    alone = Detecting(forecaster(trained=False, birth_threshold=0.999))
    for model in (classical(), alone):
        own, other, by = in_two_frames(model)
        ours, theirs = own.parts[0], other.parts[0]
        assert ours.agent.tolist() == theirs.agent.tolist()
        assert len(ours.agent) == len(APART[0])
        np.testing.assert_allclose(theirs.centre + np.array([by, 0.0]), ours.centre, atol=1e-6)
        np.testing.assert_allclose(theirs.velocity, ours.velocity, atol=1e-6)
        assert np.abs(ours.velocity).max() > 4.0
    back = se2.compose(torch.tensor([by, 0.0, 0.0]), other.forecast.pose)
    torch.testing.assert_close(back, own.forecast.pose, atol=1e-3, rtol=0)
    torch.testing.assert_close(other.forecast.twist, own.forecast.twist, atol=1e-3, rtol=0)


def test_parts_seen_from_a_turned_frame_are_where_they_were_in_the_world() -> None:
    (part,) = link_components(
        (Parts.none(),), past_of().semantic[:, 0], torch.zeros(1), GRID, 99
    ).parts
    part = replace(part, velocity=np.array([[1.0, 2.0]]).repeat(len(part.area), 0))
    moved = torch.tensor([2.0, -1.0, 0.7])
    seen = part.seen_from(moved)
    for ours, theirs in (
        (seen.centre, part.centre),
        (seen.centre + seen.velocity, part.centre + part.velocity),
    ):
        back = se2.apply(moved[None].double(), torch.as_tensor(ours))
        torch.testing.assert_close(back, torch.as_tensor(theirs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", [classical(), detecting()])
def test_a_frame_without_a_raster_tells_nothing_and_must_not_have_moved(model: Any) -> None:
    past = past_of()
    moment = replace(next(iter(observations(past))), semantic=None, instance=None)
    state = model.start(scene_context(past))
    assert model.observe(state, moment) is state
    with pytest.raises(DataError, match="a raster in every frame that has moved"):
        model.observe(state, replace(moment, moved=torch.ones(1, 3)))


def test_who_is_not_linked_any_more_is_forgotten() -> None:
    """Else the debris of noisy rasters would take the slots of others."""
    semantic = past_of().semantic.clone()
    semantic[:, 0, 2:5, 2:5] = 3  # seen once, and nobody of its class is there later
    found = Detecting(forecaster(trained=False, birth_threshold=0.999))
    with torch.inference_mode():
        first, second = (
            observed(classical(), noisy(semantic)),
            observed(found, noisy(semantic)),
        )
    for agents, parts in (
        (first.motion.agents, first.parts[0]),
        (second.forecast.agents, second.parts[0]),
    ):
        assert set(agents.ids[agents.live].tolist()) == set(parts.agent.tolist())
        assert agents.live.sum() == len(APART[0])


def noisy(semantic: Tensor) -> BEVSequence:
    return replace(sequences(APART, history=3).crop(0, 3), semantic=semantic)


@pytest.mark.parametrize("name", ["constant-velocity", "kalman"])
def test_where_components_are_the_agents_it_equals_the_baseline_of_their_masks(name: str) -> None:
    past = sequences(APART, history=3).crop(0, 3)
    masks = replace(past, track_state=None, track_class=None)
    hidden, known = load_model(name, input_mode="detected"), load_model(name)
    steps = zip(rollout(hidden, past, 3), rollout(known, masks, 3), strict=True)
    for ours, other in steps:
        assert torch.equal(ours.semantic, other.semantic)
        torch.testing.assert_close(ours.occupancy, other.occupancy)


@pytest.mark.parametrize("value", [0, 7])
def test_ids_of_the_store_are_not_read(value: int) -> None:
    past = sequences(APART, history=3).crop(0, 3)
    blind = replace(past, instance=torch.full_like(past.instance, value), track_state=None)
    ours, other = (next(iter(rollout(classical(), p, 1))).semantic for p in (past, blind))
    assert torch.equal(ours, other)
