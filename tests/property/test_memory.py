"""What is remembered of the past: two seconds of it at any rate, and nobody for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forecast.live import Tracks
from forecast.loop import observed, rollout
from forecast.model.scene.agents import MEMORY, Agents
from forecast.types import BEVSequence
from tests.property.test_observe import hidden, sampled
from tests.support.sequences import forecaster, sequences
from tests.support.small_live import ego_at, live, tracks_at
from tests.support.stores import Mover

CAR = (Mover(0.0, 0.0, 0.0, 6.0), Mover(-8.0, -6.0, 1.5, 0.0))
LATE = (Mover(5.0, 3.0, 0.0, 4.0), Mover(-9.0, 6.0, 0.0, 2.0))


def at_rate(step_s: float, seconds: float, *scenes: tuple[Mover, ...]) -> BEVSequence:
    """Traffic as a tracker of some rate saw it."""
    count = round(seconds / step_s) + 1
    return sampled(sequences(scenes), count=count, step_s=step_s)


def memory_of(step_s: float) -> Agents:
    with torch.no_grad():
        state = observed(forecaster(trained=False), at_rate(step_s, 3.0, CAR).crop(0, 3))
    return state.agents


def test_of_a_tracker_at_10_hz_the_last_observations_are_remembered() -> None:
    time_s = memory_of(0.1).time_s[0]
    torch.testing.assert_close(time_s, torch.arange(1 - MEMORY, 1) * 0.1)


@pytest.mark.parametrize("step_s", [0.05, 0.02, 0.01])
def test_a_fast_tracker_is_remembered_for_as_long_as_a_slow_one(step_s: float) -> None:
    time_s = memory_of(step_s).time_s[0]
    assert len(time_s) == MEMORY
    assert float(time_s[-1]) == 0
    assert -2.3 < float(time_s[0]) < -1.9
    gaps = time_s.diff()
    assert bool((gaps > 0).all())
    assert float(gaps.max()) < 0.3


@pytest.mark.parametrize("step_s", [0.1, 0.05, 0.02])
def test_who_is_hidden_for_a_while_keeps_its_motion_at_any_rate(step_s: float) -> None:
    count = round(3.0 / step_s) + 1
    gone = slice(count - 1 - round(1.0 / step_s), count - 1)  # seen again at the present alone
    batch = hidden(at_rate(step_s, 3.0, CAR), 0, gone)
    with torch.no_grad():
        steps = list(rollout(forecaster(trained=False), batch.crop(0, 3), 2))
    x = torch.stack([step.pose[0, step.ids[0] == 1, 0] for step in steps]).flatten()
    torch.testing.assert_close(x, torch.tensor([3.0, 6.0]), atol=0.1, rtol=0)


@pytest.mark.parametrize("step_s", [0.1, 0.05, 0.02])
@pytest.mark.parametrize("before_s", [0.1, 0.5, 1.0, 1.7])
def test_who_was_seen_but_once_is_not_forgotten_at_any_rate(step_s: float, before_s: float) -> None:
    count = round(3.0 / step_s) + 1
    once = count - 1 - round(before_s / step_s)
    batch = hidden(at_rate(step_s, 3.0, CAR), 1, slice(once))
    batch = hidden(batch, 1, slice(once + 1, count))
    with torch.no_grad():
        state = observed(forecaster(trained=False), batch.crop(0, 3))
        step = next(rollout(forecaster(trained=False), batch.crop(0, 3), 1))
    assert step.ids[0].tolist() == [1, 2]
    assert float(state.agents.hidden_s[0, 1]) == pytest.approx(before_s, abs=step_s)


def test_a_slower_clock_in_the_batch_loses_no_sample_to_padding() -> None:
    fast, slow = at_rate(0.05, 2.0, CAR), at_rate(0.08, 2.0, CAR)
    assert fast.track_history is not None
    assert fast.sample_time is not None
    assert slow.track_history is not None
    assert slow.sample_time is not None
    more = fast.sample_time.shape[1] - slow.sample_time.shape[1]
    padded = torch.nn.functional.pad(slow.track_history, (0, 0, more, 0), value=torch.nan)
    time_s = torch.nn.functional.pad(slow.sample_time, (more, 0), value=torch.nan)
    both = at_rate(0.05, 2.0, CAR, CAR)
    both = replace(
        both,
        track_history=torch.cat((fast.track_history, padded)),
        sample_time=torch.cat((fast.sample_time, time_s)),
    )
    model = forecaster(trained=False)
    with torch.no_grad():
        alone = observed(model, slow.crop(0, 3)).agents
        beside = observed(model, both.crop(0, 3)).agents
    seen_s = [one.time_s[-1][one.seen[-1, 0]] for one in (alone, beside)]
    torch.testing.assert_close(seen_s[1], seen_s[0])


@pytest.mark.parametrize("step_s", [0.05, 0.02])
def test_newcomers_of_another_sequence_make_nobody_forgotten(step_s: float) -> None:
    both = at_rate(step_s, 3.0, CAR, LATE)
    assert both.track_history is not None
    seen = both.track_history.clone()
    seen[0, 0, -round(1.6 / step_s) :] = torch.nan
    seen[1, 1, :-3] = torch.nan
    alone = replace(at_rate(step_s, 3.0, CAR), track_history=seen[:1])
    model = forecaster(trained=False)
    with torch.no_grad():
        one = next(rollout(model, alone.crop(0, 3), 1))
        two = next(rollout(model, replace(both, track_history=seen).crop(0, 3), 1))
    assert one.ids[0].tolist() == two.ids[0].tolist() == [1, 2]
    torch.testing.assert_close(one.existence[0], two.existence[0])


@pytest.mark.parametrize("step_s", [0.25, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("kind", ["tracked", "without raster", "constant-turn"])
def test_who_has_gone_is_no_longer_forecast_by_a_live_forecaster(kind: str, step_s: float) -> None:
    model = live(kind)
    for k in range(round(3.5 / step_s) + 1):
        time_s = k * step_s
        tracks = tracks_at(time_s)
        if time_s > 1.0:
            tracks = tracks_at(time_s, {"car": Mover(4.0, 3.0, 0.0, 6.0)})
        model.observe(time_s, ego_pose=ego_at(time_s), tracks=tracks)
        if time_s > 2.5:
            found = set(model.forecast(1).ids)
            assert "car" in found
            assert found == {"car"} or time_s <= 3.0 + step_s
    model.observe(time_s + step_s, ego_pose=ego_at(time_s), tracks=Tracks.none())
    assert len(model.forecast(1).ids) <= 1
