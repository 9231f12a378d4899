"""Forecasters that learn nothing, and that a learned one has to beat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.model.heads import LEAST_ERROR_M
from forecast.model.kalman import KalmanState, coast, follow, settle
from forecast.model.kalman_motion import KalmanNoise
from forecast.model.kalman_noise import noise_of_scene
from forecast.model.scene import se2
from forecast.model.scene.agent_motion import last_motion, least_radius, same_front
from forecast.model.scene.agents import Agents, associate, facing, present, seen_in, slots_of
from forecast.model.scene.rasterizer import rasterize
from forecast.model.spec import BaselineName
from forecast.model.tracking.components import Parts, link_components
from forecast.model.tracking.frames import has_raster, labelled, remembered
from forecast.types import Observation, SceneContext, StepForecast

COMPONENT_SLOTS = 1024


@dataclass(frozen=True)
class KinematicState:
    """Agents, where they are, the motion that they repeat and what each step adds to its length.

    Attributes:
        lead: Steps made.
        ahead: Whether it has turned from observing to forecasting.
        agents: As observed; once a step was made, those that are forecast.
        context: Grid of the scene.
        labels: The last label map of ids.
        pose: Pose now.
        motion: Of a step: a displacement in the present frame or a twist.
        gain: What each step adds to its length, metres.
        filtered: What the Kalman filter has made of everything that was observed.
        dt_s: Seconds of a step, once it forecasts.
    """

    lead: int
    ahead: bool
    agents: Agents
    context: SceneContext
    labels: Int[Tensor, "b h w"] | None
    pose: Float[Tensor, "b a 3"]
    motion: Float[Tensor, "b a 3"]
    gain: Float[Tensor, "b a"]
    filtered: KalmanState | None = None
    dt_s: float = 0.0


class Baseline:
    """Repeats nothing, the last displacement, or the last twist (constant speed and turn rate).

    With constant acceleration the last twist gains as much forward speed at every step as it did
    in the last one, until the agent stands. Motions are those of the last step's time, whatever the
    rate of the observations: shorter ones are mostly noise. ``kalman`` filters all observations of
    the last two seconds, with the noise that their scene seems to have, and goes on from there. No
    turn is narrower than the agent's length allows.

    Args:
        name: Which of them.
        classes: Number of classes in the data.
        slots: Most agents of one sequence.
        least_cell: Whether boxes are drawn as one cell at least.
    """

    reads_tracks = True

    def __init__(
        self,
        name: BaselineName,
        classes: int,
        slots: int = COMPONENT_SLOTS,
        least_cell: bool = False,
    ) -> None:
        self.name, self.least_cell = name, least_cell
        self.classes = classes
        self.slots = slots

    def start(self, context: SceneContext) -> KinematicState:
        """The state before anything was seen."""
        agents = Agents.none(context.map)
        none = agents.size.new_zeros(*agents.ids.shape, 3)
        return KinematicState(0, False, agents, context, None, none, none, none[..., 0])

    def observe(self, state: KinematicState, frame: Observation) -> KinematicState:
        """Remembers where the agents were seen."""
        agents, pose = state.agents, state.pose
        if frame.moved is not None:
            past = se2.between(frame.moved[:, None, None], agents.past)
            agents, pose = replace(agents, past=past), se2.between(frame.moved[:, None], pose)
        seen = seen_in(frame, state.context.grid)
        link = associate(agents, seen, self.slots)
        agents, pose, measured = (
            agents.linked(link, seen),
            link.carried(pose),
            link.shown(seen.pose),
        )
        if seen.long is not None:
            long = link.shown(seen.long)
            turn, measured = facing(agents, pose, measured, link.found, long)
        else:
            turn, measured = same_front(agents, pose, measured, link.found)
        agents = agents.turned(turn)
        pose = torch.where(link.found[..., None], measured, pose)
        return replace(
            state,
            agents=agents.observed(pose, link.found, frame.time_s),
            labels=state.labels if frame.instance is None else frame.instance,
            pose=pose,
        )

    def look_ahead(self, state: KinematicState, dt_s: float) -> KinematicState:
        """From observing to forecasting: those that were seen last, and how they move."""
        agents = state.agents
        # Where the last observations show no agent at all, they are late.
        latest = agents.last_seen.masked_fill(~agents.live, 0).amax(1, keepdim=True)
        here = agents.seen.any(-1) & (agents.last_seen == latest)
        agents, _ = present(agents, state.pose, here, state.labels, state.context.grid)
        state = replace(state, ahead=True, agents=agents, dt_s=dt_s)
        if self.name == "kalman":
            return _filtered(state)
        twist, acceleration = last_motion(agents, dt_s)
        pose, gain = agents.pose, torch.zeros_like(twist[..., 0])
        if self.name == "persistence":
            motion = torch.zeros_like(twist)
        elif self.name == "constant-velocity":
            # The displacement in the ego frame, without the turn.
            moved = se2.compose(pose, se2.exp(-twist))[..., :2]
            motion = torch.cat((pose[..., :2] - moved, torch.zeros_like(twist[..., :1])), -1)
        else:
            motion = twist
        if self.name == "constant-acceleration":
            gain = acceleration[..., 0]
        state = replace(state, pose=pose, motion=motion, gain=gain)
        late = agents.hidden_s[..., None] / dt_s
        return replace(state, pose=self._moved(replace(state, motion=motion * late)))

    def _moved(self, state: KinematicState) -> Float[Tensor, "b a 3"]:
        if self.name in ("persistence", "constant-velocity"):
            return state.pose + state.motion
        return se2.compose(state.pose, se2.exp(state.motion))

    @record_function("moving agents")
    def move(self, state: KinematicState, dt_s: float) -> KinematicState:
        """Moves every agent once; all steps of a rollout must be as long as the first."""
        if not state.ahead:
            state = self.look_ahead(state, dt_s)
        if state.filtered is not None:
            step_s = state.pose.new_full((len(state.pose),), dt_s)
            filtered = coast(state.filtered, step_s, KalmanNoise())
            return replace(state, lead=state.lead + 1, filtered=filtered, pose=filtered.pose)
        if self.name == "constant-acceleration":
            motion = state.motion
            ahead = motion[..., :1]
            # An agent that brakes comes to a stop, and does not turn on the spot.
            kept = ((ahead + state.gain[..., None]) * ahead > 0).to(ahead.dtype)
            motion = kept * torch.cat((ahead + state.gain[..., None], motion[..., 1:]), -1)
            state = replace(state, motion=motion)
        return replace(state, lead=state.lead + 1, pose=self._moved(state))

    @record_function("drawing")
    def step(self, state: KinematicState, dt_s: float) -> tuple[KinematicState, StepForecast]:
        """Moves every agent once and draws it."""
        if not state.ahead:
            state = self.look_ahead(state, dt_s)
        moved = self.move(state, dt_s)
        live = state.agents.live
        pose = moved.pose
        uncertainty = None
        if moved.filtered is not None:
            uncertainty = moved.filtered.uncertainty.clamp(min=LEAST_ERROR_M)
        rasters = rasterize(
            state.agents,
            pose,
            state.pose,
            live.to(pose.dtype),
            live,
            state.labels,
            state.context.grid,
            self.classes,
            least_cell=self.least_cell,
            uncertainty=uncertainty,
        )
        forecast = StepForecast(
            lead=moved.lead,
            ids=state.agents.ids,
            label=state.agents.label,
            pose=torch.where(live[..., None], pose, torch.nan),
            existence=live.to(pose.dtype),
            instance=rasters.instance,
            semantic=rasters.semantic,
            occupancy=rasters.occupancy,
            flow=rasters.flow,
            uncertainty=uncertainty,
        )
        return moved, forecast


def _filtered(state: KinematicState) -> KinematicState:
    """Where the Kalman filter takes the agents to be, and how they move."""
    agents = state.agents
    measured = torch.where(agents.seen[..., None], agents.past, torch.nan)
    noise = noise_of_scene(measured, agents.time_s)
    filtered = follow(measured, agents.time_s, noise)[0]
    filtered = settle(filtered, least_radius_m=least_radius(agents.size))
    none = torch.zeros_like(filtered.pose)
    return replace(state, pose=filtered.pose, motion=none, gain=none[..., 0], filtered=filtered)


@dataclass(frozen=True)
class ComponentState:
    """Agents that components were linked to, and the components of the last rasters."""

    motion: KinematicState
    parts: tuple[Parts, ...]


class Components:
    """Linked components that a baseline moves: the classical stack for rasters without ids.

    Args:
        motion: The baseline. Of more components than it has slots only the largest are forecast.
    """

    reads_tracks = False

    def __init__(self, motion: Baseline) -> None:
        self.motion = motion

    def start(self, context: SceneContext) -> ComponentState:
        """The state before anything was seen."""
        return ComponentState(self.motion.start(context), (Parts.none(),) * context.batch)

    @record_function("finding and tracking agents")
    def observe(self, state: ComponentState, frame: Observation) -> ComponentState:
        """Links the components of a raster to those before; ids and tracks are not read.

        A frame without a raster tells nothing.

        Raises:
            DataError: A frame has no raster, but another ego frame than the one before.
        """
        if not has_raster(frame):
            return state
        assert frame.semantic is not None
        motion, parts, slots = state.motion, state.parts, self.motion.slots
        if frame.moved is not None:
            moved = zip(parts, frame.moved, strict=True)
            parts = tuple(part.seen_from(by) for part, by in moved)
        since_s = motion.agents.since_last(frame.time_s)
        found = link_components(parts, frame.semantic, since_s, motion.context.grid, slots)
        agents, order = remembered(motion.agents, found.known)
        motion = replace(motion, agents=agents, pose=slots_of(motion.pose, order))
        motion = self.motion.observe(motion, labelled(frame, found.instance))
        return ComponentState(motion, found.parts)

    def step(self, state: ComponentState, dt_s: float) -> tuple[ComponentState, StepForecast]:
        """Moves every component once and draws it."""
        motion, forecast = self.motion.step(state.motion, dt_s)
        return replace(state, motion=motion), forecast
