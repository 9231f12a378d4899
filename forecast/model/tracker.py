"""Detected input: finds the agents in rasters without ids, and tracks them through the history.

At every history frame the queries are candidates (peaks of a centre heatmap, each with a learned
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
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import Memory
from forecast.model.scene import se2
from forecast.model.scene.context import Rows, Surroundings
from forecast.model.scene.packing import Packing
from forecast.model.scene.warp import cell_centres, sample_at
from forecast.model.spec import ForecasterSpec
from forecast.model.tracking.tracks import (
    Decide,
    Decision,
    Extra,
    FrameQueries,
    Tracks,
    frames_missed,
    predicted,
)

# An untrained head says "nothing here": Lin et al., "Focal loss" (2017), prior of 1 %.
PRIOR_BIAS = -4.6
TYPICAL_SIZE_M = (4.5, 1.9)


@dataclass(frozen=True)
class _Asked:
    """Queries of a frame before they are decoded; candidates, tracks, then extra ones.

    Attributes:
        ids, live, missed: As in :class:`FrameQueries`.
        group: 0, or the group of an extra query.
        pose: Where each looks.
        known: 1 where heading, class and size are known, 0 for candidates.
        traits: Class probabilities, length and width.
        content: Content part, before it has looked at the raster.
    """

    ids: Int[Tensor, "b q"]
    live: Bool[Tensor, "b q"]
    missed: Int[Tensor, "b q"]
    group: Int[Tensor, "b q"]
    pose: Float[Tensor, "b q 3"]
    known: Float[Tensor, "b q"]
    traits: Float[Tensor, "b q c"]
    content: Float[Tensor, "b q d"]

    @cached_property
    def packing(self) -> Packing:
        """Where the live ones are."""
        return Packing.of(self.live)

    @staticmethod
    def join(kinds: Sequence[_Asked]) -> _Asked:
        """The queries of all kinds, in order."""
        names = (item.name for item in fields(_Asked))
        return _Asked(*(torch.cat([getattr(kind, name) for kind in kinds], 1) for name in names))


@dataclass(frozen=True)
class _Carried:
    """What QIM makes the next frame's tracks from."""

    output: Float[Tensor, "b q d"]
    content: Float[Tensor, "b q d"]
    position: Float[Tensor, "b q d"]


