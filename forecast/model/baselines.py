"""Forecasters that learn nothing, and that a learned one has to beat."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents, last_acceleration, last_twist, observe
from forecast.model.scene.rasterizer import rasterize
from forecast.model.spec import BaselineName
from forecast.model.tracking.components import link_components
from forecast.types import BEVSequence, StepForecast

COMPONENT_SLOTS = 1024


@dataclass(frozen=True)
class KinematicState:
    """Agents, where they are, the motion that they repeat and what each step adds to its length."""

    lead: int
    agents: Agents
    pose: Float[Tensor, "b a 3"]
    motion: Float[Tensor, "b a 3"]
    gain: Float[Tensor, "b a"]
    observed: Int[Tensor, "b h w"]
    grid: BEVGrid


class Baseline:
    """Repeats nothing, the last displacement, or the last twist (constant speed and turn rate).

    With constant acceleration the last twist gains as much forward speed at every step as it did
    in the last one, until the agent stands.

    Args:
        name: Which of the four.
        classes: Number of classes in the data.
        slots: Most agents of one sequence.
    """

    def __init__(self, name: BaselineName, classes: int, slots: int = 1024) -> None:
        self.name = name
        self.classes = classes
        self.slots = slots

    def start(self, history: BEVSequence) -> KinematicState:
        """Reads the agents and their motion at the present."""
        agents = observe(history, self.slots)
        twist = last_twist(agents)
        if self.name == "persistence":
            motion = torch.zeros_like(twist)
        elif self.name == "constant-velocity":
            # The displacement in the ego frame, without the turn.
            moved = se2.compose(agents.pose, se2.exp(-twist))[..., :2]
            motion = torch.cat((agents.pose[..., :2] - moved, torch.zeros_like(twist[..., :1])), -1)
        else:
            motion = twist
        gain = torch.zeros_like(twist[..., 0])
        if self.name == "constant-acceleration":
            gain = last_acceleration(agents)[..., 0]
        return KinematicState(
            0, agents, agents.pose, motion, gain, history.instance[:, -1], history.grid
        )

    @record_function("moving agents")
    def move(self, state: KinematicState) -> KinematicState:
        """Moves every agent once."""
        if self.name in ("persistence", "constant-velocity"):
            return replace(state, lead=state.lead + 1, pose=state.pose + state.motion)
        motion = state.motion
        if self.name == "constant-acceleration":
            ahead = motion[..., :1]
            # An agent that brakes comes to a stop, and does not turn on the spot.
            kept = ((ahead + state.gain[..., None]) * ahead > 0).to(ahead.dtype)
            motion = kept * torch.cat((ahead + state.gain[..., None], motion[..., 1:]), -1)
        pose = se2.compose(state.pose, se2.exp(motion))
        return replace(state, lead=state.lead + 1, pose=pose, motion=motion)

    @record_function("drawing")
    def step(self, state: KinematicState) -> tuple[KinematicState, StepForecast]:
        """Moves every agent once and draws it."""
        moved = self.move(state)
        live = state.agents.live
        pose = moved.pose
        rasters = rasterize(
            state.agents,
            pose,
            state.pose,
            live.to(pose.dtype),
            live,
            state.observed,
            state.grid,
            self.classes,
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
        )
        return moved, forecast


class Components:
    """Constant velocity of linked components: the classical stack for rasters without ids.

    Args:
        classes: Number of classes in the data.
        slots: Most agents of one sequence; of more components only the largest are forecast.
    """

    def __init__(self, classes: int, slots: int = COMPONENT_SLOTS) -> None:
        self.slots = slots
        self.motion = Baseline("constant-velocity", classes, slots)

    @record_function("finding and tracking agents")
    def start(self, history: BEVSequence) -> KinematicState:
        """Finds and links components; ids and ``track_state`` of the store are not read."""
        instance = link_components(history.semantic, history.grid, history.dt_s, self.slots)
        found = replace(history, instance=instance, track_state=None, track_class=None)
        return self.motion.start(found)

    def step(self, state: KinematicState) -> tuple[KinematicState, StepForecast]:
        """Moves every component once and draws it."""
        return self.motion.step(state)
