"""Track-aware assignment: tracks keep their truth, only candidates are matched to new ones.

Source: Zeng et al., "MOTR" (2022), tracklet-aware label assignment. A track whose agent is gone is
labelled as nothing at all, in every class (MOTRv2 issue 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model.tracker import FrameQueries

CLASS_COST = 2.0
CENTRE_COST_PER_M = 1.0
# A truth that no candidate lies near was not found by the heatmap: nobody is blamed for it.
REACH_M = 4.0


@dataclass(frozen=True)
class Assigned:
    """Which truth every query of a frame answers for: track id, or 0 for nothing."""

    queries: FrameQueries
    truth: Int[Tensor, "b q"]


class TruthAssignment:
    """Decides births by the truth, in training; remembers what it decided for the loss.

    Args:
        state: ``track_state`` of the history frames.
        label: ``track_class``.
        grid: Agents off the grid cannot be seen.
    """

    def __init__(
        self, state: Float[Tensor, "b n t 5"], label: Int[Tensor, "b n"], grid: BEVGrid
    ) -> None:
        self.state, self.label = state, label.long()
        self.visible = torch.isfinite(state).all(-1) & grid.contains(state[..., 0], state[..., 1])
        self.visible &= label[..., None] > 0
        self.frames: list[Assigned] = []

    def __call__(self, queries: FrameQueries) -> Int[Tensor, "b q"]:
        """The ids of tracks still visible, and of candidates matched to visible new agents."""
        count = queries.candidates
        ids = queries.ids.clone()
        visible = self.visible[:, :, queries.frame]
        gone = ~visible.gather(1, (ids - 1).clamp(min=0))
        ids[gone] = 0
        for index in range(len(ids)):
            known = torch.zeros_like(visible[index])
            known[(ids[index][ids[index] > 0] - 1)] = True
            new = (visible[index] & ~known).nonzero().squeeze(1)
            rows, columns = self._match(queries, index, new)
            ids[index, rows] = new[columns] + 1
        assert not bool((ids[:, :count] > 0)[~queries.live[:, :count]].any())
        self.frames.append(Assigned(queries, ids))
        return ids

    def _match(
        self, queries: FrameQueries, index: int, new: Int[Tensor, "m"]
    ) -> tuple[Tensor, Tensor]:
        """Candidates and new truths that belong together, by least total cost."""
        with torch.no_grad():
            count = queries.candidates
            distance = torch.cdist(
                queries.pose[index, :count, :2], self.state[index, new, queries.frame, :2]
            )
            chance = torch.sigmoid(queries.score[index, :count])[:, self.label[index, new] - 1]
            cost = CENTRE_COST_PER_M * distance - CLASS_COST * chance
            cost = cost.masked_fill(~queries.live[index, :count, None], 1e6)
            rows, columns = linear_sum_assignment(cost.cpu().numpy())
            near = (distance[rows, columns] < REACH_M) & queries.live[index][rows]
        chosen = near.cpu().numpy()
        device = distance.device
        return (
            torch.as_tensor(rows[chosen], device=device),
            torch.as_tensor(columns[chosen], device=device),
        )


def perception_loss(assignment: TruthAssignment, grid: BEVGrid) -> dict[str, Tensor]:
    """Heatmap, class and box losses of every history frame, summed, and how many truths there were.

    Source: focal loss of Lin et al. (2017), its heatmap form of Zhou et al. (2019).
    """
    totals: dict[str, Tensor] = {}
    for frame in assignment.frames:
        parts = _frame_loss(frame, assignment, grid)
        totals = {name: totals.get(name, 0.0) + part for name, part in parts.items()}
    return totals


def _frame_loss(
    assigned: Assigned, assignment: TruthAssignment, grid: BEVGrid
) -> dict[str, Tensor]:
    queries, ids = assigned.queries, assigned.truth
    state = assignment.state[:, :, queries.frame]
    visible = assignment.visible[:, :, queries.frame]
    sample, query = (ids > 0).nonzero(as_tuple=True)
    track = ids[sample, query] - 1
    truth = state[sample, track]
    target = torch.zeros_like(queries.score)
    target[sample, query, assignment.label[sample, track] - 1] = 1.0
    pose, size = queries.pose[sample, query], queries.size[sample, query]
    return {
        "heat": _heat_loss(queries.heat, state, visible, grid),
        "class": 2.0 * (_focal(queries.score, target) * queries.live[..., None]).sum(),
        "box": (pose[:, :2] - truth[:, :2]).abs().sum()
        + (1 - (pose[:, 2] - truth[:, 2]).cos()).sum()
        + (size.log() - truth[:, 3:].clamp(min=0.1).log()).abs().sum(),
        "agents": visible.sum().to(pose.dtype),
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


def _focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    chance = torch.sigmoid(logits)
    wrong = chance * (1 - target) + (1 - chance) * target
    return (alpha * target + (1 - alpha) * (1 - target)) * cross * wrong**gamma
