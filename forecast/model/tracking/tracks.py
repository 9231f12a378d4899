"""Tracks from frame to frame, the queries of one frame, and what decides which of them go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.model.scene import se2
from forecast.model.scene.agents import slots_of
from forecast.types import map_tensors


@dataclass(frozen=True)
class FrameQueries:
    """What was decoded of one frame: N candidates first, then S tracks.

    Attributes:
        frame: Index of the frame.
        used: The largest track id so far.
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
    used: Int[Tensor, "b"]
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
    """B x S track slots after a frame; nothing here grows with the number of frames.

    Attributes:
        frames: Frames so far.
        used: The largest track id so far.
        ids: Track id; 0 = empty, negative = a false positive.
        agent: Id of the agent that the track was found to be; 0 = none so far.
        pose: Pose in the ego frame of the last frame; where the track was not seen, where it was
            expected.
        twist: Its motion per second, in its own frame; zero for one that was just born.
        missed: Frames in a row in which it was not seen.
        size: Length and width, metres.
        score: Logit of every class.
        query: Its query.
        query_pos: What QIM adds to its ``query_pos``; None where it updates ``query`` only.
    """

    frames: int
    used: Int[Tensor, "b"]
    ids: Int[Tensor, "b s"]
    agent: Int[Tensor, "b s"]
    pose: Float[Tensor, "b s 3"]
    twist: Float[Tensor, "b s 3"]
    missed: Int[Tensor, "b s"]
    size: Float[Tensor, "b s 2"]
    score: Float[Tensor, "b s k"]
    query: Float[Tensor, "b s d"]
    query_pos: Float[Tensor, "b s d"] | None = None

    def take(self, order: Int[Tensor, "b s"]) -> Tracks:
        """The slots in another order (or only some of them)."""

        def gather(values: Tensor) -> Tensor:
            return values if values.dim() == 1 else slots_of(values, order)  # used has no slots

        return map_tensors(self, gather)

    def predicted(self, since_s: Float[Tensor, "b"]) -> Float[Tensor, "b s 3"]:
        """Where each track is expected some seconds after the last frame: it moves on as before."""
        return se2.compose(self.pose, se2.exp(self.twist * since_s[:, None, None]))

    def seen_from(self, moved: Float[Tensor, "b 3"]) -> Tracks:
        """The same in another ego frame.

        Args:
            moved: Pose of that frame in the present one.
        """
        return replace(self, pose=se2.between(moved[:, None], self.pose))
