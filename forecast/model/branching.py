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
from forecast.model.noise import Noise, by_realization, draw
from forecast.model.scene import se2
from forecast.model.scene.overlap import overlapping
from forecast.model.state import ForecastState, SlotStep
from forecast.types import (
    Draws,
    Observation,
    RealizationStep,
    SceneContext,
    StepForecast,
    map_tensors,
)

# Slower ones (metres per step) and larger turns per step than these do not come from noise.
LEAST_WAY_M = 0.25
MOST_TURN = 0.3


@dataclass(frozen=True)
class Perturbation:
    """How strong the noise is (docs/history/realizations.md has what was tried).

    Attributes:
        ahead: Standard deviation ahead, as a multiple of the expected error.
        aside: The same aside.
        common: Share of the numbers' variance that all agents of a scene have in common.
        gives_way: Whether an agent that would drive into another one stops instead.
    """

    ahead: float = 1.5
    aside: float = 0.5
    common: float = 0.0
    gives_way: bool = True


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
        perturbation: How strong the noise is.
    """

    def __init__(
        self, model: Forecaster | Detecting, perturbation: Perturbation | None = None
    ) -> None:
        self.reader, self.perturbation = model, perturbation or Perturbation()
        self.model = model if isinstance(model, Forecaster) else model.model

    @property
    def reads_tracks(self) -> bool:
        """As the forecaster."""
        return self.reader.reads_tracks

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
        ahead = self._ahead(state)
        count = len(draws.realizations)
        noise = draw(draws, ahead.agents.live, 2, self.perturbation.common)
        scenes: ForecastState = map_tensors(ahead, lambda x: x.repeat_interleave(count, 0))
        none = torch.zeros_like(scenes.pose[..., :2])
        return Branches(count, scenes, noise, scenes.agents.live, none, none)

    def _ahead(self, state: ForecastState | DetectingState) -> ForecastState:
        """The state turned from observing to forecasting."""
        if isinstance(state, ForecastState):
            return state if state.ahead else self.model.look_ahead(state)
        assert isinstance(self.reader, Detecting)
        return state.forecast if state.forecast.ahead else self.reader.look_ahead(state)

    def step_branches(
        self, branches: Branches, dt_s: float, masks: bool = False
    ) -> tuple[Branches, RealizationStep]:
        """One step of all: as forecast from where they are, then displaced."""
        state, slots = self.model.advance(branches.state, dt_s)
        there = branches.there & (branches.noise.chance < slots.existence.sigmoid())
        after = _displaced(replace(branches, state=state, there=there), slots, self.perturbation)
        if self.perturbation.gives_way:
            after = _given_way(after, slots.before)
        pose = torch.where(there[..., None], after.state.pose, torch.nan)
        instance = None
        if masks:
            seen = replace(
                slots, pose=after.state.pose, existence=torch.where(there, torch.inf, -torch.inf)
            )
            instance = by_realization(self.model.draw(after.state, seen).instance, after.count)
        agents = slots.agents
        return after, RealizationStep(
            ids=agents.ids[:: after.count],
            label=agents.label[:: after.count],
            pose=by_realization(pose, after.count),
            instance=instance,
        )


def _displaced(branches: Branches, slots: SlotStep, strength: Perturbation) -> Branches:
    """The realizations after a step, with every agent led away from where it was forecast."""
    state = branches.state
    moves = slots.moving > 0
    times = slots.pose.new_tensor([strength.ahead, strength.aside])
    wanted = branches.noise.normal * slots.uncertainty * times
    carried = torch.where(moves[..., None], branches.carried, 0.0)
    # Who is forecast to stand is not led any further.
    ahead, aside = ((wanted - branches.displaced - carried) * moves[..., None]).unbind(-1)
    # Noise stops a moving agent; it does not push it into reverse.
    way = state.twist[..., 0]
    ahead = torch.where(moves & (way >= 0), torch.maximum(ahead, -way), ahead)
    # It goes aside by turning, not by sliding.
    driven = (way + ahead).abs()
    turn = torch.where(driven > LEAST_WAY_M, aside / driven.clamp(min=LEAST_WAY_M), 0.0)
    turn = turn.clamp(-MOST_TURN, MOST_TURN)
    aside = turn * driven
    # An agent that is not displaced keeps its pose bit for bit: headings are not wrapped again.
    heading = state.pose[..., 2]
    heading = torch.where(turn == 0, heading, se2.wrap(heading + turn))
    shift = torch.stack((ahead, aside), -1)
    pose = torch.cat((se2.apply(state.pose, shift), heading[..., None]), -1)
    twist = torch.cat((state.twist[..., :1] + shift[..., :1], state.twist[..., 1:]), -1)
    return replace(
        branches,
        state=replace(state, pose=pose, twist=twist),
        displaced=branches.displaced + carried + shift,
        carried=carried + shift,
    )


def _given_way(branches: Branches, before: Float[Tensor, "s a 3"]) -> Branches:
    """The same, but an agent that would have driven into another one stays where it was.

    Of two it is the one that runs into the other with its front. What it is displaced by is then
    what it wanted to be: it does not hurry after what it has lost.
    """
    state, agents, there = branches.state, branches.state.agents, branches.there
    hits = overlapping(state.pose, agents.size, there)
    hits = hits & ~overlapping(before, agents.size, there)
    other = se2.unapply(state.pose[:, :, None], state.pose[:, None, :, :2])
    frontal = other[..., 0] / torch.linalg.vector_norm(other, dim=-1).clamp(min=1e-3)
    moved = (state.pose != before).any(-1)
    blamed = frontal >= frontal.transpose(1, 2)
    stops = moved & (hits & (blamed | ~moved[:, None])).any(-1)
    held = stops[..., None]
    return replace(
        branches,
        state=replace(
            state,
            pose=torch.where(held, before, state.pose),
            twist=torch.where(held, 0.0, state.twist),
        ),
        carried=torch.where(held, 0.0, branches.carried),
    )
