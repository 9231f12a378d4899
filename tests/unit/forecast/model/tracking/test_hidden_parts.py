"""Agents that rasters without ids miss: who comes back, and who is forecast unseen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forecast.loop import rollout
from forecast.model.detected_input import Detecting
from tests.support.sequences import forecaster, sequences
from tests.support.stores import Mover
from tests.unit.forecast.model.tracking.test_components import APART, linked, noisy, past_of


@pytest.mark.parametrize(("missed", "same"), [((2,), True), ((2, 3), True), ((1,), False)])
def test_whom_perception_misses_for_a_moment_is_the_same_agent_again(
    missed: tuple[int, ...], same: bool
) -> None:
    """But who was seen once before may have been debris."""
    semantic = sequences(APART, history=5).semantic[:, :5].clone()
    whole = linked(semantic)[0]
    semantic[:, list(missed)] = 0
    found = linked(semantic)[0]
    assert torch.equal(found[:, -1], whole[:, -1]) is same


def test_after_two_seconds_an_agent_that_is_not_seen_is_forgotten() -> None:
    semantic = past_of((APART[0][2:3],)).semantic  # it stands
    seen, unseen = semantic[:, :1], 0 * semantic[:, :1]
    frames = torch.cat((seen, seen, unseen, unseen, seen), 1)
    for times, number in (((0.0, 0.5, 1.0, 1.5, 2.0), 1), ((0.0, 0.5, 2.0, 4.0, 4.5), 2)):
        assert linked(frames, times)[0][:, -1].max() == number


def frames_of(*frames: tuple[tuple[float, float], ...]) -> Tensor:
    """Rasters in which cars stand at places, x and y."""
    shown = [tuple(Mover(x, y) for x, y in places) for places in frames]
    return torch.cat([sequences((each,), history=3).semantic[:, :1] for each in shown], 1)


def test_an_agent_that_is_hidden_takes_nobodys_place() -> None:
    """Neither that of a newcomer some metres away, nor that of one who was seen all the time."""
    here, away, new = (-8.0, 0.0), (8.0, 0.0), (0.0, 0.0)
    seen = frames_of((here, away), (here, away), (here,), (here,), (here, new))
    found = linked(seen)[0]
    first, last = (found[:, t].unique().tolist() for t in (0, -1))
    assert len(first) == len(last) == 3
    assert len(set(first) & set(last)) == 2  # the background, and who was here all the time
    back = linked(frames_of((here, away), (here, away), (here,), (here,), (here, away)))[0]
    assert back[:, -1].unique().tolist() == first


def test_hidden_agents_take_no_room_from_those_that_are_seen() -> None:
    """Of those that are hidden as many are remembered as there is room for, the latest first."""
    a, b, c = (-10.0, 0.0), (0.0, 0.0), (10.0, 0.0)
    seen = frames_of((a, b, c), (a, b, c), (b, c), (c,), (a, b, c))
    ids = linked(seen, most=3)[0]
    assert torch.equal(ids[:, -1], ids[:, 0])
    few = linked(seen, most=2)[0]  # the largest two, here the first two
    assert (few > 0).flatten(2).any(-1).all()
    assert len(few[:, -1].unique()) == 3


def test_whom_perception_misses_at_the_present_is_forecast_where_it_drives_to() -> None:
    past, model = past_of(), forecaster(trained=False)
    torch.nn.init.zeros_(model.fading)  # as sure of those that are hidden as of others
    semantic = past.semantic.clone()
    semantic[:, 2][past.instance[:, 2] == 1] = 0
    with torch.inference_mode():
        ours, whole = (
            next(iter(rollout(Detecting(model), seen, 1))) for seen in (noisy(semantic), past)
        )
    torch.testing.assert_close(ours.pose, whole.pose)
    drawn, there = ours.instance == 1, whole.instance == 1
    assert (drawn & there).sum() > 0.8 * (drawn | there).sum() > 0
