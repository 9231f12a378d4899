"""A moment as a model observes it: in the ego frame, at time 0, agents by number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from data_tools.geometry import poses_to_frame
from data_tools.labels.rasterise import rasterise_boxes
from forecast.grid import BEVGrid
from forecast.live.inputs import Agents, Moment
from forecast.live.world_map import WorldMap
from forecast.types import Observation, SceneContext


class Numbers(Protocol):
    """Gives every id of a stack its number, and may be told where in the world each is."""

    def __call__(
        self, ids: Sequence[Hashable], *, places: NDArray[np.float64] | None = None
    ) -> list[int]:
        """The numbers, in the order of the ids; ``places`` are ``(N, 2)`` x, y."""


def scene_around(
    world: WorldMap, ego_pose: NDArray[np.float64], grid: BEVGrid, layers: Sequence[str] | None
) -> SceneContext:
    """The map as it is seen from the ego.

    Args:
        world: The map.
        ego_pose: ``(3,)`` of the ego in the world.
        grid: Around the ego.
        layers: Names of the layers that the model is given, in order; None = all.
    """
    drawn, points = world.around(ego_pose, grid, layers)
    return SceneContext(
        map=torch.from_numpy(drawn)[None].float(),
        points=torch.from_numpy(points.astype(np.float32))[None] if len(points) else None,
        grid=grid,
    )


def off_grid(agents: Agents, ego_pose: NDArray[np.float64], grid: BEVGrid) -> list[Hashable]:
    """Who is not forecast where it is now: neither the middle of the box nor a cell is on the grid.

    Args:
        agents: In the world.
        ego_pose: ``(3,)`` of the ego in the world.
        grid: Around the ego.
    """
    state = poses_to_frame(agents.state, ego_pose)
    away = np.flatnonzero(~grid.contains(state[:, 0], state[:, 1]))
    labels = np.arange(1, len(away) + 1, dtype=np.uint16)
    drawn = rasterise_boxes(state[away], np.zeros(len(away), np.int64), labels, 1, grid)
    return [agents.ids[place] for place in away[~np.isin(labels, drawn)]]


def observation(moment: Moment, numbers: Numbers, reads: bool, grid: BEVGrid) -> Observation:
    """What a model is shown of a moment.

    Args:
        moment: In the world.
        numbers: Of the ids in it.
        reads: Whether a raster is read: the one that was given, or one drawn of the tracks.
        grid: Around the ego.
    """
    agents, raster = moment.agents, moment.raster
    own = None if raster is None or raster.bev is None else _batch(raster.bev, torch.float32)
    seen = Observation(time_s=torch.zeros(1), ego_pose=torch.zeros(1, 3), bev=own)
    if agents is not None:
        return _of_tracks(seen, agents, moment.ego_pose, numbers, reads, grid)
    assert raster is not None
    semantic = _batch(raster.semantic, torch.int64)
    if raster.instance is None:
        return replace(seen, semantic=semantic)
    ids, place = np.unique(raster.instance, return_inverse=True)
    known = [0, *numbers(ids[ids > 0].tolist())] if ids[0] == 0 else numbers(ids.tolist())
    labels = np.array(known)[place.reshape(grid.shape)]
    return replace(seen, semantic=semantic, instance=_batch(labels, torch.int64))


def _of_tracks(
    seen: Observation,
    agents: Agents,
    ego_pose: NDArray[np.float64],
    numbers: Numbers,
    reads: bool,
    grid: BEVGrid,
) -> Observation:
    """Tracks, and the raster of their boxes where one is read; its classes the model draws."""
    state = poses_to_frame(agents.state, ego_pose)
    ids = np.array(numbers(agents.ids, places=agents.state[:, :2]), np.int64)
    # One row at least: a raster without agents is read, and is not where no tracks came.
    more = int(not len(ids))
    seen = replace(
        seen,
        track_id=_batch(np.pad(ids, (0, more)), torch.int64),
        track_state=_batch(
            np.pad(state, ((0, more), (0, 0)), constant_values=np.nan), torch.float32
        ),
        track_class=_batch(np.pad(agents.label, (0, more)), torch.int64),
    )
    if not reads:
        return seen
    frame = np.zeros(len(ids), np.int64)
    labels = rasterise_boxes(state, frame, ids.astype(np.uint16), 1, grid)[0]
    instance = _batch(labels.astype(np.int64), torch.int64)
    return replace(seen, semantic=torch.zeros_like(instance), instance=instance)


def _batch(array: ArrayLike, kind: torch.dtype) -> Tensor:
    """An array as a batch of one."""
    return torch.as_tensor(np.asarray(array))[None].to(kind)
