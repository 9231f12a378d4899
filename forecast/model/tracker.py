"""Detected input: finds the agents in rasters without ids, and tracks them from frame to frame.

At every frame the queries are candidates (peaks of a centre heatmap, each with a learned
detect embedding) followed by the tracks so far; QIM carries the tracks on. Which candidates are
born is decided from outside: by their scores when forecasting, by the truth when training.

Sources: Zeng et al., "MOTR" (2022), tracks as queries; Zhou et al., "Objects as points" (2019),
centre heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model.decoder import Decoder
from forecast.model.layers.mlp import MLP
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene import se2
from forecast.model.scene.cells import metric_cell_centres
from forecast.model.scene.context import PackedQueries
from forecast.model.scene.packing import Packing
from forecast.model.scene.warp import sample_at
from forecast.model.spec import ForecasterSpec
from forecast.model.tracking.tracks import (
    Decision,
    DenoisingQueries,
    FrameQueries,
    Lifecycle,
    Tracks,
)
from forecast.types import SceneContext

# An untrained head says "nothing here": Lin et al., "Focal loss" (2017), prior of 1 %.
PRIOR_BIAS = -4.6
TYPICAL_SIZE_M = (4.5, 1.9)
# In less time two poses tell no motion.
SHORTEST_GAP_S = 0.01


@dataclass(frozen=True)
class _FrameInput:
    """Queries of a frame before they are decoded; candidates, tracks, then denoising ones.

    Attributes:
        ids, live, missed: As in :class:`FrameQueries`.
        group: 0, or the group of a denoising query.
        pose: Pose at which each reads the raster.
        known: 1 where heading, class and size are known, 0 for candidates.
        attributes: Class probabilities, length and width.
        query: The query before the pixel embedding at its pose is added.
    """

    ids: Int[Tensor, "b q"]
    live: Bool[Tensor, "b q"]
    missed: Int[Tensor, "b q"]
    group: Int[Tensor, "b q"]
    pose: Float[Tensor, "b q 3"]
    known: Float[Tensor, "b q"]
    attributes: Float[Tensor, "b q c"]
    query: Float[Tensor, "b q d"]

    @cached_property
    def packing(self) -> Packing:
        """Where the live ones are."""
        return Packing.of(self.live)

    @staticmethod
    def join(kinds: Sequence[_FrameInput]) -> _FrameInput:
        """The queries of all kinds, in order."""
        names = (item.name for item in fields(_FrameInput))
        return _FrameInput(
            *(torch.cat([getattr(kind, name) for kind in kinds], 1) for name in names)
        )


@dataclass(frozen=True)
class _Carried:
    """What QIM makes the next frame's tracks from."""

    output: Float[Tensor, "b q d"]
    query: Float[Tensor, "b q d"]
    query_pos: Float[Tensor, "b q d"]


