"""Draws agents as masks: box or observed mask, moved to a pose, refined by a mask head.

Only cells near an agent are looked at (``windows.py``): an agent costs what it covers, whatever the
others cover. Coordinates are kept in tensors of their own, because picking from one is several
times quicker than picking rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.grid import SUBCELLS, BEVGrid
from forecast.model.scene.agents import Agents, has_cells
from forecast.model.scene.likelihood import faded, interval
from forecast.model.scene.refiner import Refiner, RowRefiner
from forecast.model.scene.windows import FARTHEST_CELLS, Pairs, sequence_of, turned, windows

FARTHEST_LOGIT = -2.0 * FARTHEST_CELLS
# Logits closer to 0 than this (far more than float32 is off) do not tell on which side of a box's
# edge a cell's centre lies.
EDGE_LOGIT = 1e-3
# How many expected errors from an agent its occupancy ends: less than 0.5 % is left there.
FARTHEST_ERRORS = 4.7
# What is less likely than that fades out, so that nothing jumps where a window ends.
LEAST_LIKELY = 0.005
SUREST = 1 - 1e-6  # that an agent is in a cell


@dataclass(frozen=True)
class Rasters:
    """What one step looks like on the grid (see ``forecast.types.StepForecast``)."""

    instance: Int[Tensor, "b h w"]
    semantic: Int[Tensor, "b h w"]
    occupancy: Float[Tensor, "b k h w"]
    flow: Float[Tensor, "b 2 h w"]


def rasterize(
    agents: Agents,
    pose: Float[Tensor, "b a 3"],
    before: Float[Tensor, "b a 3"],
    existence: Float[Tensor, "b a"],
    drawn: Bool[Tensor, "b a"],
    observed: Int[Tensor, "b h w"] | None,
    grid: BEVGrid,
    classes: int,
    refine: Refiner | None = None,
    least_cell: bool = False,
    uncertainty: Float[Tensor, "b a 2"] | None = None,
) -> Rasters:
    """Rasters of every drawn agent; where masks overlap the smaller agent is on top.

    Args:
        agents: Ids, classes and shapes.
        pose: Where each agent is drawn.
        before: Its pose one step earlier, for the backward flow.
        existence: Probability that it is still there: scales its occupancy.
        drawn: Which slots appear in the label maps.
        observed: Label map of the present frame; only agents known by masks need it.
        grid: The raster's grid.
        classes: Number of classes K.
        refine: Residual logits of a mask head.
        least_cell: Whether a box that no cell centre lies in has the cell that it stands in; only
            where all agents are boxes.
        uncertainty: Expected errors of the poses, metres ahead and aside, which occupancy takes
            into account; None = masks alone say what is occupied.
    """
    pairs, logits = _shapes(agents, pose, observed, grid)
    if refine is not None:
        logits = logits + _refined(agents, pairs, refine)
    if least_cell and agents.boxed:
        logits = _with_least_cell(pairs, pose, logits, grid)
    on_top = _seen(agents, pairs, logits, drawn, grid)
    if uncertainty is None:
        likely = torch.sigmoid(logits)
    else:
        pairs = windows(agents, pose, grid, FARTHEST_ERRORS * uncertainty)
        likely = faded(_covers(agents, pairs, uncertainty), LEAST_LIKELY)
    probability = likely * pairs.of(existence)
    return Rasters(
        _label_map(agents.ids, on_top, grid),
        _label_map(agents.label, on_top, grid),
        _occupancy(agents, pairs, probability, grid, classes),
        _flow(before, on_top, grid),
    )


def rasterize_classes(
    agents: Agents, pose: Float[Tensor, "b a 3"], drawn: Bool[Tensor, "b a"], grid: BEVGrid
) -> Int[Tensor, "b h w"]:
    """The classes alone of :func:`rasterize`, of agents with boxes: what a frame looks like."""
    pairs, logits = _shapes(agents, pose, None, grid)
    return _label_map(agents.label, _seen(agents, pairs, logits, drawn, grid), grid)


def _shapes(
    agents: Agents,
    pose: Float[Tensor, "b a 3"],
    observed: Int[Tensor, "b h w"] | None,
    grid: BEVGrid,
) -> tuple[Pairs, Float[Tensor, "n"]]:
    """The cells near each agent, and how deep each lies inside of it."""
    pairs = windows(agents, pose, grid)
    logits = _shape_logits(agents, pairs, pose, observed, grid)
    # What is drawn must not depend on the size of the window.
    near = (logits > FARTHEST_LOGIT).nonzero().squeeze(1)
    return pairs.take(near), logits.index_select(0, near)


def _seen(
    agents: Agents,
    pairs: Pairs,
    logits: Float[Tensor, "n"],
    drawn: Bool[Tensor, "b a"],
    grid: BEVGrid,
) -> Pairs:
    """The cells that drawn agents are seen in."""
    shown = ((logits > 0) & pairs.of(drawn)).nonzero().squeeze(1)
    return _smaller_on_top(agents, pairs.take(shown), grid)


def _shape_logits(
    agents: Agents,
    pairs: Pairs,
    pose: Float[Tensor, "b a 3"],
    observed: Int[Tensor, "b h w"] | None,
    grid: BEVGrid,
) -> Float[Tensor, "n"]:
    """How deep each cell lies inside its agent: > 0 inside, in half cells.

    A boxed agent is its rectangle; another is its observed mask, sampled bilinearly at the point
    where it was at the present, and its rectangle if it is hidden then.
    """
    if agents.boxed:
        return _box_logits(agents, pairs, pose, grid)
    assert observed is not None
    share = _sample_mask(agents, pairs, observed, grid)
    # The lowest logit where the mask is empty, however large the window.
    logits = torch.where(share > 0, 4 * (share - 0.5), FARTHEST_LOGIT)
    hidden = (~pairs.of(has_cells(observed, agents.ids))).nonzero().squeeze(1)
    boxes = _box_logits(agents, pairs.take(hidden), pose, grid)
    return logits.index_copy(0, hidden, boxes)


def _box_logits(
    agents: Agents, pairs: Pairs, pose: Float[Tensor, "b a 3"], grid: BEVGrid
) -> Float[Tensor, "n"]:
    """The same of rectangles: exact, so that they never blur; edges by the rule of the labels."""
    length, width = (agents.size / 2).unbind(-1)
    ahead = pairs.of(length) - pairs.ahead.abs()
    depth = torch.minimum(ahead, pairs.of(width) - pairs.aside.abs())
    logits = depth * (2 / grid.resolution_m)
    on_edge = (logits.abs() < EDGE_LOGIT).nonzero().squeeze(1)
    unclear = logits.index_select(0, on_edge)
    least = torch.finfo(unclear.dtype).tiny
    covered = _covered(agents, pairs.take(on_edge), pose, grid)
    decided = torch.where(covered, unclear.clamp(min=least), unclear.clamp(max=0))
    return logits.index_copy(0, on_edge, decided)


def _covered(
    agents: Agents, pairs: Pairs, pose: Float[Tensor, "b a 3"], grid: BEVGrid
) -> Bool[Tensor, "n"]:
    """Whether each cell's centre lies in its agent's box, as ``data_tools.labels`` decides it."""
    box = torch.cat((pose, agents.size), -1).flatten(0, 1).index_select(0, pairs.agent)
    x, y, yaw, length, width = box.detach().double().unbind(-1)
    sides = box.new_tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]]).double()
    ahead, aside = 0.5 * length[:, None] * sides[:, 0], 0.5 * width[:, None] * sides[:, 1]
    along, across = turned(ahead, aside, yaw.cos()[:, None], yaw.sin()[:, None])
    corner_x = _in_cells(x[:, None] + along, grid.x_min_m, grid)
    corner_y = _in_cells(y[:, None] + across, grid.y_min_m, grid)
    row, column = (place[:, None] for place in _places(pairs, grid))
    end_x, end_y = (torch.cat((x[:, 1:], x[:, :1]), 1) for x in (corner_x, corner_y))
    rising = end_y > corner_y
    low_x, high_x = torch.where(rising, corner_x, end_x), torch.where(rising, end_x, corner_x)
    low_y, high_y = torch.where(rising, corner_y, end_y), torch.where(rising, end_y, corner_y)
    crosses = (low_y <= row) & (row < high_y)
    share = (row - low_y) / torch.where(crosses, high_y - low_y, 1.0)
    before = crosses & (low_x + share * (high_x - low_x) <= column)
    return before.sum(1) % 2 == 1


def _with_least_cell(
    pairs: Pairs, pose: Float[Tensor, "b a 3"], logits: Float[Tensor, "n"], grid: BEVGrid
) -> Float[Tensor, "n"]:
    """The same, and inside is the cell that an agent stands in if no other is."""
    inside = torch.zeros(pose.shape[:2], device=pose.device).flatten()
    inside = inside.index_add(0, pairs.agent, (logits > 0).to(inside)).view(pose.shape[:2])
    x, y = pose.detach().double()[..., :2].unbind(-1)
    own_column = (_in_cells(x, grid.x_min_m, grid) + 0.5).floor()
    own_row = (_in_cells(y, grid.y_min_m, grid) + 0.5).floor()
    row, column = _places(pairs, grid)
    own = (row == pairs.of(own_row)) & (column == pairs.of(own_column))
    least = torch.finfo(logits.dtype).tiny
    return torch.where(own & (pairs.of(inside) == 0), logits.clamp(min=least), logits)


def _places(pairs: Pairs, grid: BEVGrid) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Row and column of each pair's cell."""
    return pairs.cell // grid.width % grid.height, pairs.cell % grid.width


