"""The classical way from rasters without ids to tracks: linked connected components.

What a learned tracker has to beat, and what it is helped by: components tell who is whom where a
track begins late, ends early or is not there at all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from forecast.grid import BEVGrid
from forecast.model.scene.agents import LONGEST_HIDDEN_S
from forecast.model.tracking.tracks import Tracks

# A component may be another frame's agent if it lies this far from where that one was expected.
FARTHEST_M_PER_S = 25.0
# Cost, in metres, of a change of area by a factor of e.
AREA_COST_M = 3.0
# Other classes are never linked.
NEVER = 1e6
# Parts seen in so many frames are remembered while no raster shows them; debris is there once.
LEAST_SEEN = 2
# One that is hidden, whose motion is known therefore, if it lies this far from there.
STRAY_M_PER_S = 4.0
# In less time two centres tell no motion.
SHORTEST_GAP_S = 0.01
# Ids are given out in turn, from 1 again after so many: what is made of them must not grow.
IDS = 9999


@dataclass(frozen=True)
class Parts:
    """P parts of rasters, each the cells of one agent: a connected component or a track's.

    Some may be hidden now: perception misses them, or something stands before them.

    Attributes:
        used: The id that was given out last.
        agent: Id of each part's agent.
        track: Track that has it, 0 = none.
        centre: x, y, metres, where it was seen last.
        velocity: x, y, metres per second; zero for one that was seen once.
        area: Cells.
        kind: Class.
        frames: Frames in which it was seen.
        hidden_s: Seconds since it was seen.
    """

    used: int
    agent: NDArray[np.int64]
    track: NDArray[np.int64]
    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]
    area: NDArray[np.float64]
    kind: NDArray[np.int64]
    frames: NDArray[np.int64]
    hidden_s: NDArray[np.float64]

    @classmethod
    def none(cls) -> Parts:
        """Before the first frame."""
        places = np.zeros((0, 2))
        return cls.seen_now(np.zeros(0, np.int64), places, places[:, 0], np.zeros(0, np.int64))

    @classmethod
    def seen_now(
        cls,
        track: NDArray[np.int64],
        centre: NDArray[np.float64],
        area: NDArray[np.float64],
        kind: NDArray[np.int64],
    ) -> Parts:
        """Parts of a raster, of which nothing else is known."""
        none, once = np.zeros_like(kind), np.ones_like(kind)
        return cls(0, none, track, centre, np.zeros_like(centre), area, kind, once, 0.0 * area)

    def take(self, chosen: NDArray[np.int64]) -> Parts:
        """Some of the parts."""
        return Parts(self.used, *(each[chosen] for each in self._each()))

    def _each(self) -> tuple[NDArray[Any], ...]:
        return tuple(getattr(self, field.name) for field in fields(self)[1:])

    def followed_by(self, now: Parts, since_s: float, most: int) -> Parts:
        """Those of the next frame, and behind them those of these that it hides.

        Args:
            now: Of the next frame.
            since_s: Seconds until then.
            most: Parts; of those that are hidden the last seen are kept.
        """
        hidden_s = self.hidden_s + since_s
        kept = (self.frames >= LEAST_SEEN) & (hidden_s <= LONGEST_HIDDEN_S)
        kept &= ~np.isin(self.agent, now.agent)
        chosen = np.flatnonzero(kept)
        chosen = chosen[np.argsort(hidden_s[chosen], kind="stable")]
        chosen = chosen[: max(most - len(now.agent), 0)]
        hidden = replace(self, track=0 * self.track, hidden_s=hidden_s).take(chosen)
        both = zip(now._each(), hidden._each(), strict=True)
        return Parts(now.used, *(np.concatenate(pair) for pair in both))

    def seen_from(self, moved: Float[Tensor, "3"]) -> Parts:
        """The same in another frame, whose pose in the present one is given."""
        x, y, yaw = moved.tolist()
        turned = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        centre = (self.centre - np.array([x, y])) @ turned
        return replace(self, centre=centre, velocity=self.velocity @ turned)


@dataclass(frozen=True)
class LinkedFrame:
    """Who is who in one frame of B sequences.

    Attributes:
        instance: Id of each cell's agent; 0 = background, or a component too small to be one.
        parts: The parts of each sequence, for the next frame.
        known: Ids that may be seen again: of the parts, and of tracks without a cell; 0 = padding.
        agent: Id of the agent of each track slot; 0 = none so far.
    """

    instance: Int[Tensor, "b h w"]
    parts: tuple[Parts, ...]
    known: Int[Tensor, "b n"]
    agent: Int[Tensor, "b s"]


def link_components(
    before: tuple[Parts, ...],
    semantic: Int[Tensor, "b h w"],
    since_s: Float[Tensor, "b"],
    grid: BEVGrid,
    most: int,
    tracks: Tracks | None = None,
    tracked: Int[Tensor, "b h w"] | None = None,
) -> LinkedFrame:
    """Gives every component of a raster, and every track, the id of an agent.

    Parts of one class are linked to those of the frames before by the Hungarian method on the
    distance to where each was expected, its last motion repeated. One that is hidden is remembered
    for two seconds, if it was seen more than once, and linked to what the others leave. A track
    keeps its agent, also while it is not seen; one that had none so far takes that of the part it
    is linked to, as does a component whose track has ended: the second association of Zhang et al.,
    "ByteTrack" (2022).

    Args:
        before: The parts of the frames before, in this one's ego frame.
        semantic: Class of each cell; 0 = background.
        since_s: Seconds since the frame before.
        grid: The grid.
        most: Largest components that get an id; a noisy raster has many.
        tracks: The tracks after this frame; None = there are none.
        tracked: Track of each cell, 0 = none.
    """
    slots = np.zeros((len(semantic), 3, 1), np.int64)
    cells = np.zeros(semantic.shape, np.int64)
    if tracks is not None and tracked is not None:
        slots = torch.stack((tracks.ids, tracks.agent, tracks.missed), 1).cpu().numpy()
        cells = tracked.cpu().numpy()
    frames = zip(before, semantic.cpu().numpy(), cells, slots, since_s.tolist(), strict=True)
    linked = [_link(*frame, grid, most) for frame in frames]
    instance, parts, agents = zip(*linked, strict=True)
    device = semantic.device
    known = [torch.as_tensor(np.append(p.agent, a)) for p, a in zip(parts, agents, strict=True)]
    return LinkedFrame(
        torch.as_tensor(np.stack(instance), device=device),
        parts,
        pad_sequence(known, batch_first=True).to(device),
        torch.as_tensor(np.stack(agents), device=device),
    )


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
    before: Parts,
    classes: NDArray[np.int64],
    tracked: NDArray[np.int64],
    slots: NDArray[np.int64],
    since_s: float,
    grid: BEVGrid,
    most: int,
) -> tuple[NDArray[np.int64], Parts, NDArray[np.int64]]:
    """Agent of each cell, the parts, and the agent of each track slot.

    Of each slot is given: the track's id, its agent so far, frames in which it was not seen.
    """
    since_s = max(since_s, 0.0)
    ids, agent = slots[0], np.where(slots[0] > 0, slots[1], 0)
    parts, places = _components(classes, tracked, grid)
    own = (parts.track[:, None] == ids) & (ids > 0)
    has_cells = own.any(0)
    parts = replace(parts, used=before.used, agent=(own * agent).sum(1))
    # What is hidden may come back; a track seen where there is no cell is off, and its cells stay
    # who they were.
    held = agent[has_cells | (slots[2] > 0)]
    # First those of the frame before: they must not lose their ids to those that were hidden.
    for hidden in (before.hidden_s == 0, before.hidden_s > 0):
        parts = _follow(before.take(np.flatnonzero(hidden)), parts, held, since_s)
    parts = _numbered(parts, np.concatenate((before.agent, agent)), most)
    agent = np.where(np.isin(agent, parts.agent), 0, agent)
    agent = np.where(has_cells, (own * parts.agent[:, None]).sum(0), agent)
    instance = np.concatenate(([0], parts.agent))[places]
    parts = before.followed_by(parts.take(np.flatnonzero(parts.agent)), since_s, most)
    return instance, parts, agent


def _components(
    classes: NDArray[np.int64], tracked: NDArray[np.int64], grid: BEVGrid
) -> tuple[Parts, NDArray[np.int64]]:
    """Components and tracks of a class map, and for each cell the number of its own, from 1."""
    places, kinds = components_of(np.where(tracked == 0, classes, 0))
    track, first, own = np.unique(tracked, return_index=True, return_inverse=True)
    here = track > 0
    places = np.where(tracked > 0, len(kinds) + own.reshape(classes.shape) + here[0], places)
    track = np.concatenate((np.zeros(len(kinds), np.int64), track[here]))
    kind = np.concatenate((np.array(kinds, np.int64), classes.flat[first[here]]))
    index = np.arange(1, len(kind) + 1)
    area = ndimage.sum_labels(np.ones_like(places), places, index)
    middle = np.array(ndimage.center_of_mass(places > 0, places, index)).reshape(-1, 2)
    low = np.array([grid.x_m[0], grid.y_m[0]])
    centre = low + middle[:, ::-1] * grid.resolution_m
    return Parts.seen_now(track, centre, area, kind), places


def _follow(before: Parts, now: Parts, held: NDArray[np.int64], since_s: float) -> Parts:
    """The same parts with the agents and motions of those that they continue.

    Args:
        before: Of the frames before.
        now: Of this one; those of tracks that have an agent already know it.
        held: Agents that no other part may continue.
        since_s: Seconds between the frames.
    """
    hidden_s = before.hidden_s[:, None]
    gap_s = hidden_s + since_s
    expected = before.centre + before.velocity * gap_s
    distance = np.linalg.norm(expected[:, None] - now.centre[None], axis=-1)
    growth = np.abs(np.log(before.area[:, None] / now.area[None]))
    cost = distance + AREA_COST_M * growth
    cost[before.kind[:, None] != now.kind[None]] = NEVER
    cost[distance > np.where(hidden_s > 0, STRAY_M_PER_S, FARTHEST_M_PER_S) * gap_s] = NEVER
    cost[((hidden_s > 0) & (gap_s > LONGEST_HIDDEN_S))[:, 0]] = NEVER
    cost[np.isin(before.agent, held)] = NEVER
    cost[:, now.agent > 0] = NEVER
    cost[before.agent[:, None] == now.agent[None]] = 0.0
    rows, columns = linear_sum_assignment(cost)
    good = cost[rows, columns] < NEVER
    rows, columns = rows[good], columns[good]
    agent, velocity, frames = now.agent.copy(), now.velocity.copy(), now.frames.copy()
    agent[columns] = before.agent[rows]
    frames[columns] = before.frames[rows] + 1
    moved, gap_s = now.centre[columns] - before.centre[rows], gap_s[rows]
    long = gap_s > SHORTEST_GAP_S
    velocity[columns] = np.where(long, moved / np.where(long, gap_s, 1.0), before.velocity[rows])
    return replace(now, agent=agent, velocity=velocity, frames=frames)


def _numbered(parts: Parts, taken: NDArray[np.int64], most: int) -> Parts:
    """New ids for new parts; of the components only the largest have one."""
    others = np.flatnonzero(parts.track == 0)
    largest = others[np.argsort(-parts.area[others], kind="stable")][:most]
    chosen = np.concatenate((np.flatnonzero(parts.track), largest))
    agent = np.zeros_like(parts.agent)
    agent[chosen] = parts.agent[chosen]
    new = chosen[agent[chosen] == 0]
    turn = (parts.used + np.arange(IDS + 4 * most)) % (IDS + 4 * most) + 1
    agent[new] = turn[~np.isin(turn, taken)][: len(new)]
    return replace(parts, agent=agent, used=int(agent[new[-1]]) if len(new) else parts.used)
