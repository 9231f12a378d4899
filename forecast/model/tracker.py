"""Detected input: finds the agents in rasters without ids, and tracks them through the history.

At every history frame the queries are candidates (peaks of a centre heatmap, each with a learned
detect embedding) followed by the tracks so far; QIM carries the tracks on. Which candidates are
born is decided from outside: by their scores when forecasting, by the truth when training.

Sources: Zeng et al., "MOTR" (2022), tracks as queries; Zhou et al., "Objects as points" (2019),
centre heatmap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model import se2
from forecast.model.agents import Agents
from forecast.model.context import Rows, Surroundings
from forecast.model.decoder import Decoder
from forecast.model.memory import Memory
from forecast.model.queries import QueryInteraction, pad_rows
from forecast.model.spec import ForecasterSpec
from forecast.model.warp import cell_centres, sample_at

# An untrained head says "nothing here": Lin et al., "Focal loss" (2017), prior of 1 %.
PRIOR_BIAS = -4.6
TYPICAL_SIZE_M = (4.5, 1.9)


@dataclass(frozen=True)
class FrameQueries:
    """What was decoded of one history frame: N candidates first, then S tracks.

    Attributes:
        frame: Index of the frame.
        heat: Logit of an agent's centre at every cell.
        candidates: N.
        ids: Track id of each query; 0 for candidates and empty slots.
        live: Which queries were decoded.
        pose: Pose in the present frame.
        size: Length and width, metres.
        score: Logit of every class.
    """

    frame: int
    heat: Float[Tensor, "b h w"]
    candidates: int
    ids: Int[Tensor, "b q"]
    live: Bool[Tensor, "b q"]
    pose: Float[Tensor, "b q 3"]
    size: Float[Tensor, "b q 2"]
    score: Float[Tensor, "b q k"]


# Says which id every query has from now on: 0 = none, a candidate's new id = it is born.
Decide = Callable[[FrameQueries], Int[Tensor, "b q"]]


@dataclass(frozen=True)
class Tracks:
    """B x S track slots through the history."""

    ids: Int[Tensor, "b s"]
    past: Float[Tensor, "b s t 3"]
    seen: Bool[Tensor, "b s t"]
    size: Float[Tensor, "b s 2"]
    score: Float[Tensor, "b s k"]
    content: Float[Tensor, "b s d"]

    def take(self, order: Int[Tensor, "b s"]) -> Tracks:
        """The slots in another order (or only some of them)."""

        def gather(values: Tensor) -> Tensor:
            index = order.view(*order.shape, *[1] * (values.dim() - 2))
            return values.gather(1, index.expand(*order.shape, *values.shape[2:]))

        return Tracks(*(gather(getattr(self, item.name)) for item in fields(self)))

    def join(self, other: Tracks) -> Tracks:
        """The slots of both."""
        return Tracks(
            *(
                torch.cat((getattr(self, item.name), getattr(other, item.name)), 1)
                for item in fields(self)
            )
        )

    def agents(self) -> Agents:
        """The tracks as slots of a rollout; forecasting teaches perception nothing about boxes."""
        return Agents(
            ids=self.ids,
            label=torch.where(self.ids > 0, self.score.argmax(-1) + 1, 0),
            past=self.past.detach(),
            seen=self.seen,
            size=self.size.detach(),
        )


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
        self.decoder = Decoder(
            spec.decoder_layers,
            dim,
            traits,
            spec.hidden,
            spec.heads,
            spec.backbone_layers - 1,
            spec.points,
            spec.ffn,
        )
        self.classify = nn.Linear(dim, classes)
        nn.init.constant_(self.classify.bias, PRIOR_BIAS)
        self.box = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 6))
        self.interact = QueryInteraction(dim, spec.heads, spec.ffn)

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
        tracks = self._none(memories[0], len(memories))
        decoded = []
        for frame, memory in enumerate(memories):
            queries, output, content = self._decode(frame, memory, tracks, around)
            decoded.append(queries)
            tracks = self._update(tracks, queries, output, content, decide(queries))
        return tracks, decoded

    def _none(self, memory: Memory, frames: int) -> Tracks:
        like, slots = memory.pixels, self.spec.queries
        batch = like.shape[0]
        return Tracks(
            ids=torch.zeros(batch, slots, dtype=torch.long, device=like.device),
            past=like.new_zeros(batch, slots, frames, 3),
            seen=torch.zeros(batch, slots, frames, dtype=torch.bool, device=like.device),
            size=like.new_tensor(TYPICAL_SIZE_M).expand(batch, slots, 2),
            score=like.new_zeros(batch, slots, self.classes),
            content=like.new_zeros(batch, slots, self.spec.dim),
        )

    def _decode(
        self, frame: int, memory: Memory, tracks: Tracks, around: Surroundings
    ) -> tuple[FrameQueries, Tensor, Tensor]:
        heat = self.heat(memory.pixels).squeeze(1)
        centre, found = peaks(heat, self.spec.queries, around.grid)
        candidate = torch.cat((centre, torch.zeros_like(centre[..., :1])), -1)
        pose = torch.cat((candidate, predicted(tracks, frame)), 1)
        live = torch.cat((found, tracks.ids > 0), 1)
        pixels = sample_at(memory.pixels, pose[:, :, None, :2], around.grid).squeeze(-1)
        content = torch.cat((self.detect.expand(len(pose), -1, -1), tracks.content), 1)
        content = content + self.look(pixels.transpose(1, 2))
        traits = torch.cat(
            (
                torch.cat((torch.zeros_like(tracks.score), tracks.score.softmax(-1)), 1),
                torch.cat((torch.zeros_like(tracks.size), tracks.size / 5.0), 1),
            ),
            -1,
        )
        rows = Rows(live.nonzero()[:, 0], pose[live], torch.zeros_like(pose[live]), traits[live])
        known = torch.cat((torch.zeros_like(centre[..., 0]), torch.ones_like(tracks.ids)), 1)
        about = torch.stack((known, pose[..., 2].cos() * known, pose[..., 2].sin() * known), -1)
        position = self.position(torch.cat((about, traits), -1))[live]
        output = self.decoder(content[live], position, rows, live, around, memory)
        score = pad_rows(self.classify(output), live)
        found_pose, size = self._boxes(pose, pad_rows(self.box(output), live))
        ids = torch.cat((torch.zeros_like(tracks.ids[:, :1]).expand_as(found), tracks.ids), 1)
        queries = FrameQueries(frame, heat, found.shape[1], ids, live, found_pose, size, score)
        return queries, pad_rows(output, live), content

    def _boxes(self, reference: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Pose and size from offsets in metres, log sizes, and a turn as a small vector."""
        turn = torch.atan2(delta[..., 5], delta[..., 4] + 1.0)
        moved = torch.cat((delta[..., :2], turn[..., None]), -1)
        size = delta.new_tensor(TYPICAL_SIZE_M) * delta[..., 2:4].clamp(-3, 3).exp()
        return se2.compose(reference, moved), size

    def _update(
        self,
        tracks: Tracks,
        queries: FrameQueries,
        output: Tensor,
        content: Tensor,
        ids: Int[Tensor, "b q"],
    ) -> Tracks:
        """QIM for everything that goes on, then the live slots first.

        Where there are more than slots, those that have been tracked are kept before newborn ones.
        """
        count, frame = queries.candidates, queries.frame
        _, content = self.interact(output, torch.zeros_like(output), content, ids > 0)
        past = torch.cat((torch.zeros_like(tracks.past), tracks.past), 1)
        seen = torch.cat((torch.zeros_like(tracks.seen), tracks.seen), 1)
        now = torch.arange(past.shape[2], device=past.device) == frame
        everyone = Tracks(
            ids=ids,
            past=torch.where(now[:, None], queries.pose[:, :, None], past),
            seen=(seen | now) & (ids > 0)[..., None],
            size=queries.size,
            score=queries.score,
            content=content,
        )
        newborn = torch.arange(ids.shape[1], device=ids.device) < count
        order = torch.argsort(2 * (ids == 0).int() + newborn.int(), dim=1, stable=True)
        return everyone.take(order[:, : tracks.ids.shape[1]])


