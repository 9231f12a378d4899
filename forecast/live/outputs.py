"""What a live forecaster says: the next seconds in the world, and what it had to leave out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_tools.geometry import poses_to_world
from forecast.grid import BEVGrid
from forecast.model.scene.agents import Agents
from forecast.types import StepForecast, as_numpy


@dataclass(frozen=True)
class Counts:
    """What became of what was given: in one call, or since the beginning.

    Attributes:
        frames: Moments that were observed.
        again: Calls that told more of the moment before.
        late: Calls that came too late and changed nothing.
        restarts: How often everything was forgotten: for a gap, a clock set back, or a leap.
        unusable: Agents left out for NaN, infinity, a place or size that nothing on a road has, or
            no id.
        below_score: Agents left out for their score.
        no_slot: Agents that the model had no room for, the farthest from the ego.
        off_grid: Agents that have a slot but no place on the grid: they are observed, and not
            forecast from there.
    """

    frames: int = 0
    again: int = 0
    late: int = 0
    restarts: int = 0
    unusable: int = 0
    below_score: int = 0
    no_slot: int = 0
    off_grid: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(getattr(self, item.name) + getattr(other, item.name) for item in fields(self))
        )


@dataclass(frozen=True)
class LiveForecast:
    """L leads of A agents, and rasters of K classes on a grid of ``(H, W)`` cells.

    Attributes:
        time_s: The present: when it was observed last.
        lead_time_s: ``(L,)`` seconds of each lead after it.
        ids: Who each agent is, as the stack calls it; the ids of a model that finds them itself
            are numbers.
        classes: Class of each agent.
        size: ``(A, 2)`` length and width, metres.
        pose: ``(L, A, 3)`` x, y, yaw in the world, float64.
        existence: ``(L, A)`` probability that the agent is still there.
        uncertainty: ``(L, A, 2)`` expected error of the pose, metres ahead and aside of the agent;
            None = the model does not say.
        realizations: ``(K, L, A, 3)`` poses of K futures that are equally likely, each a scene of
            its own; NaN = gone in it; None = none were asked for.
        class_names: Names of the K classes.
        grid: Where the cells are, in the frame of ``grid_pose``.
        grid_pose: ``(3,)`` x, y, yaw of that frame in the world: the ego's at the present.
        instance: ``(L, H, W)`` 0 background, k = the agent ``ids[k - 1]``.
        semantic: ``(L, H, W)`` most likely class, 0 = background.
        occupancy: ``(L, K, H, W)`` probability of each class.
        flow: ``(L, 2, H, W)`` backward flow x, y along the grid's axes, metres per step.
    """

    time_s: float
    lead_time_s: NDArray[np.float64]
    ids: tuple[Hashable, ...]
    classes: tuple[str, ...]
    size: NDArray[Any]
    pose: NDArray[np.float64]
    existence: NDArray[Any]
    uncertainty: NDArray[Any] | None
    realizations: NDArray[np.float64] | None
    class_names: tuple[str, ...]
    grid: BEVGrid
    grid_pose: NDArray[np.float64]
    instance: NDArray[Any]
    semantic: NDArray[Any]
    occupancy: NDArray[Any]
    flow: NDArray[Any]


def collected(
    steps: Sequence[StepForecast],
    futures: Sequence[Tensor],
    agents: Agents,
    owner: Callable[[int], Hashable],
    class_names: tuple[str, ...],
    *,
    time_s: float,
    dt_s: float,
    grid: BEVGrid,
    grid_pose: NDArray[np.float64],
) -> LiveForecast:
    """The leads of one sequence as arrays, in the world.

    Args:
        steps: At least one, each of a batch of one.
        futures: Poses of each realization, ``(1, L, A, 3)``.
        agents: Whose steps they are.
        owner: Whom a number belongs to.
        class_names: Of all classes.
        time_s: The present.
        dt_s: Seconds of a step.
        grid: Of the rasters.
        grid_pose: ``(3,)`` pose of its frame in the world.
    """
    numbers, label = as_numpy(steps[0].ids)[0], as_numpy(steps[0].label)[0]
    live = np.flatnonzero(numbers)
    rows = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
    rows[numbers[live]] = np.arange(1, len(live) + 1)

    def leads(name: str) -> NDArray[Any]:
        return np.stack([as_numpy(getattr(step, name))[0] for step in steps])

    def in_world(pose: NDArray[Any]) -> NDArray[np.float64]:
        return poses_to_world(pose.astype(np.float64), grid_pose)

    said = steps[0].uncertainty is not None
    return LiveForecast(
        time_s=time_s,
        lead_time_s=np.arange(1, len(steps) + 1, dtype=np.float64) * np.float64(dt_s),
        ids=tuple(owner(number) for number in numbers[live].tolist()),
        classes=tuple(class_names[k - 1] for k in label[live].tolist()),
        size=as_numpy(agents.size)[0][live],
        pose=in_world(leads("pose")[:, live]),
        existence=leads("existence")[:, live],
        uncertainty=leads("uncertainty")[:, live] if said else None,
        realizations=in_world(np.concatenate([as_numpy(one) for one in futures])[:, :, live])
        if futures
        else None,
        class_names=class_names,
        grid=grid,
        grid_pose=grid_pose,
        instance=rows[leads("instance")],
        semantic=leads("semantic"),
        occupancy=leads("occupancy"),
        flow=leads("flow"),
    )