class Tracker(nn.Module):
    """Perceives one frame after the other.

    Args:
        spec: Hyper-parameters of the forecaster.
        classes: Number of classes K.
    """

    def __init__(self, spec: ForecasterSpec, classes: int) -> None:
        super().__init__()
        dim, attributes = spec.hidden_dim, classes + 2
        self.spec, self.classes = spec, classes
        self.heatmap_head = nn.Sequential(
            nn.Conv2d(spec.pixel_dim, spec.pixel_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(spec.pixel_dim, 1, 3, padding=1),
        )
        nn.init.constant_(cast(Tensor, self.heatmap_head[-1].bias), PRIOR_BIAS)
        self.detect_query = nn.Parameter(torch.randn(spec.queries, dim) * 0.02)
        self.pixel_encoder = nn.Linear(spec.pixel_dim, dim)
        self.query_pos_encoder = MLP(3 + attributes, dim, dim)
        self.decoder = Decoder(spec, attributes)
        self.class_head = nn.Linear(dim, classes)
        nn.init.constant_(self.class_head.bias, PRIOR_BIAS)
        self.box_head = MLP(dim, dim, 6)
        self.query_interaction = QueryInteraction(dim, spec.heads, spec.ffn, spec.update_query_pos)

    def start(self, context: SceneContext) -> Tracks:
        """The tracks before any frame: none."""
        return self._none(context.map, self.spec.queries)

    def forward(
        self,
        tracks: Tracks,
        features: EncodedFeatures,
        context: SceneContext,
        since_s: Float[Tensor, "b"],
        lifecycle: Lifecycle,
    ) -> tuple[Tracks, FrameQueries]:
        """The tracks after one more frame.

        Args:
            tracks: Those after the frame before, in this one's ego frame.
            features: Of the frame.
            context: Map and lanes.
            since_s: Seconds since the frame before.
            lifecycle: Says which candidates are born and which tracks go on.

        Returns:
            The tracks, live ones first, and what was decoded.
        """
        since_s = since_s.clamp(min=0)  # clocks that run backwards predict nothing
        expected = tracks.predicted(since_s)
        denoising = lifecycle.denoising_queries(tracks.frames)
        queries, carried = self._decode(features, tracks, expected, denoising, context)
        decision = lifecycle(queries)
        return self._update(tracks, expected, since_s, queries, carried, decision), queries

    def _none(self, like: Tensor, slots: int) -> Tracks:
        batch, dim = len(like), self.spec.hidden_dim
        empty = torch.zeros(batch, slots, dtype=torch.long, device=like.device)
        return Tracks(
            frames=0,
            used=torch.zeros_like(empty[:, 0]),
            ids=empty,
            agent=empty,
            pose=like.new_zeros(batch, slots, 3),
            twist=like.new_zeros(batch, slots, 3),
            missed=empty,
            size=like.new_tensor(TYPICAL_SIZE_M).expand(batch, slots, 2),
            score=like.new_zeros(batch, slots, self.classes),
            query=like.new_zeros(batch, slots, dim),
            query_pos=like.new_zeros(batch, slots, dim) if self.spec.update_query_pos else None,
        )

    def _decode(
        self,
        features: EncodedFeatures,
        tracks: Tracks,
        expected: Float[Tensor, "b s 3"],
        denoising: DenoisingQueries | None,
        context: SceneContext,
    ) -> tuple[FrameQueries, _Carried]:
        """A frame's queries, and what QIM needs of them."""
        heat = self.heatmap_head(features.pixels).squeeze(1)
        kinds = [self._candidates(heat, context.grid), self._tracked(tracks, expected)]
        own = sum(kind.ids.shape[1] for kind in kinds)
        if denoising is not None:
            kinds.append(self._denoising(denoising))
        given = _FrameInput.join(kinds)
        pack = given.packing.pack
        pixels = sample_at(features.pixels, given.pose[:, :, None, :2], context.grid).squeeze(-1)
        query = given.query + self.pixel_encoder(pixels.transpose(1, 2))
        query_pos = self._query_pos(given, tracks)
        packed = PackedQueries(
            given.packing,
            pack(given.pose),
            pack(torch.zeros_like(given.pose)),
            pack(given.attributes),
            pack(given.group) if denoising is not None else None,
        )
        layers = self.decoder.every(pack(query), pack(query_pos), packed, context, features)
        *earlier, last = [
            self._answers(tracks, heat, given, output)
            for output in (layers if self.training else layers[-1:])
        ]
        queries = replace(last, earlier=tuple(earlier))
        mine, others = slice(0, own), slice(own, None)
        queries = replace(
            queries.part(mine), denoised=queries.part(others) if denoising is not None else None
        )
        output = given.packing.pad(layers[-1])
        return queries, _Carried(output[:, mine], query[:, mine], query_pos[:, mine])

    def _candidates(self, heat: Tensor, grid: BEVGrid) -> _FrameInput:
        centre, found = peaks(heat, self.spec.queries, grid)
        none = torch.zeros_like(centre[..., :1])
        zeros = torch.zeros_like(found, dtype=torch.long)
        attributes = none.expand(-1, -1, self.classes + 2)
        return _FrameInput(
            ids=zeros,
            live=found,
            missed=zeros,
            group=zeros,
            pose=torch.cat((centre, none), -1),
            known=none.squeeze(-1),
            attributes=attributes,
            query=self.detect_query.expand(len(centre), -1, -1),
        )

    def _tracked(self, tracks: Tracks, expected: Float[Tensor, "b s 3"]) -> _FrameInput:
        return _FrameInput(
            ids=tracks.ids,
            live=tracks.ids != 0,
            missed=tracks.missed,
            group=torch.zeros_like(tracks.ids),
            pose=expected,
            known=torch.ones_like(tracks.size[..., 0]),
            attributes=torch.cat((tracks.score.softmax(-1), tracks.size / 5.0), -1),
            query=tracks.query,
        )

    def _denoising(self, denoising: DenoisingQueries) -> _FrameInput:
        """Denoising queries are like new tracks: what they are given is in pose and attributes."""
        label = functional.one_hot(denoising.label.clamp(min=1) - 1, self.classes)
        attributes = torch.cat((label.to(denoising.size.dtype), denoising.size / 5.0), -1)
        return _FrameInput(
            ids=denoising.ids,
            live=denoising.live,
            missed=torch.zeros_like(denoising.ids),
            group=denoising.group,
            pose=denoising.pose,
            known=torch.ones_like(denoising.size[..., 0]),
            attributes=attributes,
            query=attributes.new_zeros(*attributes.shape[:2], self.spec.hidden_dim),
        )

    def _query_pos(self, given: _FrameInput, tracks: Tracks) -> Float[Tensor, "b q d"]:
        """From poses; where QIM updates ``query_pos``, that of tracks is added."""
        known, yaw = given.known, given.pose[..., 2]
        about = torch.stack((known, yaw.cos() * known, yaw.sin() * known), -1)
        query_pos: Tensor = self.query_pos_encoder(torch.cat((about, given.attributes), -1))
        if tracks.query_pos is None:
            return query_pos
        count = self.spec.queries
        mine = slice(count, count + tracks.query_pos.shape[1])
        carried = torch.zeros_like(query_pos)
        carried[:, mine] = tracks.query_pos
        return query_pos + carried

    def _answers(
        self, tracks: Tracks, heat: Tensor, given: _FrameInput, output: Tensor
    ) -> FrameQueries:
        """Class and box of every query after one decoder layer."""
        pose, size = self._boxes(given.pose, given.packing.pad(self.box_head(output)))
        return FrameQueries(
            frame=tracks.frames,
            used=tracks.used,
            heat=heat,
            candidates=self.spec.queries,
            ids=given.ids,
            live=given.live,
            missed=given.missed,
            pose=pose,
            size=size,
            score=given.packing.pad(self.class_head(output)),
        )

    def _boxes(self, reference: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Pose and size from offsets in metres, log sizes, and a turn as a small vector."""
        delta = delta.float()  # half precision has steps of 0.25 m far from the ego
        turn = torch.atan2(delta[..., 5], delta[..., 4] + 1.0)
        moved = torch.cat((delta[..., :2], turn[..., None]), -1)
        size = delta.new_tensor(TYPICAL_SIZE_M) * delta[..., 2:4].clamp(-3, 3).exp()
        return se2.compose(reference, moved), size

    def _update(
        self,
        tracks: Tracks,
        expected: Float[Tensor, "b s 3"],
        since_s: Float[Tensor, "b"],
        queries: FrameQueries,
        carried: _Carried,
        decision: Decision,
    ) -> Tracks:
        """QIM for everything that goes on, then the live slots first.

        Where there are more than slots, those that have been tracked are kept before newborn ones,
        and false positives come last.
        """
        ids = decision.ids
        query_pos = carried.query_pos
        if tracks.query_pos is None:
            query_pos = torch.zeros_like(query_pos)
        query_pos, query = self.query_interaction(
            carried.output, query_pos, carried.query, ids != 0
        )
        blank = self._none(tracks.pose, queries.candidates)
        seen = decision.seen

        def refreshed(now: Tensor, candidate: Tensor, track: Tensor) -> Tensor:
            return torch.where(seen[..., None], now, torch.cat((candidate, track), 1))

        pose = refreshed(queries.pose, blank.pose, expected)
        twist = _motion(tracks, pose[:, queries.candidates :], since_s)
        missed = torch.cat((blank.missed, tracks.missed), 1)
        everyone = Tracks(
            frames=tracks.frames + 1,
            used=torch.maximum(tracks.used, ids.amax(1)),
            ids=ids,
            agent=torch.cat((blank.agent, tracks.agent), 1),
            pose=pose,
            twist=torch.cat((blank.twist, twist), 1),
            missed=torch.where(seen | (ids == 0), 0, missed + 1),
            size=refreshed(queries.size, blank.size, tracks.size),
            score=refreshed(queries.score, blank.score, tracks.score),
            query=refreshed(query, blank.query, tracks.query),
            query_pos=None
            if tracks.query_pos is None
            else refreshed(query_pos, query_pos[:, : queries.candidates], tracks.query_pos),
        )
        newborn = torch.arange(ids.shape[1], device=ids.device) < queries.candidates
        rank = torch.where(ids > 0, newborn.int(), torch.where(ids < 0, 2, 3))
        order = torch.argsort(rank, dim=1, stable=True)
        return everyone.take(order[:, : tracks.ids.shape[1]])


def _motion(
    tracks: Tracks, pose: Float[Tensor, "b s 3"], since_s: Float[Tensor, "b"]
) -> Float[Tensor, "b s 3"]:
    """Motion per second to where each track is now; in hardly any time, that of before."""
    gap = since_s[:, None, None]
    moved = se2.log(se2.between(tracks.pose, pose)) / gap.clamp(min=SHORTEST_GAP_S)
    return torch.where(gap > SHORTEST_GAP_S, moved, tracks.twist)


def peaks(
    heat: Float[Tensor, "b h w"], count: int, grid: BEVGrid
) -> tuple[Float[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
    """Centres in metres of the strongest local maxima of a heatmap, and which of them exist."""
    with torch.no_grad():
        best = functional.max_pool2d(heat[:, None], 3, 1, 1).squeeze(1)
        flat = torch.where(heat == best, heat, -torch.inf).flatten(1)
        value, index = flat.topk(min(count, flat.shape[1]), dim=1)
        shape = heat.shape[-2], heat.shape[-1]
        points = metric_cell_centres(shape, grid, heat.float()).flatten(0, 1)[index]
        missing = count - value.shape[1]
        points = functional.pad(points, (0, 0, 0, missing))
        found = functional.pad(torch.isfinite(value), (0, missing))
    return points, found
