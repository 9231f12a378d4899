"""The forecaster on fixed slots, behind its host, says what the forecaster itself says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from forecast.export.host import HostForecaster
from forecast.export.layout import Layout
from forecast.export.parity import compare, differences_of, observe_arguments, observe_history
from forecast.export.slots import SlotForecaster
from forecast.export.write import _levels, in_torch
from forecast.loop import observed
from forecast.model.forecaster import Forecaster
from forecast.observations import observations, scene_context
from forecast.types import BEVSequence
from tests.property.test_memory import at_rate
from tests.support.moments import drawn, seen_from
from tests.support.sequences import INPUTS, forecaster, sequences
from tests.support.stores import GRID, Mover

SCENE = [
    Mover(0.0, 0.0, speed=5.0, turn_rate=0.1),
    Mover(8.0, 3.0, 1.0),
    Mover(-6.0, -4.0, 2.0, speed=3.0),
    Mover(4.0, -5.0, 0.3, 1.2, length=0.8, width=0.8, label=2),
]


def hosted(model: Forecaster, slots: int = 6, points: int = 24) -> HostForecaster:
    layout = Layout(model.spec, INPUTS, GRID, slots, points, _levels(model, GRID))
    return in_torch(SlotForecaster(model), layout)


def history_of(movers: list[Mover], **options: object) -> BEVSequence:
    return sequences([movers], **options).crop(0, 3)


@pytest.mark.parametrize("raster", ["always", "detection", "none"])
@pytest.mark.parametrize("lanes", [True, False])
def test_says_what_the_forecaster_says(raster: str, lanes: bool) -> None:
    model = forecaster(raster=raster)

    largest = compare(hosted(model), model, [history_of(SCENE, lanes=lanes)], horizon=8)

    assert largest.pop("instance_cells") == largest.pop("semantic_cells") == 0
    assert max(largest.values()) < 1e-4


def test_query_pos_of_qim_is_state() -> None:
    model = forecaster(update_query_pos=True)

    assert max(compare(hosted(model), model, [history_of(SCENE)], horizon=4).values()) < 1e-4


def test_newcomers_are_drawn() -> None:
    model = forecaster()
    with torch.no_grad():
        model.newcomer_head.logits.bias.fill_(-1.0)
    host, history = hosted(model), history_of(SCENE)

    largest = compare(host, model, [history], horizon=7)

    assert largest["occupancy"] < 1e-4
    assert next(host.forecast(1, 0.5, draw=True))["occupancy"].min() > 0.01


def test_a_weight_of_another_value_is_noticed() -> None:
    model = forecaster()
    host = hosted(model)
    with torch.no_grad():
        model.motion_head.residual[-1].bias.add_(0.1)

    assert compare(host, model, [history_of(SCENE)], horizon=2)["pose_m"] > 0.01


def test_agents_come_and_go() -> None:
    model, history = forecaster(), history_of(SCENE)
    state = history.track_state.clone()
    state[:, 0, 1:] = torch.nan  # leaves
    state[:, 1, :2] = torch.nan  # comes
    state[:, 2, 1] = torch.nan  # is hidden for a moment

    found = compare(hosted(model), model, [replace(history, track_state=state)], horizon=3)

    assert max(found.values()) < 1e-4


@pytest.mark.parametrize("step_s", [0.1, 0.05, 0.02])
def test_the_past_of_a_fast_tracker_is_remembered_alike(step_s: float) -> None:
    """For longer than is remembered; one agent is hidden for a while, and one goes for good."""
    model = forecaster()
    history = at_rate(step_s, 3.0, tuple(SCENE)).crop(0, 3)
    assert history.track_history is not None
    seen, second = history.track_history.clone(), round(1 / step_s)
    seen[0, 0, -second:-1], seen[0, 2, -round(2.5 * second) :] = torch.nan, torch.nan

    host = hosted(model)
    largest = compare(host, model, [replace(history, track_history=seen)], horizon=2)

    assert max(largest.values()) < 1e-3
    assert set(next(host.forecast(1, 0.5))["id"]) == {0, 1, 2, 4}


def test_of_too_many_agents_the_nearest_are_kept() -> None:
    model, history = forecaster(), history_of(SCENE)
    host = hosted(model, slots=2)

    found = compare(host, model, [history], horizon=2)

    assert max(found.values()) < 1e-4
    assert host.left_out == 2
    assert model.spec.slots == 256  # as before


@pytest.mark.parametrize("reads", [True, False], ids=["with rasters", "tracks alone"])
def test_an_ego_that_carries_the_frame_along(reads: bool) -> None:
    model, history = forecaster(), history_of(SCENE)
    host = hosted(model)
    moved = torch.tensor([[0.2, 0.1, 0.05]])  # parts of a cell
    observe_history(host, history)
    state = observed(model, history)
    frame = list(observations(history))[-1]
    for _ in range(4):
        frame = replace(seen_from(frame, moved), time_s=frame.time_s + 0.1)
        frame = drawn(frame, GRID) if reads else replace(frame, semantic=None, instance=None)

        host.observe(**observe_arguments(frame))
        with torch.inference_mode():
            state = model.observe(state, frame)

    with torch.inference_mode():
        for exported in host.forecast(3, 0.2, draw=True):
            state, own = model.step(state, 0.2)

            assert max(differences_of(own, exported).values()) < 1e-3


def test_observing_goes_on_after_forecasting() -> None:
    model = forecaster()
    host, twice = hosted(model), hosted(model)
    frames = list(observations(history_of(SCENE)))
    for one in (host, twice):
        one.start()
    for frame in frames:
        host.observe(**observe_arguments(frame))
        twice.observe(**observe_arguments(frame))
        list(twice.forecast(2, 0.5))

    ahead, again = (list(one.forecast(2, 0.5)) for one in (host, twice))

    np.testing.assert_array_equal(ahead[1]["pose"], again[1]["pose"])


def test_the_context_is_that_of_the_forecaster() -> None:
    model, history = forecaster(), history_of(SCENE)
    host = hosted(model)
    observe_history(host, history)
    own = model.start(scene_context(history)).context.points[0].numpy()

    kept = host.state["lane_point"][0]

    kept = kept[np.isfinite(kept).all(1)]
    assert {tuple(point) for point in kept} == {tuple(point) for point in own}
