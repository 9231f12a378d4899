"""Which tracks are born and which go on, by scores: used where the truth is not known.

Source: Zeng et al., "MOTR" (2022): thresholds of birth and of staying, and a tolerance of misses.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from forecast.model.scene import se2
from forecast.model.tracking.tracks import Decision, FrameQueries


class TrackManager:
    """Decides by scores, when forecasting: which candidates are born and which tracks go on.

    Args:
        birth_threshold: Probability from which a candidate becomes a track.
        track_threshold: Probability from which a track is seen again.
        miss_tolerance: Frames in a row that a track may go unseen before it ends.
    """

    def __init__(
        self, birth_threshold: float, track_threshold: float, miss_tolerance: int = 0
    ) -> None:
        self.birth_threshold, self.track_threshold = birth_threshold, track_threshold
        self.miss_tolerance = miss_tolerance

    def denoising_queries(self, frame: int) -> None:
        """Forecasting needs no further queries."""

    def __call__(self, queries: FrameQueries) -> Decision:
        """New ids count on from the largest so far in each sequence."""
        count = queries.candidates
        probability = torch.sigmoid(queries.score.amax(-1))
        seen = probability[:, count:] >= self.track_threshold
        goes_on = seen | (queries.missed[:, count:] < self.miss_tolerance)
        tracks = torch.where(goes_on, queries.ids[:, count:], 0)
        good = queries.live[:, :count] & (probability[:, :count] >= self.birth_threshold)
        # Also in the box of a track that is not seen now: what appears there is that track.
        good &= ~self._covered(queries, tracks > 0)
        good &= ~self._repeated(queries, probability, good)
        fresh = torch.where(good, good.cumsum(1) + queries.used[:, None], 0)
        return Decision(torch.cat((fresh, tracks), 1), torch.cat((good, seen & (tracks > 0)), 1))

    def _covered(self, queries: FrameQueries, kept: Tensor) -> Bool[Tensor, "b n"]:
        """Candidates whose centre lies in the box of a track that goes on."""
        count = queries.candidates
        body = se2.unapply(queries.pose[:, count:, None], queries.pose[:, None, :count, :2])
        inside = (body.abs() < queries.size[:, count:, None] / 2).all(-1)
        return (inside & kept[:, :, None]).any(1)

    def _repeated(
        self, queries: FrameQueries, probability: Tensor, good: Tensor
    ) -> Bool[Tensor, "b n"]:
        """Candidates whose centre lies in the box of a better one."""
        count = queries.candidates
        body = se2.unapply(queries.pose[:, :count, None], queries.pose[:, None, :count, :2])
        inside = (body.abs() < queries.size[:, :count, None] / 2).all(-1)
        score = probability[:, :count]
        better = score[:, :, None] > score[:, None, :]
        return (inside & better & good[:, :, None]).any(1)
