"""What a clip's perception costs: heatmap, class and box losses of every history frame.

Sources: Zeng et al., "MOTR" (2022), collective average loss: sums over the clip are divided once,
by the number of its truths and of its tracks that have none any more; focal loss of Lin et al.
(2017), its heatmap form of Zhou et al. (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from forecast.grid import BEVGrid
from forecast.training.matching import Assigned, TruthAssignment

ALPHA, GAMMA = 0.25, 2.0


def perception_loss(assignment: TruthAssignment) -> dict[str, Tensor]:
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
    """Class of every query (nothing is no class at all), box of those that answer for an agent."""
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
    column = (state[..., 0] - grid.x_min_m) / grid.resolution_m - 0.5
    row = (state[..., 1] - grid.y_min_m) / grid.resolution_m - 0.5
    y = torch.arange(heat.shape[-2], device=heat.device)
    x = torch.arange(heat.shape[-1], device=heat.device)
    target = torch.zeros_like(heat)
    # One agent at a time keeps this at the size of the grid; nearest centre cell is exactly 1.
    for sample, track in visible.nonzero().tolist():
        u, v = column[sample, track].round(), row[sample, track].round()
        bump = torch.exp(-((y - v) ** 2)[:, None] / 2 - ((x - u) ** 2)[None] / 2)
        target[sample] = torch.maximum(target[sample], bump)
    chance = torch.sigmoid(heat)
    peak = target > 0.999
    hit = functional.logsigmoid(heat) * (1 - chance) ** 2
    miss = functional.logsigmoid(-heat) * chance**2 * (1 - target) ** 4
    return -torch.where(peak, hit, miss).sum()
