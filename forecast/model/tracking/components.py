"""The classical way from rasters without ids to tracks: linked connected components.

What a learned tracker has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """The components of one frame: id, centre, motion since the frame before, cells, class.

    ``track`` is the id that a tracker gave it, 0 = none.
    """

    ids: NDArray[np.int64]
    track: NDArray[np.int64]
    centre: NDArray[np.float64]
    motion: NDArray[np.float64]
    area: NDArray[np.float64]
    kind: NDArray[np.int64]


def link_components(
    semantic: Int[Tensor, "b t h w"],
    grid: BEVGrid,
    dt_s: float,
    most: int,
    tracked: Int[Tensor, "b t h w"] | None = None,
    taken: Int[Tensor, " b"] | None = None,
) -> Int[Tensor, "b t h w"]:
    """Label maps with ids that persist, from class maps; what is gone by the last frame has none.

    Components of one class (four neighbours) are linked from frame to frame by the Hungarian
    method on the distance to where each was expected, its last motion repeated. What a tracker has
    found already is kept, and linked in the same way where the tracker lost it: the second
    association of Zhang et al., "ByteTrack" (2022).

    Args:
        semantic: Class of each cell; 0 = background.
        grid: The grid.
        dt_s: Time between frames.
        most: Largest components of the last frame that get an id; a noisy raster has many.
        tracked: Label maps of tracks; None = there are none.
        taken: Ids up to this one may be those of tracks without a cell: others come after them;
            None = those of ``tracked`` alone.
    """
    tracked = torch.zeros_like(semantic) if tracked is None else tracked
    taken = tracked.flatten(1).amax(1) if taken is None else taken
    clips = zip(semantic.cpu().numpy(), tracked.cpu().numpy(), taken.tolist(), strict=True)
    linked = [_link(frames, tracks, grid, dt_s, most, last) for frames, tracks, last in clips]
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


def _link(
    frames: NDArray[np.int64],
    tracks: NDArray[np.int64],
    grid: BEVGrid,
    dt_s: float,
    most: int,
    taken: int,
) -> NDArray[np.int64]:
    labels = np.zeros(frames.shape, np.int64)
    parts, used = None, 0
    for index, (frame, track) in enumerate(zip(frames, tracks, strict=True)):
        before = parts
        parts, places = _components(frame, track, grid)
        if before is not None:
            parts = _follow(before, parts, FARTHEST_M_PER_S * dt_s)
        fresh = parts.ids == 0
        parts.ids[fresh] = used + 1 + np.arange(fresh.sum())
        used += int(fresh.sum())
        labels[index] = np.concatenate(([0], parts.ids))[places]
    assert parts is not None
    linked = _numbers(parts, used, taken, most)[labels]
    # Unseen in between, a track is the same before and after.
    return np.where(np.isin(tracks, parts.track[parts.track > 0]), tracks, linked)


def _numbers(last: _Parts, used: int, taken: int, most: int) -> NDArray[np.int64]:
    """The final id of every id used so far: its track's, or a new one for the largest others."""
    numbers = np.zeros(used + 1, np.int64)
    numbers[last.ids] = last.track
    others = np.flatnonzero(last.track == 0)
    largest = others[np.argsort(-last.area[others], kind="stable")][:most]
    numbers[last.ids[largest]] = taken + 1 + np.arange(len(largest))
    return numbers


def _components(
    frame: NDArray[np.int64], tracked: NDArray[np.int64], grid: BEVGrid
) -> tuple[_Parts, NDArray[np.int64]]:
    """Components and tracks of a class map, and for each cell the number of its own, from 1."""
    places, kinds = components_of(np.where(tracked == 0, frame, 0))
    track, first, own = np.unique(tracked, return_index=True, return_inverse=True)
    here = track > 0
    places = np.where(tracked > 0, len(kinds) + own.reshape(frame.shape) + here[0], places)
    track = np.concatenate((np.zeros(len(kinds), np.int64), track[here]))
    kind = np.concatenate((np.array(kinds, np.int64), frame.flat[first[here]]))
    index = np.arange(1, len(kind) + 1)
    area = ndimage.sum_labels(np.ones_like(places), places, index)
    middle = np.array(ndimage.center_of_mass(places > 0, places, index)).reshape(-1, 2)
    low = np.array([grid.x_m[0], grid.y_m[0]])
    centre = low + middle[:, ::-1] * grid.resolution_m
    return _Parts(np.zeros_like(kind), track, centre, np.zeros_like(centre), area, kind), places


def _follow(before: _Parts, now: _Parts, farthest_m: float) -> _Parts:
    """The same components with the ids and motions of those that they continue."""
    expected = before.centre + before.motion
    distance = np.linalg.norm(expected[:, None] - now.centre[None], axis=-1)
    growth = np.abs(np.log(before.area[:, None] / now.area[None]))
    cost = distance + AREA_COST_M * growth
    cost[(before.kind[:, None] != now.kind[None]) | (distance > farthest_m)] = NEVER
    same = (before.track[:, None] == now.track[None]) & (before.track[:, None] > 0)
    cost[same.any(1)] = NEVER
    cost[:, same.any(0)] = NEVER
    cost[same] = 0.0
    rows, columns = linear_sum_assignment(cost)
    good = cost[rows, columns] < NEVER
    rows, columns = rows[good], columns[good]
    ids, motion = now.ids.copy(), now.motion.copy()
    ids[columns] = before.ids[rows]
    motion[columns] = now.centre[columns] - before.centre[rows]
    return replace(now, ids=ids, motion=motion)
