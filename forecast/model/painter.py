"""Draws agents as masks: box or observed mask, moved to a pose, refined by a mask head."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model import se2
from forecast.model.agents import Agents

# Adds to the logit of points (b, a, p, 2), given in the present frame's metres at the present time.
Refiner = Callable[[Float[Tensor, "b a p 2"]], Float[Tensor, "b a p"]]


# Cells further than two cells from an agent are not its own.
FARTHEST_LOGIT = -4.0


@dataclass(frozen=True)
class Rasters:
    """What one step looks like on the grid (see ``forecast.types.StepForecast``)."""

    instance: Int[Tensor, "b h w"]
    semantic: Int[Tensor, "b h w"]
    occupancy: Float[Tensor, "b k h w"]
    flow: Float[Tensor, "b 2 h w"]


def shape_logits(
    agents: Agents, body: Float[Tensor, "b a p 2"], observed: Int[Tensor, "b h w"], grid: BEVGrid
) -> Float[Tensor, "b a p"]:
    """How deep points of each agent's own frame lie inside it: > 0 inside, in half cells.

    A boxed agent is its rectangle (exact, so it never blurs); another is its observed mask,
    sampled bilinearly at the point where it was at the present.
    """
    if agents.boxed:
        depth = (agents.size[:, :, None] / 2 - body.abs()).amin(-1)
        return depth * (2 / grid.resolution_m)
    there = se2.apply(agents.pose[:, :, None], body)
    share = _sample_mask(observed, agents.ids, there, grid)
    # Where nothing of the mask is, the window's size must not show.
    return torch.where(share > 0, 4 * (share - 0.5), FARTHEST_LOGIT)


def paint(
    agents: Agents,
    pose: Float[Tensor, "b a 3"],
    before: Float[Tensor, "b a 3"],
    existence: Float[Tensor, "b a"],
    drawn: Bool[Tensor, "b a"],
    observed: Int[Tensor, "b h w"],
    grid: BEVGrid,
    classes: int,
    refine: Refiner | None = None,
) -> Rasters:
    """Rasters of every drawn agent; where masks overlap the smaller agent is on top.

    Only a window around each agent is evaluated.

    Args:
        agents: Ids, classes and shapes.
        pose: Where each agent is drawn.
        before: Its pose one step earlier, for the backward flow.
        existence: Probability that it is still there: scales its occupancy.
        drawn: Which slots appear in the label maps.
        observed: Label map of the present frame.
        grid: The raster's grid.
        classes: Number of classes K.
        refine: Residual logits of a mask head.
    """
    cells, centres, inside = _windows(agents, pose, grid)
    body = se2.unapply(pose[:, :, None], centres)
    logits = shape_logits(agents, body, observed, grid)
    # The window is as large as the largest agent of the batch: nobody may be drawn by its size.
    inside = inside & (logits > FARTHEST_LOGIT)
    if refine is not None:
        logits = logits + refine(se2.apply(agents.pose[:, :, None], body))
    on_top = _smaller_on_top(logits, cells, inside & drawn[..., None], agents, grid)
    flow = se2.apply(before[:, :, None], body) - centres
    probability = torch.sigmoid(logits) * existence[..., None]
    return _compose(agents, on_top, probability, flow, cells, inside, grid, classes)


def _windows(agents: Agents, pose: Tensor, grid: BEVGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Flat cell index, centre in metres and validity of the cells around each agent."""
    reach = (torch.linalg.vector_norm(agents.size, dim=-1) * agents.live).amax()
    radius = min(math.ceil(float(reach) / 2 / grid.resolution_m) + 3, max(grid.shape))
    offset = torch.arange(-radius, radius + 1, device=pose.device)
    safe = torch.nan_to_num(pose)
    column = ((safe[..., 0] - grid.x_min_m) / grid.resolution_m).floor().long()
    row = ((safe[..., 1] - grid.y_min_m) / grid.resolution_m).floor().long()
    columns = (column[..., None, None] + offset[None, None, None, :]).expand(
        -1, -1, len(offset), -1
    )
    rows = (row[..., None, None] + offset[None, None, :, None]).expand_as(columns)
    inside = (columns >= 0) & (columns < grid.width) & (rows >= 0) & (rows < grid.height)
    inside = (inside & agents.live[..., None, None]).flatten(2)
    centres = torch.stack(
        (
            grid.x_min_m + (columns + 0.5) * grid.resolution_m,
            grid.y_min_m + (rows + 0.5) * grid.resolution_m,
        ),
        -1,
    )
    cells = (rows * grid.width + columns).flatten(2)
    return torch.where(inside, cells, 0), centres.flatten(2, 3).to(pose.dtype), inside


