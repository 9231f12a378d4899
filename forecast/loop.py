"""The one loop: from a short history to any number of future steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from forecast.errors import ConfigError
from forecast.types import BEVSequence, StepForecast

State = TypeVar("State")
Step = TypeVar("Step", covariant=True)


class StepModel(Protocol[State, Step]):
    """A forecaster seen from outside: it reads the past once, then steps.

    ``Step`` is ``StepForecast`` for users; training steps without drawing.
    """

    def start(self, history: BEVSequence) -> State:
        """The state at the present; ``history`` ends there."""
        ...

    def step(self, state: State) -> tuple[State, Step]:
        """The next state and what it looks like; changes nothing."""
        ...


def rollout(model: StepModel[Any, Step], history: BEVSequence, horizon: int) -> Iterator[Step]:
    """Forecasts leads 1 to ``horizon`` one by one; memory does not grow with the horizon.

    Args:
        model: The learned forecaster or a baseline.
        history: Frames up to and including the present, and no others.
        horizon: Number of steps, at least 1.

    Raises:
        ConfigError: The horizon is below 1.
    """
    if horizon < 1:
        raise ConfigError("a horizon of at least 1 step", str(horizon), "raise --horizon")
    state = model.start(history)
    for _ in range(horizon):
        state, forecast = model.step(state)
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
    for lead in range(1, horizon + 1):
        # Another present than that of track_history: all leads start from the frames alone.
        seen = replace(sequence, track_history=None, sample_time=None)
        state = model.start(seen.crop(lead - 1, lead - 1 + history))
        yield replace(model.step(state)[1], lead=lead)
