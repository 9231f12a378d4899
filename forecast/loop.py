"""The one loop: what was seen is observed moment by moment, then the future is stepped through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from forecast.errors import ConfigError
from forecast.observations import observations, scene_context
from forecast.types import BEVSequence, Observation, SceneContext, StepForecast

State = TypeVar("State")
Step = TypeVar("Step", covariant=True)


class StepModel(Protocol[State, Step]):
    """A forecaster seen from outside: it observes what happens, and steps into the future.

    ``Step`` is ``StepForecast`` for users; training steps without drawing.
    """

    def start(self, context: SceneContext) -> State:
        """The state before anything was seen: map and grid, and no agent."""
        ...

    def observe(self, state: State, frame: Observation) -> State:
        """The state after a moment was seen, any time after the one before; changes nothing."""
        ...

    def step(self, state: State, dt_s: float) -> tuple[State, Step]:
        """The state ``dt_s`` seconds later and what it looks like; changes nothing."""
        ...


def observed(model: StepModel[State, Any], history: BEVSequence) -> State:
    """The state at the present, after every moment of a history was observed in its order."""
    state = model.start(scene_context(history))
    for frame in observations(history):
        state = model.observe(state, frame)
    return state


def rollout(
    model: StepModel[Any, Step], history: BEVSequence, horizon: int, dt_s: float | None = None
) -> Iterator[Step]:
    """Forecasts leads 1 to ``horizon`` one by one; memory does not grow with the horizon.

    Args:
        model: The learned forecaster or a baseline.
        history: Frames up to and including the present, and no others.
        horizon: Number of steps, at least 1.
        dt_s: Seconds of a step; None = those between the frames of the history.

    Raises:
        ConfigError: The horizon is below 1.
    """
    if horizon < 1:
        raise ConfigError("a horizon of at least 1 step", str(horizon), "raise --horizon")
    state = observed(model, history)
    for _ in range(horizon):
        state, forecast = model.step(state, dt_s or history.dt_s)
        yield forecast


def teacher_forced(
    model: StepModel[Any, StepForecast], sequence: BEVSequence, history: int, horizon: int
) -> Iterator[StepForecast]:
    """Forecasts each lead as the first step from the true frames before it.

    It reads the future on purpose. What :func:`rollout` is worse by, it lost by feeding on its own
    forecasts; but agents that have come into sight since the present are forecast here too.

    Args:
        model: The learned forecaster or a baseline; the same one.
        sequence: Whole sequences: history, and the true frames up to ``horizon - 1`` at least.
        history: Frames up to and including the present.
        horizon: Number of leads, at least 1.

    Raises:
        ConfigError: The horizon is below 1, or the truth ends before its last start.

    Source:
        Williams and Zipser, A Learning Algorithm for Continually Running Fully Recurrent Neural
        Networks, Neural Computation 1989.
    """
    known = sequence.semantic.shape[1] - history + 1
    if not 1 <= horizon <= known:
        raise ConfigError(
            f"a horizon of 1 to {known} steps, as every lead starts from the true frames before it",
            str(horizon),
            "change --horizon, or leave --teacher-forced out",
        )
    # Another present than that of track_history: all leads start from the frames alone.
    frames = replace(sequence, track_history=None, sample_time=None)
    for lead in range(1, horizon + 1):
        state = observed(model, frames.crop(lead - 1, lead - 1 + history))
        yield replace(model.step(state, sequence.dt_s)[1], lead=lead)
