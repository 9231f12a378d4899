"""Tracks through the history, the queries of one frame, and what decides which of them go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.model.scene import se2
from forecast.types import map_tensors


@dataclass(frozen=True)
class FrameQueries:
    """What was decoded of one history frame: N candidates first, then S tracks.

    Attributes:
        frame: Index of the frame.
        heat: Logit of an agent's centre at every cell.
        candidates: N.
        ids: Track id of each query; 0 for candidates and empty slots, negative for a false
            positive that goes on (see :class:`Decision`).
        live: Which queries were decoded.
        missed: Frames in a row, before this one, in which a track was not seen.
        pose: Pose in the present frame.
        size: Length and width, metres.
        score: Logit of every class.
        earlier: The same queries after each earlier decoder layer; in training only.
        denoised: The extra queries of :class:`DenoisingQueries`, decoded.
    """

    frame: int
    heat: Float[Tensor, "b h w"]
    candidates: int
    ids: Int[Tensor, "b q"]
    live: Bool[Tensor, "b q"]
    missed: Int[Tensor, "b q"]
    pose: Float[Tensor, "b q 3"]
    size: Float[Tensor, "b q 2"]
    score: Float[Tensor, "b q k"]
    earlier: tuple[FrameQueries, ...] = ()
    denoised: FrameQueries | None = None

    def part(self, queries: slice) -> FrameQueries:
        """Some of the queries."""
        return replace(
            self,
            ids=self.ids[:, queries],
            live=self.live[:, queries],
            missed=self.missed[:, queries],
            pose=self.pose[:, queries],
            size=self.size[:, queries],
            score=self.score[:, queries],
            earlier=tuple(layer.part(queries) for layer in self.earlier),
        )


@dataclass(frozen=True)
class DenoisingQueries:
    """E queries decoded beside the others; neither kind sees the other, nor groups each other.

    Attributes:
        ids: Track that each answers for; 0 = nothing.
        live: Which exist.
        group: Group of each, from 1.
        pose: The pose that each is given, in the present frame.
        size: The size that it is given, metres.
        label: The class that it is given, from 1.
    """

    ids: Int[Tensor, "b e"]
    live: Bool[Tensor, "b e"]
    group: Int[Tensor, "b e"]
    pose: Float[Tensor, "b e 3"]
    size: Float[Tensor, "b e 2"]
    label: Int[Tensor, "b e"]


@dataclass(frozen=True)
class Decision:
    """What becomes of every query of a frame.

    Attributes:
        ids: Its id from now on. 0 = it ends; a candidate's new id = it is born; negative = it
            goes on as a false positive, which training does to show what a false track looks like.
        seen: Whether it was seen in this frame; a track that was not keeps what it knew and drives
            on as before.
    """

    ids: Int[Tensor, "b q"]
    seen: Bool[Tensor, "b q"]


class Lifecycle(Protocol):
    """Decides from outside of the tracker: by scores when forecasting, by the truth in training."""

    def denoising_queries(self, frame: int) -> DenoisingQueries | None:
        """Queries to decode beside a frame's own, or None."""
        ...

    def __call__(self, queries: FrameQueries) -> Decision:
        """What becomes of the queries of one frame; called once for every frame in order."""
        ...


@dataclass(frozen=True)
class Tracks:
    """B x S track slots through the history.

    Attributes:
        ids: Track id; 0 = empty, negative = a false positive.
        past: Pose at every frame so far; where the track was not seen, where it was expected.
        seen: Whether it was seen there.
        size: Length and width, metres.
        score: Logit of every class.
        query: Its query.
        query_pos: What QIM adds to its ``query_pos``; None where it updates ``query`` only.
    """

    ids: Int[Tensor, "b s"]
    past: Float[Tensor, "b s t 3"]
    seen: Bool[Tensor, "b s t"]
    size: Float[Tensor, "b s 2"]
    score: Float[Tensor, "b s k"]
    query: Float[Tensor, "b s d"]
    query_pos: Float[Tensor, "b s d"] | None = None

    def take(self, order: Int[Tensor, "b s"]) -> Tracks:
        """The slots in another order (or only some of them)."""

        def gather(values: Tensor) -> Tensor:
            index = order.view(*order.shape, *[1] * (values.dim() - 2))
            return values.gather(1, index.expand(*order.shape, *values.shape[2:]))

        return map_tensors(self, gather)


def predicted(tracks: Tracks, frame: int) -> Float[Tensor, "b s 3"]:
    """Where each track is expected at a frame: its last motion repeated."""
    if frame == 0:
        return torch.zeros_like(tracks.past[:, :, 0])
    last = tracks.past[:, :, frame - 1]
    if frame == 1:
        return last
    step = se2.log(se2.between(tracks.past[:, :, frame - 2], last))
    moved_before = tracks.seen[:, :, : frame - 1].any(-1)
    return se2.compose(last, se2.exp(step * moved_before[..., None]))


def frames_missed(tracks: Tracks, frame: int) -> Int[Tensor, "b s"]:
    """Frames in a row before ``frame`` in which each track was not seen."""
    since_start = torch.arange(1, tracks.seen.shape[-1] + 1, device=tracks.seen.device)
    last = (tracks.seen * since_start).amax(-1)
    return torch.where(tracks.ids != 0, frame - last, 0)
