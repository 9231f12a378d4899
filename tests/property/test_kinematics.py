"""Where agents go: the physics of the baselines, and of the forecaster that starts from it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from forecast.grid import BEVGrid
from forecast.loop import observed
from forecast.model.baselines import Baseline
from forecast.model.heads import RESIDUAL_SCALE
from forecast.model.learned_horizon import LearnedHorizon
from tests.support.rollouts import VARIANTS, run
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import GRID, Mover


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("name", ["constant-velocity", "constant-turn"])
def test_an_agent_that_moves_one_cell_a_step_has_exact_centroids(
    name: str, with_boxes: bool
) -> None:
    batch = sequences([[Mover(0.25, 0.25, 0.0, speed=1.0, length=3.5, width=1.5)]])
    if not with_boxes:
        batch = replace(batch, track_state=None, track_class=None)
    for step in run(Baseline(name, 3), batch, 6):  # type: ignore[arg-type]
        rows, columns = (step.instance[0] == 1).nonzero(as_tuple=True)
        x, y = torch.as_tensor(GRID.x_m)[columns], torch.as_tensor(GRID.y_m)[rows]
        assert x.mean() == pytest.approx(0.25 + 0.5 * step.lead)
        assert y.mean() == pytest.approx(0.25)
        assert torch.equal(step.instance, batch.instance[:, 2 + step.lead])


def test_persistence_repeats_the_present_masks() -> None:
    batch = sequences(TRAFFIC)
    for data in (batch, replace(batch, track_state=None, track_class=None)):
        for step in run(Baseline("persistence", 3), data, 2):
            assert torch.equal(step.instance, batch.instance[:, 2])
            assert torch.equal(step.semantic, batch.semantic[:, 2])
            assert step.flow.abs().max() < 1e-5  # metres; there and back rounds


def test_constant_turn_is_exact_for_agents_that_turn_at_constant_rate() -> None:
    batch = sequences(TRAFFIC)
    assert batch.track_state is not None
    for step in run(Baseline("constant-turn", 3), batch, 6):
        live = step.ids > 0
        truth = batch.track_state[:, : step.ids.shape[1], 2 + step.lead, :3]
        torch.testing.assert_close(step.pose[live], truth[live], atol=1e-4, rtol=0)


def test_who_stops_starts_again_without_a_push() -> None:
    model = forecaster(trained=False).eval()
    state = observed(model, sequences([[Mover(0.0, 0.0, speed=4.0)]]).crop(0, 3))
    torch.nn.init.constant_(model.motion_head.moving[-1].bias, -9.0)
    with torch.inference_mode():
        stopped, _ = model.advance(state, 0.5)
    assert not stopped.twist.any()
    assert not stopped.acceleration.any()


@pytest.mark.parametrize(
    ("first", "ahead"),
    [(1.5, [2.5, 5.5, 9.0]), (3.5, [0.5, 0.5, 0.5]), (2.0, [2.0, 4.0, 6.0])],
)
def test_constant_acceleration_gains_speed_or_brakes_to_a_stop(
    first: float, ahead: list[float]
) -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0)]])  # 2 m in the last step
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 0, 0, 0] = -2.0 - first
    steps = run(Baseline("constant-acceleration", 3), replace(batch, track_state=state), 3)
    assert [float(step.pose[0, 0, 0]) for step in steps] == pytest.approx(ahead, abs=1e-4)


def test_an_acceleration_that_persists_is_carried_to_every_step() -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0)]])
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 0, 0, 0] += 0.5  # 1.5 m, then 2 m: half a metre more in each step
    model = forecaster(trained=False, learned_gain=False).eval()  # the last motion as it was seen
    torch.nn.init.ones_(model.motion_head.persistence[-1].bias)
    steps = run(model, replace(batch, track_state=state), 3)
    ahead = [float(forecast.pose[0, 0, 0]) for forecast in steps]
    assert ahead == pytest.approx([2.5, 5.5, 9.0], abs=1e-4)


def test_nobody_is_braked_into_reverse() -> None:
    model = forecaster(trained=False).eval()
    change = torch.tensor([-1.5 / RESIDUAL_SCALE[0], 0.0, 0.0])  # every step 1.5 m shorter
    model.motion_head.residual[-1].bias = torch.nn.Parameter(change)
    steps = run(model, sequences([[Mover(-10.0, 0.0, speed=8.0)]]), 3)
    ahead = [float(forecast.pose[0, 0, 0]) for forecast in steps]
    assert ahead == pytest.approx([-7.5, -6.5, -6.5], abs=1e-3)


def test_a_quarter_turn_on_a_grid_that_is_not_square() -> None:
    grid = BEVGrid(-20.0, 40.0, -10.0, 30.0, 0.5)
    turner = Mover(0.0, 0.0, 0.0, speed=8.0, turn_rate=math.pi / 6)  # 90 degrees in 3 s
    last = run(Baseline("constant-turn", 3), sequences([[turner]], grid), 6)[-1]
    radius = 8.0 / (math.pi / 6)
    expected = torch.tensor([radius, radius, math.pi / 2])
    torch.testing.assert_close(last.pose[0, 0], expected, atol=1e-3, rtol=0)
    rows, columns = (last.instance[0] == 1).nonzero(as_tuple=True)
    assert len(rows) * 0.25 == pytest.approx(4.5 * 2.0, rel=0.2)
    assert rows.max() - rows.min() > columns.max() - columns.min()  # it now points along +y


@pytest.mark.parametrize("changes", [{}, {"raster": "none"}, *VARIANTS.values()])
def test_an_untrained_forecaster_is_constant_turn(changes: dict[str, Any]) -> None:
    batch = sequences(TRAFFIC)
    learned = run(forecaster(trained=False, **changes), batch, 6)
    for ours, theirs in zip(learned, run(Baseline("constant-turn", 3), batch, 6), strict=True):
        assert torch.equal(ours.instance, theirs.instance)
        assert torch.equal(ours.semantic, theirs.semantic)
        torch.testing.assert_close(ours.pose, theirs.pose, equal_nan=True, atol=3e-5, rtol=0)
        torch.testing.assert_close(ours.flow, theirs.flow, atol=3e-5, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"query_interaction": False}, {"update_query_pos": True}])
def test_queries_beyond_the_learned_horizon_stay_as_they_were(changes: dict[str, Any]) -> None:
    model = forecaster(**changes)
    model.learned_horizon = LearnedHorizon(1.5)
    state, contents = model.look_ahead(observed(model, sequences(TRAFFIC).crop(0, 3))), []
    with torch.inference_mode():
        for _ in range(5):
            contents.append(state.query)
            state, _ = model.advance(state, 0.5)
    assert not torch.equal(contents[1], contents[2])
    assert torch.equal(contents[2], contents[3])
    assert torch.equal(contents[2], contents[4])


def test_agents_turn_as_far_as_the_learned_horizon_and_go_straight_on_beyond() -> None:
    model = forecaster(trained=False)
    model.learned_horizon = LearnedHorizon(1.5)
    bend = sequences([[Mover(-5.0, 0.0, 0.0, speed=3.0, turn_rate=0.2)]])
    headings = torch.stack([step.pose[0, 0, 2] for step in run(model, bend, 5)])
    turned = headings.diff(prepend=torch.zeros(1))
    torch.testing.assert_close(turned, torch.tensor([0.1, 0.1, 0.1, 0.0, 0.0]))


def test_ids_persist_and_flow_points_back_to_where_the_content_was() -> None:
    batch = sequences([[Mover(0.25, 0.25, 0.0, speed=2.0)]])
    for step in run(forecaster(trained=False), batch, 3):
        assert step.ids.tolist() == [[1]]
        inside = step.instance[0] == 1
        torch.testing.assert_close(
            step.flow[0][:, inside].mean(1), torch.tensor([-1.0, 0.0]), atol=1e-5, rtol=0
        )
