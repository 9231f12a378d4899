"""The agents that have been seen: which slot each has, and where it was at every observation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.profiler import record_function

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.masks import mask_poses
from forecast.model.scene.packing import Packing
from forecast.types import Observation

# Observations that are remembered: about two seconds at any rate, as of a faster tracker's those
# closest in time are forgotten first. Agents not seen in any of them are forgotten.
MEMORY = 24
# An agent that has not been seen for longer is not forecast.
LONGEST_HIDDEN_S = 2.0


class MoreAgentsThanSlots(UserWarning):
    """Some agents are not forecast for want of room; commands count them instead."""


@dataclass(frozen=True)
class Agents:
    """B x A slots with what was observed of each agent; empty slots come last.

    Attributes:
        ids: Instance id; 0 = empty.
        label: Class from 1; 0 = empty.
        past: Pose at each of the last K observations, in the frame of the last one (where it was
            not seen: where it was expected).
        seen: Whether the agent was seen in each.
        time_s: When each observation was made.
        size: Length and width, metres.
        boxed: Whether ``size`` is measured (``track_state``) rather than fitted to masks; a boxed
            agent is drawn as its box, another by resampling its observed mask, if it has one now.
    """

    ids: Int[Tensor, "b a"]
    label: Int[Tensor, "b a"]
    past: Float[Tensor, "b a k 3"]
    seen: Bool[Tensor, "b a k"]
    time_s: Float[Tensor, "b k"]
    size: Float[Tensor, "b a 2"]
    boxed: bool = True

    @classmethod
    def none(cls, like: Float[Tensor, "b ..."]) -> Agents:
        """One empty slot of every sequence, before anything was observed."""
        batch = len(like)
        none = torch.zeros(batch, 1, dtype=torch.long, device=like.device)
        return cls(
            ids=none,
            label=none,
            past=like.new_zeros(batch, 1, 0, 3),
            seen=none.new_zeros(batch, 1, 0, dtype=torch.bool),
            time_s=like.new_zeros(batch, 0),
            size=like.new_zeros(batch, 1, 2),
        )

    @cached_property
    def live(self) -> Bool[Tensor, "b a"]:
        """Which slots hold an agent."""
        return self.ids > 0

    @cached_property
    def packing(self) -> Packing:
        """Where the live slots are."""
        return Packing.of(self.live)

    @property
    def pose(self) -> Float[Tensor, "b a 3"]:
        """Pose at the last observation."""
        return self.past[:, :, -1]

    @cached_property
    def last_seen(self) -> Int[Tensor, "b a"]:
        """The last observation in which each agent was seen; the first one if it never was."""
        count = torch.arange(1, self.seen.shape[-1] + 1, device=self.seen.device)
        return ((self.seen * count).amax(-1) - 1).clamp(min=0)

    @property
    def hidden_s(self) -> Float[Tensor, "b a"]:
        """Seconds for which each agent has not been seen."""
        return self.time_s[:, -1:] - self.time_s.gather(1, self.last_seen)

    @property
    def came_back(self) -> Float[Tensor, "b"]:
        """Share of the times when an agent of a scene went out of sight that it was seen again.

        A half where none did. A tracker that misses agents now and then has a large one.
        """
        before, after = self.seen[..., :-1], self.seen[..., 1:]
        known = before.cumsum(-1) > 0
        gone, back = (before & ~after).sum((1, 2)), (known & ~before & after).sum((1, 2))
        return (back + 0.5) / (gone + 1)

    def since_last(self, time_s: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Seconds from the last observation to a time; 0 where there was none."""
        if not self.time_s.shape[1]:
            return torch.zeros_like(time_s)
        return time_s - self.time_s[:, -1]

    def pose_at(self, index: Int[Tensor, "b a"]) -> Float[Tensor, "b a 3"]:
        """Pose of each agent at an observation of its own."""
        return self.past.gather(2, index[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)

    def linked(self, link: Association, seen: Seen) -> Agents:
        """The same in the slots of an association, with the classes and sizes that are seen now."""
        before, found = link.carried(self.seen), link.found[..., None]
        size, now = link.carried(self.size), link.shown(seen.size)
        if seen.boxed:
            # Trackers' sizes jitter; the mean over what is remembered does less so.
            now = size + (now - size) / (before.sum(-1, keepdim=True) + 1)
        return replace(
            self,
            ids=link.ids,
            label=torch.where(link.found, link.shown(seen.label), link.carried(self.label)),
            past=link.carried(self.past),
            seen=before,
            size=torch.where(found, now, size),
            boxed=seen.boxed,
        )

    def observed(
        self, pose: Float[Tensor, "b a 3"], found: Bool[Tensor, "b a"], time_s: Float[Tensor, "b"]
    ) -> Agents:
        """The same after one more observation; of more than :data:`MEMORY` one is forgotten.

        Args:
            pose: Of each slot.
            found: Whether it was seen.
            time_s: When.
        """
        after = replace(
            self,
            past=torch.cat((self.past, pose[:, :, None]), 2),
            seen=torch.cat((self.seen, found[..., None]), 2),
            time_s=torch.cat((self.time_s, time_s[:, None]), 1),
        )
        return after if after.time_s.shape[1] <= MEMORY else after._without_one()

    def _without_one(self) -> Agents:
        """Without the oldest observation, or where that is still young the one least needed.

        That is the one whose neighbours are closest in time, but for the last in which somebody
        was seen: so the past of a tracker of many observations a second is as long as that of
        another. Times count in milliseconds, so that rounding decides nothing.
        """
        time_s, kept = self.time_s, self.time_s.shape[1] - 1
        age = ((time_s[:, -1:] - time_s) * 1000).round()
        padding = age[:, :1] == age[:, 1:2]
        oldest = padding | (age[:, :1] > 1000 * LONGEST_HIDDEN_S)
        index = torch.arange(kept, device=time_s.device)
        needed = (self.last_seen[..., None] == index[1:]).any(1)  # else somebody is forgotten
        apart = age[:, :-2] - age[:, 2:] + needed * age[:, :1]
        index = index + (index >= torch.where(oldest, 0, apart.argmin(1, keepdim=True) + 1))
        slots = index[:, None].expand(*self.ids.shape, kept)
        return replace(
            self,
            past=self.past.gather(2, slots[..., None].expand(*slots.shape, 3)),
            seen=self.seen.gather(2, slots),
            time_s=time_s.gather(1, index),
        )

    def turned(self, turn: Float[Tensor, "b a"]) -> Agents:
        """The same with all headings of each agent turned on the spot."""
        by = torch.nn.functional.pad(turn[:, :, None, None], (2, 0))
        return replace(self, past=self.past + by)

    def take(self, order: Int[Tensor, "b s"]) -> Agents:
        """Some slots, in an order."""
        return replace(
            self,
            ids=self.ids.gather(1, order),
            label=self.label.gather(1, order),
            past=slots_of(self.past, order),
            seen=slots_of(self.seen, order),
            size=slots_of(self.size, order),
        )


@dataclass(frozen=True)
class Seen:
    """The agents that one observation shows; rows with id 0 show none.

    Attributes:
        ids: Instance id.
        label: Class from 1.
        pose: x, y, yaw; of a mask the axis, which may point either way.
        size: Length and width, metres.
        long: Whether the axis of a mask tells its heading; None for boxes.
        boxed: Whether these are boxes rather than masks.
    """

    ids: Int[Tensor, "b n"]
    label: Int[Tensor, "b n"]
    pose: Float[Tensor, "b n 3"]
    size: Float[Tensor, "b n 2"]
    long: Bool[Tensor, "b n"] | None = None
    boxed: bool = True


@dataclass(frozen=True)
class Association:
    """Which agent of an observation each slot is.

    Attributes:
        source: Where each slot comes from, among the old slots followed by the observation's rows;
            None = the slots are as they were.
        ids: Instance id of each slot.
        found: Whether the observation shows it.
        row: The row that does; 0 where none.
    """

    source: Int[Tensor, "b a"] | None
    ids: Int[Tensor, "b a"]
    found: Bool[Tensor, "b a"]
    row: Int[Tensor, "b a"]

    def carried(self, old: Shaped[Tensor, "b o *d"]) -> Shaped[Tensor, "b a *d"]:
        """What the old slots have, in their new places; zero for agents that are new."""
        if self.source is None:
            return old
        padded = torch.cat((old, torch.zeros_like(old[:, :1])), 1)
        return slots_of(padded, self.source.clamp(max=old.shape[1]))

    def shown(self, rows: Shaped[Tensor, "b n *d"]) -> Shaped[Tensor, "b a *d"]:
        """What the observation shows of each slot; meaningless where it was not found."""
        return slots_of(rows, self.row)


def slots_of(values: Shaped[Tensor, "b o *d"], order: Int[Tensor, "b a"]) -> Tensor:
    """Rows of each sequence, in an order of its own."""
    index = order.view(*order.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(*order.shape, *values.shape[2:]))


def seen_in(frame: Observation, grid: BEVGrid) -> Seen:
    """The agents of an observation: of its tracks, or else of its masks."""
    if frame.track_state is not None:
        return _boxes(frame)
    assert frame.instance is not None
    assert frame.semantic is not None
    return Seen(*mask_poses(frame.instance, frame.semantic, grid), boxed=False)


def _boxes(frame: Observation) -> Seen:
    state, label, ids = frame.track_state, frame.track_class, frame.track_id
    assert state is not None
    assert label is not None
    assert ids is not None
    if not state.shape[1]:  # one row at least, which shows none
        state = torch.nn.functional.pad(state, (0, 0, 0, 1), value=torch.nan)
        label, ids = (torch.nn.functional.pad(value, (0, 1)) for value in (label, ids))
    here = torch.isfinite(state).all(-1) & (label > 0)
    state = torch.where(here[..., None], state, 0.0)
    return Seen(torch.where(here, ids, 0), label.long(), state[..., :3], state[..., 3:])


@record_function("observing agents")
def associate(agents: Agents, seen: Seen, slots: int) -> Association:
    """Gives every agent that an observation shows its slot, by its id.

    Of more agents than slots the nearest to the ego are kept.

    Args:
        agents: Those that are known.
        seen: Those that the observation shows.
        slots: Most agents of one sequence.
    """
    ids, source = agents.ids, None
    same = _same(ids, seen.ids)
    fresh = (seen.ids > 0) & ~same.any(1)
    if bool(fresh.any()):
        # In a scene with a newcomer those are forgotten who were not seen for long.
        known = torch.where(agents.seen.any(-1) | ~fresh.any(1, keepdim=True), ids, 0)
        ids = torch.cat((known, torch.where(fresh, seen.ids, 0)), 1)
        last = agents.pose if agents.past.shape[2] else torch.zeros_like(agents.past.sum(2))
        source = _live_first(ids > 0, torch.cat((last, seen.pose), 1)[..., :2], slots)
        ids = ids.gather(1, source)
    return Association(source, ids, *places_among(ids, seen.ids))


def places_among(
    ids: Int[Tensor, "b a"], others: Int[Tensor, "b n"]
) -> tuple[Bool[Tensor, "b a"], Int[Tensor, "b a"]]:
    """Whether each id is among others, and at which place."""
    same = _same(ids, others)
    return same.any(2), same.byte().argmax(2)


def _same(ids: Int[Tensor, "b a"], others: Int[Tensor, "b n"]) -> Bool[Tensor, "b a n"]:
    return (ids[:, :, None] == others[:, None]) & (others > 0)[:, None]


def _live_first(
    live: Bool[Tensor, "b o"], place: Float[Tensor, "b o 2"], slots: int
) -> Int[Tensor, "b a"]:
    """Live slots first, as many as the fullest sequence needs, at least one."""
    count = live.sum(1, keepdim=True)
    most = max(int(count.max()), 1)
    rank = torch.where(live, 0.0, torch.inf)
    if most > slots:
        found = f"{most} agents in a scene and room for {slots} (model.slots)"
        text = f"{found}: the nearest to the ego are forecast"
        warnings.warn(text, MoreAgentsThanSlots, stacklevel=2)
        # Other sequences keep the order that they have without this one.
        rank = rank + torch.linalg.vector_norm(place, dim=-1) * (count > slots)
    return torch.argsort(rank, dim=1, stable=True)[:, : min(most, slots)]


def present(
    agents: Agents,
    pose: Float[Tensor, "b a 3"],
    eligible: Bool[Tensor, "b a"],
    cells: Int[Tensor, "b h w"] | None,
    grid: BEVGrid,
) -> tuple[Agents, Int[Tensor, "b s"]]:
    """The agents that are forecast, by id, and their order among those that are known.

    Args:
        agents: All that are known.
        pose: Where each is now.
        eligible: Which may be forecast at all.
        cells: The last label map: at the border a mask may be seen whose centre lies outside.
        grid: Agents off it are not forecast.
    """
    here = grid.contains(pose[..., 0], pose[..., 1])
    if cells is not None:
        here = here | has_cells(cells, agents.ids)
    here = here & eligible & agents.live
    rank = torch.where(here, agents.ids, torch.iinfo(torch.long).max)
    most = max(int(here.sum(1).max()), 1)
    order = torch.argsort(rank, dim=1, stable=True)[:, :most]
    chosen = replace(agents, ids=agents.ids * here, label=agents.label * here)
    return chosen.take(order), order


def has_cells(cells: Int[Tensor, "b h w"], ids: Int[Tensor, "b a"]) -> Bool[Tensor, "b a"]:
    """Which agents have a cell in a label map."""
    flat = cells.flatten(1).long()
    most = int(max(flat.max(), ids.max())) + 1
    there = torch.zeros(len(flat), most, dtype=torch.bool, device=flat.device)
    return there.scatter(1, flat, True).gather(1, ids)


def facing(
    agents: Agents,
    expected: Float[Tensor, "b a 3"],
    measured: Float[Tensor, "b a 3"],
    found: Bool[Tensor, "b a"],
    long: Bool[Tensor, "b a"],
) -> tuple[Float[Tensor, "b a"], Float[Tensor, "b a 3"]]:
    """Which way agents known by masks face: the way they have moved, along their axis if long.

    Args:
        agents: As observed so far.
        expected: The pose that each was expected at.
        measured: Centre and axis of its mask.
        found: Whether there is one.
        long: Whether the axis tells the heading.

    Returns:
        By how much what was believed before has to turn: by half a turn where the agent has now
        moved the other way, by whatever it takes where the mask has no axis. And the measured
        poses, with headings.
    """
    then = (agents.past[..., :2] * agents.seen[..., None]).sum(2)
    way = measured[..., :2] * agents.seen.sum(-1, keepdim=True) - then
    axis = measured[..., 2]
    backwards = way[..., 0] * axis.cos() + way[..., 1] * axis.sin() < 0
    ahead = torch.where(backwards, se2.wrap(axis + torch.pi), axis)
    yaw = torch.where(long, ahead, se2.course(way))
    off = se2.wrap(yaw - expected[..., 2])
    flip = torch.where(off.cos() < 0, torch.pi, 0.0)
    turn = torch.where(found, torch.where(long, flip, off), 0.0)
    return turn, torch.cat((measured[..., :2], yaw[..., None]), -1)


def attributes_of(agents: Agents, classes: int) -> Float[Tensor, "b a k"]:
    """Class (one-hot), length and width of agents as the numbers that networks read."""
    size = agents.size / agents.size.new_tensor([5.0, 2.0])
    return torch.cat((one_hot(agents.label, classes).to(size.dtype), size.log1p()), -1)


def one_hot(label: Int[Tensor, "*n"], classes: int) -> Bool[Tensor, "*n k"]:
    """Which class each label is; 0 is none. Torch's own waits for a GPU."""
    return label[..., None] == torch.arange(1, classes + 1, device=label.device)
