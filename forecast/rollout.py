"""The one loop: from a short history to any number of future steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from forecast.errors import ConfigError
from forecast.types import BEVSequence

State = TypeVar("State")
Step = TypeVar("Step", covariant=True)


class StepModel(Protocol[State, Step]):
    """A forecaster seen from outside: it reads the past once, then steps.

    ``Step`` is ``StepForecast`` for users; training steps without painting.
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
