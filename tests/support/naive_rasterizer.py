"""Painting as it is defined: every cell of the grid is asked about every agent."""

from __future__ import annotations

import torch
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.cells import metric_cell_centres
from forecast.model.scene.rasterizer import FARTHEST_LOGIT, LEAST_LIKELY, Rasters
from forecast.model.scene.refiner import Refiner


def naive_rasterize(
    agents: Agents,
    pose: Tensor,
    before: Tensor,
    existence: Tensor,
    drawn: Tensor,
    observed: Tensor,
    grid: BEVGrid,
    classes: int,
    refine: Refiner | None = None,
    least_cell: bool = False,
    uncertainty: Tensor | None = None,
) -> Rasters:
    """What ``rasterize`` returns; arguments as there. Boxes of one cell at least it cannot draw."""
    assert not least_cell
    batch, slots = agents.ids.shape
    centres = metric_cell_centres(grid.shape, grid, pose).flatten(0, 1).expand(batch, slots, -1, 2)
    body = se2.unapply(pose[:, :, None], centres)
    present = se2.apply(agents.pose[:, :, None], body)
    logits = (agents.size[:, :, None] / 2 - body.abs()).amin(-1) * (2 / grid.resolution_m)
    if not agents.boxed:
        share = _share(agents, present, observed, grid)
        known = (observed[:, None] == agents.ids[..., None, None]).flatten(2).any(-1)
        masks = torch.where(share > 0, 4 * (share - 0.5), FARTHEST_LOGIT)
        logits = torch.where(known[..., None], masks, logits)
    near = (logits > FARTHEST_LOGIT) & agents.live[..., None]
    if refine is not None:
        logits = logits + refine(body)
    probability = torch.where(near, torch.sigmoid(logits) * existence[..., None], 0.0)
    if uncertainty is not None:
        probability = _likely(agents, body, uncertainty) * (existence * agents.live)[..., None]
    flow = se2.apply(before[:, :, None], body) - centres
    shown = near & (logits > 0) & drawn[..., None]
    flat = torch.zeros(batch, grid.height * grid.width, dtype=torch.long)
    instance, semantic, field = flat, flat.clone(), torch.zeros(*flat.shape, 2)
    for sequence in range(batch):
        area = agents.size[sequence].prod(-1)
        for slot in torch.argsort(-area, stable=True).tolist():  # later ones lie on top
            cells = shown[sequence, slot]
            instance[sequence, cells] = agents.ids[sequence, slot]
            semantic[sequence, cells] = agents.label[sequence, slot]
            field[sequence, cells] = flow[sequence, slot, cells]
    kind = torch.arange(1, classes + 1)[:, None]
    own = (agents.label[:, None] == kind)[..., None]
    occupancy = 1 - torch.where(own, 1 - probability[:, None], 1.0).prod(2)
    return Rasters(
        instance.view(batch, *grid.shape),
        semantic.view(batch, *grid.shape),
        occupancy.view(batch, classes, *grid.shape),
        field.view(batch, *grid.shape, 2).permute(0, 3, 1, 2),
    )


def _likely(agents: Agents, body: Tensor, uncertainty: Tensor) -> Tensor:
    """How likely each point lies in a box whose place has Laplace errors, by numbers drawn."""
    levels = (torch.arange(20_001) + 0.5) / 20_001
    error = torch.distributions.Laplace(0.0, 1.0).icdf(levels)
    share = torch.ones_like(body[..., 0])
    for axis in (0, 1):
        half, scale = agents.size[..., axis, None] / 2, uncertainty[..., axis, None]
        low, high = ((body[..., axis] + side * half) / scale for side in (-1, 1))
        below = [torch.searchsorted(error, edge.contiguous()) for edge in (low, high)]
        share = share * (below[1] - below[0]) / len(error)
    return share * (share / LEAST_LIKELY - 1).clamp(0, 1)


def _share(agents: Agents, points: Tensor, observed: Tensor, grid: BEVGrid) -> Tensor:
    """Bilinear value of each agent's own mask at points in metres."""
    masks = (observed[:, None] == agents.ids[..., None, None]).float().flatten(0, 1)[:, None]
    low = points.new_tensor([grid.x_min_m, grid.y_min_m])
    extent = points.new_tensor([grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m])
    where = ((points - low) / extent * 2 - 1).flatten(0, 1)[:, None]
    share = torch.nn.functional.grid_sample(masks, where, align_corners=False)
    return share.view(points.shape[:-1])