def _smaller_on_top(
    logits: Tensor, cells: Tensor, inside: Tensor, agents: Agents, grid: BEVGrid
) -> Bool[Tensor, "b a p"]:
    """Which window cells their agent wins."""
    batch = len(logits)
    # Rank 1 = largest agent; ties go to the later slot, so each rank is unique.
    order = torch.argsort(-agents.size.prod(-1), dim=1, stable=True)
    rank = torch.argsort(order, dim=1) + 1
    mine = torch.where(inside & (logits > 0), rank[..., None], 0)
    best = torch.zeros(batch, grid.height * grid.width, dtype=mine.dtype, device=mine.device)
    best.scatter_reduce_(1, cells.flatten(1), mine.flatten(1), "amax")
    top = best.gather(1, cells.flatten(1)).view_as(mine)
    return (mine > 0) & (mine == top)


def _compose(
    agents: Agents,
    on_top: Tensor,
    probability: Tensor,
    flow: Tensor,
    cells: Tensor,
    inside: Tensor,
    grid: BEVGrid,
    classes: int,
) -> Rasters:
    batch, area = on_top.shape[0], grid.height * grid.width
    sample, slot, place = on_top.nonzero(as_tuple=True)
    cell = cells[sample, slot, place]
    instance = torch.zeros(batch, area, dtype=torch.long, device=cells.device)
    semantic = torch.zeros_like(instance)
    field = probability.new_zeros(batch, area, 2)
    instance[sample, cell] = agents.ids[sample, slot]
    semantic[sample, cell] = agents.label[sample, slot]
    field[sample, cell] = flow[sample, slot, place]
    occupancy = probability.new_zeros(batch, classes * area)
    plane = (agents.label - 1).clamp(min=0)[..., None] * area + cells
    there = torch.where(inside, probability, 0.0)
    occupancy.scatter_reduce_(1, plane.flatten(1), there.flatten(1), "amax")
    return Rasters(
        instance.view(batch, *grid.shape),
        semantic.view(batch, *grid.shape),
        occupancy.view(batch, classes, *grid.shape),
        field.view(batch, *grid.shape, 2).permute(0, 3, 1, 2),
    )


def _sample_mask(
    observed: Int[Tensor, "b h w"],
    ids: Int[Tensor, "b a"],
    points: Float[Tensor, "b a p 2"],
    grid: BEVGrid,
) -> Float[Tensor, "b a p"]:
    """Bilinear value of the mask ``observed == id`` at points in metres; 0 outside the grid."""
    u = (points[..., 0] - grid.x_min_m) / grid.resolution_m - 0.5
    v = (points[..., 1] - grid.y_min_m) / grid.resolution_m - 0.5
    left, low = u.floor(), v.floor()
    flat = observed.flatten(1).long()
    total = torch.zeros_like(u)
    for column, row, weight in (
        (left, low, (left + 1 - u) * (low + 1 - v)),
        (left + 1, low, (u - left) * (low + 1 - v)),
        (left, low + 1, (left + 1 - u) * (v - low)),
        (left + 1, low + 1, (u - left) * (v - low)),
    ):
        valid = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
        cell = torch.where(valid, row * grid.width + column, 0).long()
        label = flat.gather(1, cell.flatten(1)).view_as(cell)
        total = total + weight * (valid & (label == ids[..., None]))
    return total
