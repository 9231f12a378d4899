"""The agents at the present: the slots that a rollout carries forward, from tracked input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.packing import Packing
from forecast.types import BEVSequence


@dataclass(frozen=True)
class Agents:
    """B x A slots with what was observed of each agent; empty slots come last.

    Attributes:
        ids: Instance id; 0 = empty.
        label: Class from 1; 0 = empty.
        past: Pose at each history frame in the present ego frame (0 where not seen).
        seen: Whether the agent was seen at each history frame; the last is true if live.
        size: Length and width, metres.
        boxed: Whether ``size`` is measured (``track_state``) rather than fitted to masks; a boxed
            agent is drawn as its box, another by resampling its observed mask.
    """

    ids: Int[Tensor, "b a"]
    label: Int[Tensor, "b a"]
    past: Float[Tensor, "b a t 3"]
    seen: Bool[Tensor, "b a t"]
    size: Float[Tensor, "b a 2"]
    boxed: bool = True

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
        """Pose at the present."""
        return self.past[:, :, -1]


@record_function("observing agents")
def observe(history: BEVSequence, slots: int) -> Agents:
    """The agents visible at the present frame, from ``track_state`` or else from the masks.

    Args:
        history: The frames up to and including the present.
        slots: Most agents that one sequence may have.

    Raises:
        DataError: A sequence has more agents than slots.
    """
    agents = _from_tracks(history) if history.track_state is not None else _from_masks(history)
    return pack(agents, slots)


def last_twist(agents: Agents) -> Float[Tensor, "b a 3"]:
    """Motion per step at the present, from the latest earlier frame where the agent was seen.

    Zero for an agent that was never seen before.
    """
    frames = agents.seen.shape[-1]
    twist = torch.zeros_like(agents.pose)
    for frame in range(frames - 1):  # later frames overwrite earlier ones
        gap = frames - 1 - frame
        moved = se2.log(se2.between(agents.past[:, :, frame], agents.pose)) / gap
        twist = torch.where(agents.seen[:, :, frame, None], moved, twist)
    return twist


def last_acceleration(agents: Agents) -> Float[Tensor, "b a 3"]:
    """How much the motion per step changed from the last step but one to the last.

    Zero for an agent that was not seen in all of the last three frames.
    """
    if agents.seen.shape[-1] < 3:
        return torch.zeros_like(agents.pose)
    older, old, now = agents.past[:, :, -3:].unbind(2)
    acceleration = se2.log(se2.between(old, now)) - se2.log(se2.between(older, old))
    return torch.where(agents.seen[:, :, -3:].all(-1, keepdim=True), acceleration, 0.0)


def _from_tracks(history: BEVSequence) -> Agents:
    state = history.track_state
    assert state is not None
    assert history.track_class is not None
    finite = torch.isfinite(state).all(-1)
    past = torch.where(finite[..., None], state[..., :3], 0.0)
    inside = history.grid.contains(past[:, :, -1, 0], past[:, :, -1, 1])
    # At the border a mask may be seen whose centre lies outside; a pedestrian may have no cell.
    here = finite[:, :, -1] & (inside | _has_cells(history.instance[:, -1], state.shape[1]))
    here &= history.track_class > 0
    track = torch.arange(1, state.shape[1] + 1, device=state.device)
    size = torch.where(finite[:, :, -1, None], state[:, :, -1, 3:], 0.0)
    return Agents(
        ids=torch.where(here, track, 0),
        label=torch.where(here, history.track_class, 0).long(),
        past=past,
        seen=finite,
        size=size,
    )


def _has_cells(present: Int[Tensor, "b h w"], tracks: int) -> Bool[Tensor, "b n"]:
    """Which tracks have a cell in a label map (ids beyond the tracks have no state)."""
    ids = present.flatten(1).long()
    ids = torch.where(ids <= tracks, ids, 0)
    seen = torch.zeros(len(ids), tracks + 1, dtype=torch.bool, device=ids.device)
    return seen.scatter(1, ids, True)[:, 1:]


def _from_masks(history: BEVSequence) -> Agents:
    """Poses and sizes from the moments of each mask."""
    count = int(history.instance.max()) + 1 if history.instance.numel() else 1
    x, y, var, area = _moments(history.instance, history.grid, count)
    seen = area > 0
    size = sides(var)
    yaw = _yaw_of_masks(x, y, var, size, seen, history.grid)
    here = seen[..., -1]
    ids = torch.arange(count, device=here.device).expand_as(here) * here
    return Agents(
        ids=ids,
        label=_majority_class(history, count) * here,
        past=torch.where(seen[..., None], torch.stack((x, y, yaw), -1), 0.0),
        seen=seen,
        size=size[:, :, -1],
        boxed=False,
    )


def sides(var: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2"]:
    """Length and width of a rectangle, from its variance xx, yy, xy."""
    xx, yy, xy = var.unbind(-1)
    extent = torch.hypot(xx - yy, 2 * xy)
    return (6 * torch.stack((xx + yy + extent, xx + yy - extent), -1).clamp(min=0)).sqrt()


def _yaw_of_masks(
    x: Tensor, y: Tensor, var: Tensor, size: Tensor, seen: Tensor, grid: BEVGrid
) -> Float[Tensor, "b n t"]:
    """The long axis of each mask, signed by the way the agent moved.

    A mask that is hardly longer than wide (a pedestrian of four cells) has an axis by chance only:
    such an agent faces the way it moved, in every frame.
    """
    moved = torch.stack((x[..., -1:] - x, y[..., -1:] - y), -1) * seen[..., None]
    way = moved.sum(-2)
    axis = 0.5 * torch.atan2(2 * var[..., 2], var[..., 0] - var[..., 1])
    ahead = axis[..., -1:]
    facing = way[..., :1] * ahead.cos() + way[..., 1:] * ahead.sin()
    yaw = se2.wrap(axis + torch.pi * (facing < 0))
    # Each frame's axis may point either way: keep it within a quarter turn of the present one.
    yaw = se2.wrap(yaw + torch.pi * ((yaw - yaw[..., -1:]).cos() < 0))
    long = (size[:, :, -1, 0] - size[:, :, -1, 1]) > 2 * grid.resolution_m
    return torch.where(long[..., None], yaw, torch.atan2(way[..., 1:], way[..., :1]))


def _moments(
    instance: Int[Tensor, "b t h w"], grid: BEVGrid, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y ``(b, n, t)``, variance xx, yy, xy ``(b, n, t, 3)`` and area of every id."""
    batch, frames = instance.shape[:2]
    device = instance.device
    x = torch.as_tensor(grid.x_m, dtype=torch.float32, device=device).expand(grid.shape)
    y = torch.as_tensor(grid.y_m, dtype=torch.float32, device=device)[:, None].expand(grid.shape)
    powers = torch.stack((torch.ones_like(x), x, y, x * x, y * y, x * y), -1).flatten(0, 1)
    ids = instance.flatten(2).long()
    sums = torch.zeros(batch, frames, count, 6, device=device, dtype=torch.float64)
    where = ids[..., None].expand(-1, -1, -1, 6)
    sums.scatter_add_(2, where, powers.double().expand(batch, frames, -1, -1))
    sums[:, :, 0] = 0
    sums = sums.transpose(1, 2)
    area = sums[..., 0]
    mean = sums[..., 1:] / area.clamp(min=1)[..., None]
    mx, my = mean[..., 0], mean[..., 1]
    # A cell is a square, not a point: its own variance makes the sizes those of the mask.
    cell = mean.new_tensor([1.0, 1.0, 0.0]) * grid.resolution_m**2 / 12
    var = mean[..., 2:] - torch.stack((mx * mx, my * my, mx * my), -1) + cell
    return mx.float(), my.float(), var.float(), area