def _in_cells(metres: Tensor, low_m: float, grid: BEVGrid) -> Tensor:
    """Cells from the centre of the first one, rounded as the labels' are."""
    return ((metres - low_m) * (SUBCELLS / grid.resolution_m)).round() / SUBCELLS - 0.5


def _sample_mask(
    agents: Agents, pairs: Pairs, observed: Int[Tensor, "b h w"], grid: BEVGrid
) -> Float[Tensor, "n"]:
    """Bilinear value of each agent's own observed mask; 0 outside the grid."""
    x, y = pairs.placed(agents.pose)
    u = (x - grid.x_min_m) / grid.resolution_m - 0.5
    v = (y - grid.y_min_m) / grid.resolution_m - 0.5
    left, low = u.floor(), v.floor()
    # A border of background around each sequence: what lies off the grid is read there.
    flat = torch.nn.functional.pad(observed, (1, 1, 1, 1)).flatten()
    height, width = grid.height + 2, grid.width + 2
    column, row = left.clamp(-1, grid.width - 1).long(), low.clamp(-1, grid.height - 1).long()
    corner = sequence_of(agents).index_select(0, pairs.agent) * height
    corner = (corner + row + 1) * width + column + 1
    own, right, up = pairs.of(agents.ids), u - left, v - low
    on_grid = (left >= -1) & (left < grid.width) & (low >= -1) & (low < grid.height)
    total = torch.zeros_like(u)
    for step, weight in (
        (0, (1 - right) * (1 - up)),
        (1, right * (1 - up)),
        (width, (1 - right) * up),
        (width + 1, right * up),
    ):
        total = total + weight * (flat.index_select(0, corner + step) == own)
    return total * on_grid


