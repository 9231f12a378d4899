"""What each query reads around its agent: neighbours, lane points, a crop of the map.

All of it is given in the agent's own frame, where it drives towards +x: what is learned on one
street holds on all.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP
from forecast.model.scene import se2
from forecast.model.scene.context import PackedQueries, relative
from forecast.types import SceneContext

NEIGHBOURS = 12
LANE_POINTS = 64
CROP_CELLS = 32
CROP_CELL_M = 1.5
CROP_BEHIND_M = 12.0


class SetAttention(nn.Module):
    """Attention of each query to a small set of its own: other agents, or lane points.

    Each set is read by one query only. So the projections of keys and values are applied to the
    query and to what it read, instead of to every member: the same numbers (up to rounding) for a
    small part of the work.

    Args:
        dim: Width of the queries.
        features: Numbers that describe one member of the set.
        hidden: Width of keys and values.
        heads: Attention heads.
    """

    def __init__(self, dim: int, features: int, hidden: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, hidden)
        self.member = MLP(features, hidden, hidden)
        self.key = nn.Linear(hidden, hidden, bias=False)  # no softmax can tell its bias
        self.value = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, dim)
        self.hide = nn.Dropout(0.0)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        packed: Float[Tensor, "n d"],
        members: Float[Tensor, "n k f"],
        valid: Bool[Tensor, "n k"],
    ) -> Float[Tensor, "n d"]:
        """Adds to each query what it read; nothing where its set is empty.

        Args:
            packed: The queries.
            members: What describes the members of each query's set.
            valid: Which members exist.
        """
        if not valid.numel():
            return packed
        encoded = torch.relu(self.member(members))
        valid = self.hide(valid.to(encoded.dtype)) > 0
        # The softmax of an empty set would be NaN: all is read there, then multiplied by zero.
        some = valid.any(1, keepdim=True)
        logits = self._asks(self.norm(packed)) @ encoded.transpose(1, 2)
        share = logits.masked_fill(~(valid | ~some)[:, None], -torch.inf).softmax(-1)
        read = self._values(share @ encoded)
        out: Tensor = packed + self.dropout(self.out(read * some))
        return out

    def _asks(self, packed: Float[Tensor, "n d"]) -> Float[Tensor, "n heads h"]:
        """Queries taken through the keys' projection."""
        query = self.query(packed)
        key = self.key.weight.view(self.heads, -1, query.shape[1])
        query = query.view(len(packed), self.heads, -1) / math.sqrt(key.shape[1])
        return torch.einsum("nhe,hed->nhd", query, key)

    def _values(self, read: Float[Tensor, "n heads h"]) -> Float[Tensor, "n h"]:
        """What each head read, projected as every member would have been."""
        value = self.value.weight.view(self.heads, -1, read.shape[2])
        return torch.einsum("nhd,hed->nhe", read, value).flatten(1) + self.value.bias


class NeighbourAttention(nn.Module):
    """Attention to the nearest other agents, their poses and motions in the agent's own frame."""

    def __init__(self, dim: int, attributes: int, hidden: int) -> None:
        super().__init__()
        self.share = nn.Linear(dim, 32)
        self.attend = SetAttention(dim, 5 + 2 + attributes + 32, hidden)

    @record_function("decoder: neighbours")
    def forward(self, x: Float[Tensor, "n d"], packed: PackedQueries) -> Float[Tensor, "n d"]:
        """One round of interaction; ``x`` are the queries that ``packed`` describes."""
        index, valid = nearest_queries(packed)
        pose = se2.between(packed.pose[:, None], packed.pose[index])
        velocity = se2.rotate(packed.twist[index][..., :2], pose[..., 2])
        members = torch.cat(
            (relative(pose), velocity / 5.0, packed.attributes[index], self.share(x)[index]), -1
        )
        out: Tensor = self.attend(x, members, valid)
        return out


