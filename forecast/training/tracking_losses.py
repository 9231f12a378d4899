"""Losses of detected input: heatmap, class and box losses of every history frame.

Sources: Zeng et al., "MOTR" (2022), collective average loss: sums over the clip are divided once,
by the number of its truths and of its tracks whose agent is gone; focal loss of Lin et al.
(2017), its heatmap form of Zhou et al. (2019).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from forecast.grid import BEVGrid
from forecast.training.matching import Assigned, TruthAssignment

ALPHA, GAMMA = 0.25, 2.0
# Beyond this distance from its centre a bump is below 1e-7.
BUMP_CELLS = 5


def tracking_loss(assignment: TruthAssignment) -> dict[str, Tensor]:
    """Sums over all history frames of each part of the loss, and ``agents`` to divide them by.

    Earlier decoder layers and noised truths (the latter divided by their groups) have class and box
    losses of their own, under names of their own.
    """
    groups = max(1, assignment.rules.denoising)
    totals: dict[str, Tensor] = {}
    for one in assignment.frames:
        visible = assignment.visible[:, :, one.queries.frame]
        state = assignment.state[:, :, one.queries.frame]
        heat = _heat_loss(one.queries.heat, state, visible, assignment.grid)
        _add(totals, {"heat": heat, "agents": visible.sum() + one.disappeared.sum()})
        _add(totals, _answer_loss(one, assignment))
    for one in assignment.earlier:
        parts = _answer_loss(one, assignment)
        _add(totals, {f"earlier_{name}": part for name, part in parts.items()})
    for one in assignment.denoised:
        parts = _answer_loss(one, assignment)
        _add(totals, {f"denoised_{name}": part / groups for name, part in parts.items()})
    return totals


def _add(totals: dict[str, Tensor], parts: dict[str, Tensor]) -> None:
    for name, part in parts.items():
        totals[name] = totals.get(name, 0.0) + part


def _answer_loss(assigned: Assigned, assignment: TruthAssignment) -> dict[str, Tensor]:
    """Class loss of every query (background is no class), box loss of those matched to an agent."""
    queries, ids = assigned.queries, assigned.truth
    sample, query = (ids > 0).nonzero(as_tuple=True)
    track = ids[sample, query] - 1
    truth = assignment.state[sample, track, queries.frame]
    target = torch.zeros_like(queries.score)
    target[sample, query, assignment.label[sample, track] - 1] = 1.0
    classes = sigmoid_focal_loss(queries.score, target, ALPHA, GAMMA)
    pose, size = queries.pose[sample, query], queries.size[sample, query]
    return {
        "class": 2.0 * (classes * queries.live[..., None]).sum(),
        "box": (pose[:, :2] - truth[:, :2]).abs().sum()
        + (1 - (pose[:, 2] - truth[:, 2]).cos()).sum()
        + (size.log() - truth[:, 3:].clamp(min=0.1).log()).abs().sum(),
    }


def _heat_loss(heat: Tensor, state: Tensor, visible: Tensor, grid: BEVGrid) -> Tensor:
    target = _bumps(heat, state, visible, grid)
    chance = torch.sigmoid(heat)
    peak = target > 0.999
    hit = functional.logsigmoid(heat) * (1 - chance) ** 2
    miss = functional.logsigmoid(-heat) * chance**2 * (1 - target) ** 4
    return -torch.where(peak, hit, miss).sum()


def _bumps(
    heat: Float[Tensor, "b h w"],
    state: Float[Tensor, "b n 5"],
    visible: Bool[Tensor, "b n"],
    grid: BEVGrid,
) -> Float[Tensor, "b h w"]:
    """A bump of height 1 at the cell of each visible agent; the highest where they meet."""
    height, width = heat.shape[1:]
    row, column = (
        ((state[..., axis] - low) / grid.resolution_m - 0.5).nan_to_num().round().long()
        for axis, low in ((1, grid.y_min_m), (0, grid.x_min_m))
    )
    near = torch.arange(-BUMP_CELLS, BUMP_CELLS + 1, device=heat.device)
    bump = torch.exp(-(near.square()[:, None] + near.square()) / 2).to(heat.dtype)
    rows, columns = row[..., None, None] + near[:, None], column[..., None, None] + near
    there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    there = there & visible[..., None, None]
    # Cells off the grid add 0 to cell 0.
    place = torch.where(there, rows * width + columns, 0).flatten(1)
    target = torch.zeros_like(heat).flatten(1)
    return target.scatter_reduce(1, place, (bump * there).flatten(1), "amax").view_as(heat)