def _refined(agents: Agents, pairs: Pairs, refine: Refiner) -> Float[Tensor, "n"]:
    """The mask head's logits; it reads as many points for each agent as the largest has."""
    if isinstance(refine, RowRefiner):
        return refine.rows(pairs.agent, torch.stack((pairs.ahead, pairs.aside), -1))
    batch, slots = agents.ids.shape
    count = torch.bincount(pairs.agent, minlength=batch * slots)
    most = max(int(count.amax()), 1)
    start = torch.arange(batch * slots, device=count.device) * most - (count.cumsum(0) - count)
    place = start.index_select(0, pairs.agent)
    place += torch.arange(len(place), device=place.device)
    points = pairs.ahead.new_zeros(batch * slots * most, 2)
    points[place] = torch.stack((pairs.ahead, pairs.aside), -1)
    return refine(points.view(batch, slots, most, 2)).flatten().index_select(0, place)


def _smaller_on_top(agents: Agents, pairs: Pairs, grid: BEVGrid) -> Pairs:
    """Of several agents in one cell, the one that is seen."""
    # Rank 1 = largest agent; ties go to the later slot, so each rank is unique.
    order = torch.argsort(-agents.size.prod(-1), dim=1, stable=True)
    rank = pairs.of(torch.argsort(order, dim=1) + 1)
    best = rank.new_zeros(len(order) * grid.height * grid.width)
    best.scatter_reduce_(0, pairs.cell, rank, "amax")
    seen = rank == best.index_select(0, pairs.cell)
    return pairs.take(seen.nonzero().squeeze(1))


def _label_map(value: Int[Tensor, "b a"], on_top: Pairs, grid: BEVGrid) -> Int[Tensor, "b h w"]:
    """What the agent that is seen in each cell has."""
    flat = value.new_zeros(len(value) * grid.height * grid.width)
    flat.scatter_(0, on_top.cell, on_top.of(value))
    return flat.view(-1, *grid.shape)


def _covers(
    agents: Agents, pairs: Pairs, uncertainty: Float[Tensor, "b a 2"]
) -> Float[Tensor, "n"]:
    """How likely each agent covers each of its cells, if its pose errs as is expected of it."""
    share = torch.ones_like(pairs.ahead)
    for off, size, error in zip(
        (pairs.ahead, pairs.aside), agents.size.unbind(-1), uncertainty.unbind(-1), strict=True
    ):
        share = share * interval(off.abs(), pairs.of(size) / 2, pairs.of(error))
    return share


def _occupancy(
    agents: Agents, pairs: Pairs, probability: Float[Tensor, "n"], grid: BEVGrid, classes: int
) -> Float[Tensor, "b k h w"]:
    """How likely some agent of each class is in each cell, as if agents erred independently."""
    area = grid.height * grid.width
    plane = (agents.label.flatten() - 1).clamp(min=0)
    # From (sequence, cell) to (sequence, class, cell).
    shift = (sequence_of(agents) * (classes - 1) + plane) * area
    flat = probability.new_zeros(len(agents.ids) * classes * area)
    none = torch.log1p(-probability.clamp(max=SUREST))
    flat.index_add_(0, pairs.cell + pairs.of(shift), none)
    return -torch.expm1(flat).view(-1, classes, *grid.shape)


def _flow(before: Float[Tensor, "b a 3"], on_top: Pairs, grid: BEVGrid) -> Float[Tensor, "b 2 h w"]:
    """From each cell back to where its content was one step before."""
    x, y = on_top.placed(before)
    field = x.new_zeros(2, len(before) * grid.height * grid.width)
    field[0].scatter_(0, on_top.cell, x - on_top.x)
    field[1].scatter_(0, on_top.cell, y - on_top.y)
    return field.view(2, -1, *grid.shape).transpose(0, 1)
