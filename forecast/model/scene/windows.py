"""Which cells lie near each agent, as one list of pairs (agent, cell) for the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene.agents import Agents

# Cells further than two cells from an agent are not its own.
FARTHEST_CELLS = 2
# What a mask may reach beyond the size that was fitted to it.
MASK_MARGIN_CELLS = 3


@dataclass(frozen=True)
class Pairs:
    """Agents and cells near them, sorted by agent.

    Attributes:
        agent: Index of the slot among all slots of the batch.
        cell: Index of the cell among all cells of the batch.
        x, y: Centre of the cell, metres.
        ahead, aside: The same in the agent's own frame.
    """

    agent: Int[Tensor, "n"]
    cell: Int[Tensor, "n"]
    x: Float[Tensor, "n"]
    y: Float[Tensor, "n"]
    ahead: Float[Tensor, "n"]
    aside: Float[Tensor, "n"]

    def of(self, slots: Float[Tensor, "b a"] | Int[Tensor, "b a"] | Bool[Tensor, "b a"]) -> Tensor:
        """What each agent has, for each of its pairs."""
        return slots.flatten().index_select(0, self.agent)

    def take(self, index: Int[Tensor, "k"]) -> Pairs:
        """Some of them."""
        return Pairs(*(getattr(self, item.name).index_select(0, index) for item in fields(self)))

    def placed(self, pose: Float[Tensor, "b a 3"]) -> tuple[Tensor, Tensor]:
        """Where each cell's content is if its agent stands at another pose, metres."""
        x, y, yaw = pose.unbind(-1)
        along, across = turned(self.ahead, self.aside, self.of(yaw.cos()), self.of(yaw.sin()))
        return along + self.of(x), across + self.of(y)


def windows(
    agents: Agents,
    pose: Float[Tensor, "b a 3"],
    grid: BEVGrid,
    beyond: Float[Tensor, "b a 2"] | None = None,
) -> Pairs:
    """The cells of a rectangle around each agent, as far as they are on the grid.

    Args:
        agents: Their shapes.
        pose: Where they are.
        grid: The grid.
        beyond: How far the rectangle reaches beyond them, ahead and aside, metres; None = the
            margin of what is drawn.
    """
    whole = (agents.live & torch.isfinite(pose).all(-1)).flatten()
    x, y, yaw = torch.nan_to_num(pose).flatten(0, 1).unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    reach_x, reach_y = _reach(agents, cos, sin, grid, beyond)
    first_row, rows = _touched(y - grid.y_min_m, reach_y, grid.height, grid.resolution_m)
    first_column, columns = _touched(x - grid.x_min_m, reach_x, grid.width, grid.resolution_m)
    # First the rows of each agent, then the cells of each row.
    owner, row = _runs(first_row, rows * whole)
    line, column = _runs(first_column.index_select(0, owner), columns.index_select(0, owner))
    agent = owner.index_select(0, line)
    up = (grid.y_min_m + (row + 0.5) * grid.resolution_m).to(pose.dtype)
    centre_x = (grid.x_min_m + (column + 0.5) * grid.resolution_m).to(pose.dtype)
    centre_y = up.index_select(0, line)
    begin = (sequence_of(agents).index_select(0, owner) * grid.height + row) * grid.width
    dx, dy = centre_x - x.index_select(0, agent), centre_y - y.index_select(0, agent)
    body = turned(dx, dy, cos.index_select(0, agent), -sin.index_select(0, agent))
    return Pairs(agent, begin.index_select(0, line) + column, centre_x, centre_y, *body)


def _reach(
    agents: Agents, cos: Tensor, sin: Tensor, grid: BEVGrid, beyond: Tensor | None
) -> tuple[Tensor, Tensor]:
    """How far each agent and its margin reach along x and y, metres."""
    length, width = agents.size.flatten(0, 1).unbind(-1)
    if agents.boxed or beyond is not None:
        margin = FARTHEST_CELLS * grid.resolution_m
        far = (margin, margin) if beyond is None else beyond.flatten(0, 1).unbind(-1)
        ahead, aside = length / 2 + far[0], width / 2 + far[1]
        cos, sin = cos.abs(), sin.abs()
        return cos * ahead + sin * aside, sin * ahead + cos * aside
    # The parts of a mask may lie further apart than its size tells: room for the largest.
    largest = (torch.hypot(length, width) * agents.live.flatten()).amax()
    cells = (largest / 2 / grid.resolution_m).ceil() + MASK_MARGIN_CELLS
    reach = (cells * grid.resolution_m).expand_as(length)
    return reach, reach


def _touched(
    centre: Float[Tensor, "n"], reach: Float[Tensor, "n"], cells: int, resolution_m: float
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """The first cell of an axis that an interval touches, and how many it does."""
    first = ((centre - reach) / resolution_m).floor().clamp(0, cells).long()
    end = ((centre + reach) / resolution_m).ceil().clamp(0, cells).long()
    return first, end - first


def _runs(first: Int[Tensor, "n"], count: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Runs of numbers one after the other: which run each belongs to, and the number."""
    run = _repeated(count) if torch.compiler.is_exporting() else torch.repeat_interleave(count)
    start = first - (count.cumsum(0) - count)
    return run, start.index_select(0, run) + torch.arange(run.shape[0], device=run.device)


def _repeated(count: Int[Tensor, "n"]) -> Tensor:
    """As ``torch.repeat_interleave``, whose ONNX form compares every run with every number."""
    start, total = count.cumsum(0) - count, cast(int, count.sum().item())
    torch._check(total >= 0)
    begun = count.new_zeros(total + 1).scatter_add(0, start, torch.ones_like(start))
    return begun.cumsum(0)[:-1] - 1


def turned(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Points turned by angles whose cosines and sines are given."""
    return cos * x - sin * y, sin * x + cos * y


def sequence_of(agents: Agents) -> Int[Tensor, "s"]:
    """Which sequence of the batch each slot belongs to."""
    batch, slots = agents.ids.shape
    return torch.arange(batch, device=agents.ids.device).repeat_interleave(slots)
