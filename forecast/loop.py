"""The one loop: what was seen is observed moment by moment, then the future is stepped through.

It is stepped through once (:func:`rollout`), or in several ways that it may go
(:func:`realizations`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch

from forecast.errors import ConfigError
from forecast.observations import observations, scene_context
from forecast.types import (
    BEVSequence,
    Draws,
    Observation,
    Realization,
    RealizationStep,
    SceneContext,
    StepForecast,
    without_tracks,
)

REALIZATIONS_AT_ONCE = 8
"""Realizations that are stepped together: memory does not grow with their number."""

State = TypeVar("State")
Branches = TypeVar("Branches")
Step = TypeVar("Step", covariant=True)


class StepModel(Protocol[State, Step]):
    """A forecaster seen from outside: it observes what happens, and steps into the future.

    ``Step`` is ``StepForecast`` for users; training steps without drawing.
    """

    @property
    def reads_tracks(self) -> bool:
        """Whether agents come as tracks; else they are found in rasters, and ids are not read."""
        ...

    def start(self, context: SceneContext) -> State:
        """The state before anything was seen: map and grid, and no agent."""
        ...

    def observe(self, state: State, frame: Observation) -> State:
        """The state after a moment was seen, any time after the one before; changes nothing."""
        ...

    def step(self, state: State, dt_s: float) -> tuple[State, Step]:
        """The state ``dt_s`` seconds later and what it looks like; changes nothing."""
        ...


class BranchingModel(StepModel[State, Step], Protocol[State, Step, Branches]):
    """A forecaster that knows how the future may go otherwise: its state can branch."""

    def branch(self, state: State, draws: Draws, dt_s: float) -> Branches:
        """The state repeated for some realizations, each with random numbers of its own."""
        ...

    def step_branches(
        self, branches: Branches, dt_s: float, masks: bool = False
    ) -> tuple[Branches, RealizationStep]:
        """All of them ``dt_s`` seconds later; with their masks, if these are asked for."""
        ...


def observed(model: StepModel[State, Any], history: BEVSequence) -> State:
    """The state at the present, after every moment of a history was observed in its order."""
    if not model.reads_tracks:  # rasters are observed at their own times, not at those of samples
        history = without_tracks(history)
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
    _check_horizon(horizon)
    yield from steps(model, observed(model, history), horizon, dt_s or history.dt_s)


def _check_horizon(horizon: int) -> None:
    if horizon < 1:
        raise ConfigError("a horizon of at least 1 step", str(horizon), "raise --horizon")


def steps(model: StepModel[State, Step], state: State, horizon: int, dt_s: float) -> Iterator[Step]:
    """The next steps from a state, one by one."""
    for _ in range(horizon):
        state, forecast = model.step(state, dt_s)
        yield forecast


def realizations(
    model: BranchingModel[Any, Any, Any],
    history: BEVSequence,
    horizon: int,
    count: int,
    seed: int = 0,
    *,
    first: int = 0,
    masks: bool = False,
    dt_s: float | None = None,
) -> Iterator[Realization]:
    """Several ways that the future may go, one by one; memory does not grow with their number.

    Each is one consistent scene: agents react to what the others do in it. All are equally likely.
    Realization n of a sequence is the same however many are made, and in whatever batch.

    Args:
        model: A learned forecaster of tracked or detected input, or a baseline that says how far
            it may be off: ``kalman`` or ``resampled-errors``.
        history: Frames up to and including the present, and no others.
        horizon: Number of steps, at least 1.
        count: How many realizations, at least 1.
        seed: Of the random numbers, at least 0.
        first: Place of the history's first sequence in its store: sequences of different places
            have different random numbers.
        masks: Whether masks are drawn too.
        dt_s: Seconds of a step; None = those between the frames of the history.

    Raises:
        ConfigError: A number is too small, or the model knows one future only.
    """
    _check_horizon(horizon)
    state = observed(model, history)
    yield from branches(
        model, state, horizon, dt_s or history.dt_s, Draws(seed, first, range(count)), masks
    )


def branches(
    model: BranchingModel[State, Any, Any],
    state: State,
    horizon: int,
    dt_s: float,
    draws: Draws,
    masks: bool = False,
) -> Iterator[Realization]:
    """The realizations of :func:`realizations` from a state that has observed a history."""
    if draws.seed < 0 or not draws.realizations:
        got = f"{len(draws.realizations)} with seed {draws.seed}"
        wanted = "at least one realization, with a seed of at least 0"
        raise ConfigError(wanted, got, "change count or seed")
    for start in range(0, len(draws.realizations), REALIZATIONS_AT_ONCE):
        part = draws.realizations[start : start + REALIZATIONS_AT_ONCE]
        now = model.branch(state, replace(draws, realizations=part), dt_s)
        leads = []
        for _ in range(horizon):
            now, step = model.step_branches(now, dt_s, masks)
            leads.append(step)
        pose = torch.stack([step.pose for step in leads], 2)
        drawn = [step.instance for step in leads if step.instance is not None]
        instance = torch.stack(drawn, 2) if drawn else None
        for index, number in enumerate(part):
            yield Realization(
                number=number,
                ids=leads[0].ids,
                label=leads[0].label,
                pose=pose[:, index],
                instance=None if instance is None else instance[:, index],
            )


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