class Tracker(nn.Module):
    """Perceives one frame after the other.

    Args:
        spec: Hyper-parameters of the forecaster.
        classes: Number of classes K.
    """

    def __init__(self, spec: ForecasterSpec, classes: int) -> None:
        super().__init__()
        dim, traits = spec.dim, classes + 2
        self.spec, self.classes = spec, classes
        self.heat = nn.Sequential(
            nn.Conv2d(spec.pixel_dim, spec.pixel_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(spec.pixel_dim, 1, 3, padding=1),
        )
        nn.init.constant_(cast(Tensor, self.heat[-1].bias), PRIOR_BIAS)
        self.detect = nn.Parameter(torch.randn(spec.queries, dim) * 0.02)
        self.look = nn.Linear(spec.pixel_dim, dim)
        self.position = nn.Sequential(nn.Linear(3 + traits, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.decoder = Decoder(spec, traits)
        self.classify = nn.Linear(dim, classes)
        nn.init.constant_(self.classify.bias, PRIOR_BIAS)
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 6))
        self.interact = QueryInteraction(dim, spec.heads, spec.ffn, spec.update_position)

    def forward(
        self, memories: list[Memory], around: Surroundings, decide: Decide
    ) -> tuple[Tracks, list[FrameQueries]]:
        """Tracks through the frames of the history.

        Args:
            memories: Of every history frame, the present one last.
            around: Map and lanes.
            decide: Says which candidates are born and which tracks go on.

        Returns:
            The tracks at the present, live ones first, and what was decoded at each frame.
        """
        tracks = self._none(memories[0].pixels, self.spec.queries, len(memories))
        decoded = []
        for frame, memory in enumerate(memories):
            extra = decide.extra(frame)
            queries, carried = self._decode(frame, memory, tracks, extra, around)
            decoded.append(queries)
            tracks = self._update(tracks, queries, carried, decide(queries))
        return tracks, decoded

    def _none(self, like: Tensor, slots: int, frames: int) -> Tracks:
        batch, dim = like.shape[0], self.spec.dim
        return Tracks(
            ids=torch.zeros(batch, slots, dtype=torch.long, device=like.device),
            past=like.new_zeros(batch, slots, frames, 3),
            seen=torch.zeros(batch, slots, frames, dtype=torch.bool, device=like.device),
            size=like.new_tensor(TYPICAL_SIZE_M).expand(batch, slots, 2),
            score=like.new_zeros(batch, slots, self.classes),
            content=like.new_zeros(batch, slots, dim),
            position=like.new_zeros(batch, slots, dim) if self.spec.update_position else None,
        )

    def _decode(
        self,
        frame: int,
        memory: Memory,
        tracks: Tracks,
        extra: Extra | None,
        around: Surroundings,
    ) -> tuple[FrameQueries, _Carried]:
        """A frame's queries, and what QIM needs of them."""
        heat = self.heat(memory.pixels).squeeze(1)
        kinds = [self._candidates(heat, around.grid), self._tracked(tracks, frame)]
        own = sum(kind.ids.shape[1] for kind in kinds)
        if extra is not None:
            kinds.append(self._told(extra))
        asked = _Asked.join(kinds)
        pack = asked.packing.pack
        pixels = sample_at(memory.pixels, asked.pose[:, :, None, :2], around.grid).squeeze(-1)
        content = asked.content + self.look(pixels.transpose(1, 2))
        position = self._positions(asked, tracks)
        rows = Rows(
            asked.packing,
            pack(asked.pose),
            pack(torch.zeros_like(asked.pose)),
            pack(asked.traits),
            pack(asked.group) if extra is not None else None,
        )
        layers = self.decoder.every(pack(content), pack(position), rows, around, memory)
        *earlier, last = [
            self._answers(frame, heat, asked, output)
            for output in (layers if self.training else layers[-1:])
        ]
        queries = replace(last, earlier=tuple(earlier))
        mine, others = slice(0, own), slice(own, None)
        queries = replace(
            queries.part(mine), denoised=queries.part(others) if extra is not None else None
        )
        output = asked.packing.pad(layers[-1])
        return queries, _Carried(output[:, mine], content[:, mine], position[:, mine])

    def _candidates(self, heat: Tensor, grid: BEVGrid) -> _Asked:
        centre, found = peaks(heat, self.spec.queries, grid)
        none = torch.zeros_like(centre[..., :1])
        nobody = torch.zeros_like(found, dtype=torch.long)
        traits = none.expand(-1, -1, self.classes + 2)
        return _Asked(
            ids=nobody,
            live=found,
            missed=nobody,
            group=nobody,
            pose=torch.cat((centre, none), -1),
            known=none.squeeze(-1),
            traits=traits,
            content=self.detect.expand(len(centre), -1, -1),
        )

    def _tracked(self, tracks: Tracks, frame: int) -> _Asked:
        return _Asked(
            ids=tracks.ids,
            live=tracks.ids != 0,
            missed=frames_missed(tracks, frame),
            group=torch.zeros_like(tracks.ids),
            pose=predicted(tracks, frame),
            known=torch.ones_like(tracks.size[..., 0]),
            traits=torch.cat((tracks.score.softmax(-1), tracks.size / 5.0), -1),
            content=tracks.content,
        )

    def _told(self, extra: Extra) -> _Asked:
        """Extra queries look like tracks without a memory: all they know is in their traits."""
        label = functional.one_hot(extra.label.clamp(min=1) - 1, self.classes)
        traits = torch.cat((label.to(extra.size.dtype), extra.size / 5.0), -1)
        return _Asked(
            ids=extra.ids,
            live=extra.live,
            missed=torch.zeros_like(extra.ids),
            group=extra.group,
            pose=extra.pose,
            known=torch.ones_like(extra.size[..., 0]),
            traits=traits,
            content=traits.new_zeros(*traits.shape[:2], self.spec.dim),
        )

    def _positions(self, asked: _Asked, tracks: Tracks) -> Float[Tensor, "b q d"]:
        """Position parts, from poses; where QIM updates them, tracks carry theirs as well."""
        known, yaw = asked.known, asked.pose[..., 2]
        about = torch.stack((known, yaw.cos() * known, yaw.sin() * known), -1)
        position: Tensor = self.position(torch.cat((about, asked.traits), -1))
        if tracks.position is None:
            return position
        count = self.spec.queries
        mine = slice(count, count + tracks.position.shape[1])
        carried = torch.zeros_like(position)
        carried[:, mine] = tracks.position
        return position + carried

    def _answers(self, frame: int, heat: Tensor, asked: _Asked, output: Tensor) -> FrameQueries:
        """Class and box of every query after one decoder layer."""
        pose, size = self._boxes(asked.pose, asked.packing.pad(self.box(output)))
        return FrameQueries(
            frame=frame,
            heat=heat,
            candidates=self.spec.queries,
            ids=asked.ids,
            live=asked.live,
            missed=asked.missed,
            pose=pose,
            size=size,
            score=asked.packing.pad(self.classify(output)),
        )

    def _boxes(self, reference: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Pose and size from offsets in metres, log sizes, and a turn as a small vector."""
        delta = delta.float()  # half precision has steps of 0.25 m far from the ego
        turn = torch.atan2(delta[..., 5], delta[..., 4] + 1.0)
        moved = torch.cat((delta[..., :2], turn[..., None]), -1)
        size = delta.new_tensor(TYPICAL_SIZE_M) * delta[..., 2:4].clamp(-3, 3).exp()
        return se2.compose(reference, moved), size

    def _update(
        self, tracks: Tracks, queries: FrameQueries, carried: _Carried, decision: Decision
    ) -> Tracks:
        """QIM for everything that goes on, then the live slots first.

        Where there are more than slots, those that have been tracked are kept before newborn ones,
        and anybody before nobody.
        """
        frame, ids = queries.frame, decision.ids
        position = carried.position
        if tracks.position is None:
            position = torch.zeros_like(position)
        position, content = self.interact(carried.output, position, carried.content, ids != 0)
        expected = predicted(tracks, frame)
        blank = self._none(tracks.past, queries.candidates, tracks.past.shape[2])
        seen = decision.seen[..., None]

        def refreshed(now: Tensor, candidate: Tensor, track: Tensor) -> Tensor:
            return torch.where(seen, now, torch.cat((candidate, track), 1))

        pose = refreshed(queries.pose, blank.past[:, :, 0], expected)
        past = torch.cat((blank.past, tracks.past), 1)
        before = torch.cat((blank.seen, tracks.seen), 1)
        now = torch.arange(past.shape[2], device=past.device) == frame
        everyone = Tracks(
            ids=ids,
            past=torch.where(now[:, None], pose[:, :, None], past),
            seen=(before | (seen & now)) & (ids != 0)[..., None],
            size=refreshed(queries.size, blank.size, tracks.size),
            score=refreshed(queries.score, blank.score, tracks.score),
            content=refreshed(content, blank.content, tracks.content),
            position=None
            if tracks.position is None
            else refreshed(position, position[:, : queries.candidates], tracks.position),
        )
        newborn = torch.arange(ids.shape[1], device=ids.device) < queries.candidates
        rank = torch.where(ids > 0, newborn.int(), torch.where(ids < 0, 2, 3))
        order = torch.argsort(rank, dim=1, stable=True)
        return everyone.take(order[:, : tracks.ids.shape[1]])


def peaks(
    heat: Float[Tensor, "b h w"], count: int, grid: BEVGrid
) -> tuple[Float[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
    """Centres in metres of the strongest local maxima of a heatmap, and which of them exist."""
    with torch.no_grad():
        best = functional.max_pool2d(heat[:, None], 3, 1, 1).squeeze(1)
        flat = torch.where(heat == best, heat, -torch.inf).flatten(1)
        value, index = flat.topk(min(count, flat.shape[1]), dim=1)
        centres = cell_centres((heat.shape[-2], heat.shape[-1]), grid, heat.float()).flatten(0, 1)
        points = centres[index]
        missing = count - value.shape[1]
        points = functional.pad(points, (0, 0, 0, missing))
        found = functional.pad(torch.isfinite(value), (0, missing))
    return points, found
