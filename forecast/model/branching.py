"""Several futures of one present: the forecaster's rollout, driven by noise.

At every lead the forecaster says how large its error is expected to be. A realization takes that
error as having come true: every agent gets a number of its own, and is led away from the forecast
by this number times the expected error, as by an acceleration: what it is displaced by in one step
changes its speed and heading from then on. The next step is forecast from there. So other agents
read where it is and how it moves, and react.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from forecast.model.detected_input import Detecting, DetectingState
from forecast.model.forecaster import Forecaster
from forecast.model.noise import Noise, draw, laplace
from forecast.model.scene import se2
from forecast.model.state import ForecastState, SlotStep
from forecast.types import (
    Draws,
    Observation,
    RealizationStep,
    SceneContext,
    StepForecast,
    map_tensors,
)

# Largest number of an agent: beyond it a Laplace distribution is thinner than 1 in 400.
MOST_ERRORS = 6.0
# Share of the variance of these numbers that all agents of a scene have in common.
COMMON = 0.0
# Agents that are forecast to stand are displaced by this part of their expected error.
STILL = 0.2
# Slower ones (metres per step) and larger turns per step than these do not come from noise.
LEAST_WAY_M = 0.25
MOST_TURN = 0.3


@dataclass(frozen=True)
class Branches:
    """K realizations of B sequences as they are now; those of a sequence are neighbours.

    Attributes:
        count: K.
        state: Of all B x K scenes.
        noise: Their random numbers.
        there: Whether each agent is still there.
        displaced: How far each has been led away so far, metres ahead and aside.
        carried: How much further its own motion will carry it in the next step.
    """

    count: int
    state: ForecastState
    noise: Noise
    there: Bool[Tensor, "s a"]
    displaced: Float[Tensor, "s a 2"]
    carried: Float[Tensor, "s a 2"]


class Branching:
    """A forecaster whose future can branch: several realizations of it are stepped at a time.

    Args:
        model: The forecaster, of tracked or of detected input.
    """

    def __init__(self, model: Forecaster | Detecting) -> None:
        self.reader = model
        self.model = model if isinstance(model, Forecaster) else model.model

    def start(self, context: SceneContext) -> Any:
        """As the forecaster's."""
        return self.reader.start(context)

    def observe(self, state: Any, frame: Observation) -> Any:
        """As the forecaster's."""
        return self.reader.observe(state, frame)

    def step(self, state: Any, dt_s: float) -> tuple[Any, StepForecast]:
        """As the forecaster's: its one forecast."""
        return self.reader.step(state, dt_s)

    def branch(self, state: ForecastState | DetectingState, draws: Draws, dt_s: float) -> Branches:
        """The state repeated for some realizations, each with random numbers of its own."""
        if isinstance(state, DetectingState):
            ahead = state.forecast if state.forecast.ahead else self.reader.look_ahead(state)
        else:
            ahead = state if state.ahead else self.model.look_ahead(state)
        count = len(draws.realizations)
        noise = draw(draws, ahead.agents.live, 2, COMMON)
        scenes: ForecastState = map_tensors(ahead, lambda x: x.repeat_interleave(count, 0))
        none = torch.zeros_like(scenes.pose[..., :2])
        return Branches(count, scenes, noise, scenes.agents.live, none, none)

    def step_branches(
        self, branches: Branches, dt_s: float, masks: bool = False
    ) -> tuple[Branches, RealizationStep]:
        """One step of all: as forecast from where they are, then displaced."""
        state, slots = self.model.advance(branches.state, dt_s)
        there = branches.there & (branches.noise.chance < slots.existence.sigmoid())
        after = _displaced(replace(branches, state=state, there=there), slots)
        pose = torch.where(there[..., None], after.state.pose, torch.nan)
        instance = None
        if masks:
            seen = replace(
                slots, pose=after.state.pose, existence=torch.where(there, torch.inf, -torch.inf)
            )
            instance = _by_realization(self.model.draw(after.state, seen).instance, after.count)
        agents = slots.agents
        return after, RealizationStep(
            ids=agents.ids[:: after.count],
            label=agents.label[:: after.count],
            pose=_by_realization(pose, after.count),
            instance=instance,
        )


def _by_realization(scenes: Tensor, count: int) -> Tensor:
    return scenes.unflatten(0, (-1, count))


def _displaced(branches: Branches, slots: SlotStep) -> Branches:
    """The realizations after a step, with every agent led away from where it was forecast."""
    state = branches.state
    moves = (slots.moving > 0)[..., None]
    share = torch.where(moves, 1.0, STILL)
    wanted = laplace(branches.noise.normal, MOST_ERRORS) * slots.uncertainty * share
    shift = wanted - branches.displaced - branches.carried * moves
    way, (ahead, aside) = state.twist[..., 0], shift.unbind(-1)
    # Noise stops a moving agent; it does not push it into reverse.
    least = torch.where(way >= 0, -way, ahead)
    ahead = torch.where(moves[..., 0], torch.maximum(ahead, least), ahead)
    driven = (way + ahead).abs()
    steers = moves[..., 0] & (driven > LEAST_WAY_M)
    turn = torch.where(steers, aside / driven.clamp(min=LEAST_WAY_M), 0.0)
    turn = turn.clamp(-MOST_TURN, MOST_TURN)
    # An agent that is not displaced keeps its pose bit for bit: headings are not wrapped again.
    heading = state.pose[..., 2]
    heading = torch.where(turn == 0, heading, se2.wrap(heading + turn))
    place = se2.apply(state.pose, torch.stack((ahead, aside), -1))
    pose = torch.cat((place, heading[..., None]), -1)
    faster = torch.where(moves[..., 0], ahead, 0.0)
    twist = torch.cat((state.twist[..., :1] + faster[..., None], state.twist[..., 1:]), -1)
    rest = torch.where(moves, branches.carried, 0.0)
    return replace(
        branches,
        state=replace(state, pose=pose, twist=twist),
        displaced=branches.displaced + rest + torch.stack((ahead, aside), -1),
        carried=rest + torch.stack((faster, turn * driven), -1),
    )
