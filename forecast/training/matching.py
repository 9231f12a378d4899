"""Track-aware assignment: tracks keep their truth, only candidates are matched to new ones.

Source: Zeng et al., "MOTR" (2022), tracklet-aware label assignment. A track whose agent is gone is
labelled as background in every class (MOTRv2 issue 8). Earlier decoder layers share the pairs
of tracks and the candidates, and match these anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from forecast.config.training import TrackRules
from forecast.grid import BEVGrid
from forecast.model.layers.assignment import least_cost
from forecast.model.tracking.tracks import Decision, DenoisingQueries, FrameQueries
from forecast.training.track_rules import carried_on

CLASS_COST = 2.0
CENTRE_COST_PER_M = 1.0
# A truth without a candidate this near was missed by the heatmap: no query is matched to it.
REACH_M = 4.0

# Makes denoising queries of the true state, class and visibility of every track at one frame.
Denoise = Callable[[Tensor, Tensor, Tensor], DenoisingQueries]


@dataclass(frozen=True)
class Assigned:
    """Which truth every query of a frame answers for: track id, or 0 for nothing."""

    queries: FrameQueries
    truth: Int[Tensor, "b q"]

    @property
    def disappeared(self) -> Bool[Tensor, "b q"]:
        """Tracks whose agent is gone."""
        return (self.queries.ids > 0) & (self.truth == 0)


class TruthAssignment:
    """Manages tracks by the truth in training, and keeps the assignments for the loss.

    Args:
        state: ``track_state`` of the history frames.
        label: ``track_class``.
        grid: Agents off the grid cannot be seen.
        rules: Which tracks go on.
        generator: Of these rules; None = torch's own.
        denoise: Makes noised truths, or None.

    Attributes:
        frames: What the queries of each frame answer for.
        earlier: The same after each earlier decoder layer.
        denoised: What noised truths answer for.
    """

    def __init__(
        self,
        state: Float[Tensor, "b n t 5"],
        label: Int[Tensor, "b n"],
        grid: BEVGrid,
        rules: TrackRules | None = None,
        generator: Generator | None = None,
        denoise: Denoise | None = None,
    ) -> None:
        self.state, self.label, self.grid = state, label.long(), grid
        self.visible = torch.isfinite(state).all(-1) & grid.contains(state[..., 0], state[..., 1])
        self.visible &= label[..., None] > 0
        self.rules, self.generator, self.denoise = rules or TrackRules(), generator, denoise
        self.frames: list[Assigned] = []
        self.earlier: list[Assigned] = []
        self.denoised: list[Assigned] = []

    def denoising_queries(self, frame: int) -> DenoisingQueries | None:
        """Noised truths of a frame."""
        if self.denoise is None:
            return None
        return self.denoise(self.state[:, :, frame], self.label, self.visible[:, :, frame])

    def __call__(self, queries: FrameQueries) -> Decision:
        """Tracks still visible go on; candidates matched to new visible agents become tracks."""
        frame = queries.frame
        # Column 0: a query without an id has no agent.
        there = functional.pad(self.visible[:, :, frame], (1, 0))
        kept = torch.where(there.gather(1, queries.ids.clamp(min=0)), queries.ids, 0)
        truth = self._answers(queries, kept)
        self.frames.append(Assigned(queries, truth))
        if self.rules.auxiliary:
            self.earlier += [Assigned(one, self._answers(one, kept)) for one in queries.earlier]
        if queries.denoised is not None:
            self.denoised.append(Assigned(queries.denoised, queries.denoised.ids))
        ids = truth
        if frame + 1 < self.state.shape[2]:  # after the last frame no track goes on
            ids = carried_on(queries, truth, self.state[:, :, frame], self.rules, self.generator)
        return Decision(ids, ids != 0)

    @torch.no_grad()
    def _answers(self, queries: FrameQueries, kept: Int[Tensor, "b q"]) -> Int[Tensor, "b q"]:
        """The truth of every query after one decoder layer, given that of the tracks."""
        free = torch.arange(kept.shape[1], device=kept.device) < queries.candidates
        if self.rules.match_inserted:
            free = free | (queries.ids < 0)
        taken = torch.zeros_like(self.visible[:, :, 0])
        taken = functional.pad(taken, (1, 0)).scatter(1, kept.clamp(min=0), True)[:, 1:]
        new = self.visible[:, :, queries.frame] & ~taken
        distance = self._distance(queries)
        chance = torch.sigmoid(queries.score).gather(
            2, (self.label - 1).clamp(min=0)[:, None].expand(distance.shape)
        )
        cost = CENTRE_COST_PER_M * distance - CLASS_COST * chance
        # Matching runs on the CPU: all of its inputs are moved there at once.
        near, truth = (distance < REACH_M).cpu(), kept.cpu().clone()
        cost, free, new = cost.cpu(), (free & queries.live).cpu(), new.cpu()
        for index in range(len(truth)):
            mine, fresh = (which[index].nonzero().squeeze(1) for which in (free, new))
            rows, columns = least_cost(cost[index, mine][:, fresh])
            rows, columns = mine[rows], fresh[columns]
            close = near[index, rows, columns]
            truth[index, rows[close]] = columns[close] + 1
        return truth.to(kept.device)

    def _distance(self, queries: FrameQueries) -> Float[Tensor, "b q n"]:
        """From every query to every truth, metres; NaN where the truth is absent."""
        gap = queries.pose[:, :, None, :2].float() - self.state[:, None, :, queries.frame, :2]
        return torch.hypot(gap[..., 0], gap[..., 1])