def predicted(tracks: Tracks, frame: int) -> Float[Tensor, "b s 3"]:
    """Where each track is expected at a frame: its last motion repeated."""
    if frame == 0:
        return torch.zeros_like(tracks.past[:, :, 0])
    last = tracks.past[:, :, frame - 1]
    if frame == 1:
        return last
    step = se2.log(se2.between(tracks.past[:, :, frame - 2], last))
    both = tracks.seen[:, :, frame - 1] & tracks.seen[:, :, frame - 2]
    return se2.compose(last, se2.exp(step * both[..., None]))


def peaks(
    heat: Float[Tensor, "b h w"], count: int, grid: BEVGrid
) -> tuple[Float[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
    """Centres in metres of the strongest local maxima of a heatmap, and which of them exist."""
    with torch.no_grad():
        best = functional.max_pool2d(heat[:, None], 3, 1, 1).squeeze(1)
        flat = torch.where(heat == best, heat, -torch.inf).flatten(1)
        value, index = flat.topk(min(count, flat.shape[1]), dim=1)
        centres = cell_centres((heat.shape[-2], heat.shape[-1]), grid, heat).flatten(0, 1)
        points = centres[index]
        missing = count - value.shape[1]
        points = functional.pad(points, (0, 0, 0, missing))
        found = functional.pad(torch.isfinite(value), (0, missing))
    return points, found


class Birth:
    """Decides by scores, when forecasting: who is born and who stays.

    Args:
        birth: Probability from which a candidate becomes a track.
        keep: Probability from which a track goes on.
    """

    def __init__(self, birth: float, keep: float) -> None:
        self.birth, self.keep = birth, keep
        self.used: Tensor | None = None

    def __call__(self, queries: FrameQueries) -> Int[Tensor, "b q"]:
        """New ids count on from the last one used in each sequence."""
        count = queries.candidates
        probability = torch.sigmoid(queries.score.amax(-1))
        tracks = torch.where(probability[:, count:] >= self.keep, queries.ids[:, count:], 0)
        good = queries.live[:, :count] & (probability[:, :count] >= self.birth)
        good &= ~self._covered(queries, tracks > 0)
        good &= ~self._repeated(queries, probability, good)
        if self.used is None:
            self.used = torch.zeros_like(good[:, 0], dtype=torch.long)
        fresh = torch.where(good, good.cumsum(1) + self.used[:, None], 0)
        self.used = self.used + good.sum(1)
        return torch.cat((fresh, tracks), 1)

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
