"""The classical way from rasters without ids to tracks: linked connected components.

What a learned tracker has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from forecast.grid import BEVGrid

# A component may be another frame's agent if it lies this far from where that one was expected.
FARTHEST_M_PER_S = 25.0
# Cost, in metres, of a change of area by a factor of e.
AREA_COST_M = 3.0
# Other classes are never linked.
NEVER = 1e6


@dataclass(frozen=True)
class _Parts:
    """The components of one frame: id, centre, motion since the frame before, cells, class."""

    ids: NDArray[np.int64]
    centre: NDArray[np.float64]
    motion: NDArray[np.float64]
    area: NDArray[np.float64]
    kind: NDArray[np.int64]


def link_components(
    semantic: Int[Tensor, "b t h w"], grid: BEVGrid, dt_s: float, most: int
) -> Int[Tensor, "b t h w"]:
    """Label maps with ids that persist, from class maps; who is gone by the last frame has none.

    Components of one class (four neighbours) are linked from frame to frame by the Hungarian
    method on the distance to where each was expected, its last motion repeated.

    Args:
        semantic: Class of each cell; 0 = background.
        grid: The grid.
        dt_s: Time between frames.
        most: Largest components of the last frame that get an id, from 1; a noisy raster has many.
    """
    linked = [_link(frames, grid, dt_s, most) for frames in semantic.cpu().numpy()]
    return torch.as_tensor(np.stack(linked), device=semantic.device)


def components_of(frame: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Connected components (four neighbours) of one class each.

    Args:
        frame: Class of each cell; 0 = background.

    Returns:
        The number of each cell's component, from 1, and the class of every component.
    """
    places = np.zeros(frame.shape, np.int64)
    kinds: list[int] = []
    for kind in np.unique(frame[frame > 0]):
        found, count = ndimage.label(frame == kind)
        places = np.where(found > 0, found + len(kinds), places)
        kinds += [int(kind)] * count
    return places, kinds


def _link(frames: NDArray[np.int64], grid: BEVGrid, dt_s: float, most: int) -> NDArray[np.int64]:
    labels = np.zeros(frames.shape, np.int64)
    before, used = None, 0
    for index, frame in enumerate(frames):
        parts, places = _components(frame, grid)
        if before is not None:
            parts = _follow(before, parts, FARTHEST_M_PER_S * dt_s)
        fresh = parts.ids == 0
        parts.ids[fresh] = used + 1 + np.arange(fresh.sum())
        used += int(fresh.sum())
        labels[index] = np.concatenate(([0], parts.ids))[places]
        before = parts
    alive, area = np.unique(labels[-1][labels[-1] > 0], return_counts=True)
    largest = alive[np.argsort(-area, kind="stable")][:most]
    numbers = np.zeros(used + 1, np.int64)
    numbers[largest] = 1 + np.arange(len(largest))
    return numbers[labels]


def _components(frame: NDArray[np.int64], grid: BEVGrid) -> tuple[_Parts, NDArray[np.int64]]:
    """The components of a class map, and for each cell the number of its own, from 1."""
    places, kinds = components_of(frame)
    index = np.arange(1, len(kinds) + 1)
    area = ndimage.sum_labels(np.ones_like(places), places, index)
    middle = np.array(ndimage.center_of_mass(places > 0, places, index)).reshape(-1, 2)
    low = np.array([grid.x_m[0], grid.y_m[0]])
    centre = low + middle[:, ::-1] * grid.resolution_m
    none = np.zeros(len(kinds), np.int64)
    return _Parts(none, centre, np.zeros_like(centre), area, np.array(kinds, np.int64)), places


def _follow(before: _Parts, now: _Parts, farthest_m: float) -> _Parts:
    """The same components with the ids and motions of those that they continue."""
    expected = before.centre + before.motion
    distance = np.linalg.norm(expected[:, None] - now.centre[None], axis=-1)
    growth = np.abs(np.log(before.area[:, None] / now.area[None]))
    cost = distance + AREA_COST_M * growth
    cost[(before.kind[:, None] != now.kind[None]) | (distance > farthest_m)] = NEVER
    rows, columns = linear_sum_assignment(cost)
    good = cost[rows, columns] < NEVER
    rows, columns = rows[good], columns[good]
    ids, motion = now.ids.copy(), now.motion.copy()
    ids[columns] = before.ids[rows]
    motion[columns] = now.centre[columns] - before.centre[rows]
    return _Parts(ids, now.centre, motion, now.area, now.kind)