class LaneAttention(nn.Module):
    """Attention to the nearest lane points, in the agent's own frame."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.attend = SetAttention(dim, 5, hidden)

    @record_function("decoder: lanes")
    def forward(
        self, x: Float[Tensor, "n d"], packed: PackedQueries, context: SceneContext
    ) -> Float[Tensor, "n d"]:
        """Reads the lanes around and ahead; without lane points returns ``x`` as it is."""
        if context.points is None or context.points.shape[1] == 0:
            return x
        points, valid = nearest_points(packed, context.points)
        members = relative(se2.between(packed.pose[:, None], points))
        out: Tensor = self.attend(x, torch.where(valid[..., None], members, 0.0), valid)
        return out


class MapCrop(nn.Module):
    """A small CNN on the map around each agent, turned so that the agent looks along +x."""

    def __init__(self, layers: int, dim: int) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(layers, 24, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * (CROP_CELLS // 8) ** 2, dim),
        )

    @record_function("map crops")
    def forward(self, packed: PackedQueries, context: SceneContext) -> Float[Tensor, "n d"]:
        """What the map looks like from each agent."""
        out: Tensor = self.cnn(crop(packed, context))
        return out


def crop(packed: PackedQueries, context: SceneContext) -> Float[Tensor, "n m c c"]:
    """The map around each agent, ``CROP_CELLS`` square, mostly ahead; zero off the grid."""
    device = packed.pose.device
    ahead = (torch.arange(CROP_CELLS, device=device) + 0.5) * CROP_CELL_M - CROP_BEHIND_M
    aside = (torch.arange(CROP_CELLS, device=device) + 0.5 - CROP_CELLS / 2) * CROP_CELL_M
    points = torch.stack(torch.meshgrid(aside, ahead, indexing="ij")[::-1], -1).flatten(0, 1)
    world = se2.apply(packed.pose[:, None], points.to(packed.pose.dtype)[None])
    grid = context.grid
    # Lines one cell wide would fall between samples 1.5 m apart.
    factor = max(1, round(CROP_CELL_M / 1.5 / grid.resolution_m))
    image = _pooled(context.map, factor)
    low = world.new_tensor([grid.x_min_m, grid.y_min_m])
    # Of the pooled image, which reaches beyond the grid where the factor does not divide it.
    shape = world.new_tensor([image.shape[-1], image.shape[-2]])
    where = (world - low) / (shape * factor * grid.resolution_m) * 2 - 1
    views = where.view(-1, CROP_CELLS, CROP_CELLS, 2)
    if torch.compiler.is_exporting():  # one sequence; a copy of the image for each would be made
        rows = functional.grid_sample(image, views.flatten(0, 1)[None], align_corners=False)
        return rows[0].view(-1, *views.shape[:3]).transpose(0, 1)
    counts = torch.bincount(packed.sequence, minlength=len(image)).tolist()
    # One view of the image for each query: no copies, and torch's threads share the queries.
    crops = [
        functional.grid_sample(own.expand(len(view), -1, -1, -1), view, align_corners=False)
        for own, view in zip(image[:, None], torch.split(views, counts), strict=True)
    ]
    return torch.cat(crops)


def _pooled(image: Float[Tensor, "b m h w"], factor: int) -> Float[Tensor, "b m hp wp"]:
    """Max-pooling with ``ceil_mode``; torch's own keeps indices and takes ten times as long."""
    height, width = image.shape[-2:]
    image = functional.pad(image, (0, -width % factor, 0, -height % factor), value=-torch.inf)
    image = reduce(torch.maximum, (image[..., k::factor, :] for k in range(factor)))
    return reduce(torch.maximum, (image[..., k::factor] for k in range(factor)))


def nearest_queries(packed: PackedQueries) -> tuple[Int[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """The nearest other queries of the same sequence and group."""
    count = len(packed.pose)
    with torch.no_grad():
        distance = torch.cdist(packed.pose[:, :2], packed.pose[:, :2])
        other = packed.sequence[:, None] == packed.sequence[None]
        if packed.group is not None:
            other &= packed.group[:, None] == packed.group[None]
        other &= ~torch.eye(count, dtype=torch.bool, device=distance.device)
        distance = distance.masked_fill(~other, torch.inf)
        near, index = distance.topk(min(NEIGHBOURS, count), largest=False)
    return index, torch.isfinite(near)


def nearest_points(
    packed: PackedQueries, points: Float[Tensor, "b p 3"]
) -> tuple[Float[Tensor, "n k 3"], Bool[Tensor, "n k"]]:
    """The lane points nearest to where each agent will be in two time units."""
    with torch.no_grad():
        centre = se2.apply(packed.pose, 2 * packed.twist[:, :2])
        # A coordinate at a time: what lies close in memory is several times quicker to go through.
        x, y = (points[..., k].contiguous().index_select(0, packed.sequence) for k in (0, 1))
        distance = (x - centre[:, :1]).square() + (y - centre[:, 1:]).square()
        distance = torch.nan_to_num(distance, nan=torch.inf)
        count = min(LANE_POINTS, points.shape[1])
        near, index = distance.topk(count, largest=False, sorted=False)
        place = (index + packed.sequence[:, None] * points.shape[1]).flatten()
        chosen = points.flatten(0, 1).index_select(0, place).view(len(index), count, 3)
        valid = torch.isfinite(near)
    return torch.nan_to_num(chosen), valid
