"""What newcomers are compared with: the cells of agents that no query stands for."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.cells import metric_cell_centres

# Cells are counted in vehicles, so that this loss is of the size of the others.
VEHICLE_M2 = 10.0


def newcomer_loss(
    logits: Float[Tensor, "b k h w"],
    agents: Agents,
    track_state: Float[Tensor, "b n 5"],
    track_class: Int[Tensor, "b n"],
    grid: BEVGrid,
) -> Tensor:
    """Cross-entropy of newcomers' cells, summed over cells.

    Args:
        logits: Of each cell of some map of the grid and each class.
        agents: The slots; ``track = id - 1``.
        track_state: True states at this lead, NaN where absent.
        track_class: Class of each track.
        grid: The grid.
    """
    there = torch.isfinite(track_state).all(-1) & (track_class > 0)
    there = there & ~_known(agents, there.shape[1])
    cells = _cells(there, track_state, track_class, logits, grid)
    loss = functional.binary_cross_entropy_with_logits(logits, cells, reduction="sum")
    cell_m2 = grid.height * grid.width * grid.resolution_m**2 / cells[0, 0].numel()
    return loss * (cell_m2 / VEHICLE_M2)


def _known(agents: Agents, tracks: int) -> Bool[Tensor, "b n"]:
    """Which tracks a slot stands for."""
    track = torch.arange(1, tracks + 1, device=agents.ids.device)
    own = torch.where(agents.live, agents.ids, 0)
    return (own[:, None] == track[:, None]).any(-1)


def _cells(
    there: Bool[Tensor, "b n"],
    track_state: Float[Tensor, "b n 5"],
    track_class: Int[Tensor, "b n"],
    like: Float[Tensor, "b k h w"],
    grid: BEVGrid,
) -> Float[Tensor, "b k h w"]:
    """1 where a cell's centre lies in the box of such a track."""
    batch, classes, height, width = like.shape
    centres = metric_cell_centres((height, width), grid, like).flatten(0, 1)
    sequence, track = there.nonzero(as_tuple=True)
    state = track_state[sequence, track]
    body = se2.unapply(state[:, None, :3], centres[None])
    inside = (body.abs() < state[:, None, 3:] / 2).all(-1)
    cells = like.new_zeros(batch * classes, height * width)
    plane = sequence * classes + track_class[sequence, track].long() - 1
    cells = cells.index_add(0, plane, inside.to(cells.dtype))
    return cells.clamp(max=1).view(like.shape)
