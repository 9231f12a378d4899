"""The states of all models, seen from another place and a later time.

A model counts time and place in float32 from where its history began. What runs for hours in a
world of large coordinates keeps both small: the present is always time 0, at the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.baselines import ComponentState, KinematicState
from forecast.model.detected_input import DetectingState
from forecast.model.mirrored import MirroredState
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.state import ForecastState

Inner = TypeVar("Inner", ForecastState, KinematicState)


def agents_in(state: Any) -> Agents:
    """The agents that a state knows."""
    match state:
        case MirroredState():
            return state.scene.agents
        case DetectingState():
            return state.forecast.agents
        case ComponentState():
            return state.motion.agents
    agents: Agents = state.agents
    return agents


def later(state: Any, by_s: float) -> Any:
    """The same, its times counted from so many seconds later."""
    return _changed(state, lambda inner: _later(inner, by_s))


def without(state: Any, numbers: Sequence[int]) -> Any:
    """The same, in which some agents were never seen: the next one that is new takes their slots.

    Args:
        state: Of a model that is told ids.
        numbers: Of these agents.
    """

    def change(inner: Inner) -> Inner:
        agents = inner.agents
        gone = torch.isin(agents.ids, agents.ids.new_tensor(numbers))
        return replace(inner, agents=replace(agents, seen=agents.seen & ~gone[..., None]))

    return _changed(state, change) if numbers else state


def moved_to(state: Any, moved: Float[Tensor, "b 3"]) -> Any:
    """The same in another frame, whose pose in the present one is given."""
    match state:
        case ForecastState() | DetectingState():
            return state.seen_from(moved)
        case MirroredState():
            image = moved * moved.new_tensor([1.0, -1.0, -1.0])
            return replace(
                state, scene=state.scene.seen_from(moved), image=state.image.seen_from(image)
            )
        case ComponentState():
            parts = zip(state.parts, moved, strict=True)
            linked = tuple(part.seen_from(by) for part, by in parts)
            return replace(state, motion=moved_to(state.motion, moved), parts=linked)
    past = se2.between(moved[:, None, None], state.agents.past)
    agents = replace(state.agents, past=past)
    return replace(state, agents=agents, pose=se2.between(moved[:, None], state.pose))


def with_map_of(state: Any, fresh: Any, channels: int) -> Any:
    """The same with the map and lanes of another state of the same model.

    Args:
        state: Which keeps its agents, and what it knows of the user's own channels.
        fresh: Whose map it takes.
        channels: How many of these there are, behind the layers of the map.
    """
    match state:
        case MirroredState():
            scene = with_map_of(state.scene, fresh.scene, channels)
            return replace(
                state, scene=scene, image=with_map_of(state.image, fresh.image, channels)
            )
        case DetectingState():
            return replace(state, forecast=with_map_of(state.forecast, fresh.forecast, channels))
        case ComponentState():
            return replace(state, motion=with_map_of(state.motion, fresh.motion, channels))
    layers = fresh.context.map.shape[1] - channels
    own = state.context.map[:, layers:]
    drawn = torch.cat((fresh.context.map[:, :layers], own), 1)
    return replace(state, context=replace(fresh.context, map=drawn))


def _changed(state: Any, change: Callable[[Any], Any]) -> Any:
    match state:
        case MirroredState():
            return replace(state, scene=change(state.scene), image=change(state.image))
        case DetectingState():
            return replace(state, forecast=change(state.forecast))
        case ComponentState():
            return replace(state, motion=change(state.motion))
    return change(state)


def _later(state: Inner, by_s: float) -> Inner:
    agents = replace(state.agents, time_s=state.agents.time_s - by_s)
    return replace(state, agents=agents)