def _majority_class(history: BEVSequence, count: int) -> Int[Tensor, "b n"]:
    ids, label = history.instance[:, -1].flatten(1).long(), history.semantic[:, -1].flatten(1)
    classes = int(label.max()) + 1
    votes = torch.zeros(history.batch, count * classes, device=ids.device)
    votes.scatter_add_(
        1, ids * classes + label.long(), torch.ones_like(votes[:, :1]).expand_as(ids)
    )
    votes = votes.view(history.batch, count, classes)
    votes[..., 0] = 0
    return votes.argmax(-1)


def pack(agents: Agents, slots: int) -> Agents:
    """Live slots first, and only as many slots as the fullest sequence needs (at least one).

    Raises:
        DataError: A sequence has more agents than slots.
    """
    live = agents.live
    most = max(int(live.sum(1).max()) if live.numel() else 0, 1)
    if most > slots:
        worst = int(live.sum(1).argmax())
        raise DataError(
            f"at most {slots} agents at the present frame (model.slots)",
            f"{most} in sequence {worst} of the batch",
            "raise model.slots or use a smaller grid",
        )
    if live.shape[1] == 0:
        live = live.new_zeros(live.shape[0], 1)
    order = torch.argsort((~live).int(), dim=1, stable=True)[:, :most]

    def take(values: Tensor) -> Tensor:
        if values.shape[1] == 0:
            values = values.new_zeros(values.shape[0], 1, *values.shape[2:])
        index = order.view(*order.shape, *[1] * (values.dim() - 2))
        return values.gather(1, index.expand(*order.shape, *values.shape[2:]))

    return Agents(
        ids=take(agents.ids),
        label=take(agents.label),
        past=take(agents.past),
        seen=take(agents.seen),
        size=take(agents.size),
        boxed=agents.boxed,
    )
