"""Where the edges of a mask put its box, closer than moments do.

A cell is in a mask if its centre is in the box. So each cell along an edge bounds where that edge
is, and all of them together bound centre, heading and size to a fraction of a cell.

Source: the most likely box, by Fisher scoring of a logistic model of the cells (McCullagh and
Nelder, "Generalized Linear Models", 1989, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from forecast.grid import BEVGrid

# How sharp edges are, in cells.
BLUR = 0.2
ITERATIONS = 4
# What moments say counts as much as a few cells at an edge, in cells^-2 and radians^-2.
PRIOR = 7.5
# Farthest that an iteration goes, in cells or radians.
LONGEST_STEP = 0.2
# Cells well inside or outside have hardly any variance.
LEAST_VARIANCE = 0.02
# A box that reaches farther from its centre is left to its moments: each looks at as many cells.
FARTHEST = 22


@dataclass(frozen=True)
class _Cells:
    """C cells around each of M masks.

    Attributes:
        place: x, y from the centre's cell, in cells.
        inside: 1 where the mask is, else 0.
        known: 1, or 0 beyond the grid.
    """

    place: Float[Tensor, "c 2"]
    inside: Float[Tensor, "m c"]
    known: Float[Tensor, "m c"]


def fit_to_edges(
    pose: Float[Tensor, "b n 3"],
    size: Float[Tensor, "b n 2"],
    ids: Int[Tensor, "b n"],
    instance: Int[Tensor, "b h w"],
    grid: BEVGrid,
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 2"]]:
    """Poses and sizes of boxes that are where the edges of their masks are.

    Cells beyond the grid tell nothing, so that an agent that is half outside is as moments say.

    Args:
        pose: Of every mask by its moments.
        size: Length and width by the same, metres.
        ids: Of the masks; 0 = none.
        instance: Id of each cell.
        grid: The grid.
    """
    cell = grid.resolution_m
    reach = torch.linalg.vector_norm(size, dim=-1) / (2 * cell) + 1
    which = ((ids > 0) & (reach <= FARTHEST)).nonzero(as_tuple=True)
    if not len(which[0]):
        return pose, size
    place = (pose[which][:, :2] - pose.new_tensor([grid.x_m[0], grid.y_m[0]])) / cell
    middle = place.round()
    cells = _cells(ids[which], which[0], middle.long(), int(reach[which].max()) + 1, instance)
    box = torch.cat((place - middle, pose[which][:, 2:], size[which] / cell), -1)
    for _ in range(ITERATIONS):
        box = box + _step(box, cells)
    off = (box[:, :2] + middle - place) * cell
    pose, size = pose.clone(), size.clone()
    pose[which] = torch.cat((pose[which][:, :2] + off, box[:, 2:3]), -1)
    size[which] = box[:, 3:] * cell
    return pose, size


def _cells(
    ids: Int[Tensor, "m"],
    sequence: Int[Tensor, "m"],
    middle: Int[Tensor, "m 2"],
    reach: int,
    instance: Int[Tensor, "b h w"],
) -> _Cells:
    """The cells within so many of each mask's middle."""
    near = torch.arange(-reach, reach + 1, device=ids.device)
    place = torch.stack(torch.meshgrid(near, near, indexing="xy"), -1).flatten(0, 1)
    column, row = (middle[:, None] + place).unbind(-1)
    height, width = instance.shape[-2:]
    known = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    cell = instance[sequence[:, None], row.clamp(0, height - 1), column.clamp(0, width - 1)]
    inside = cell == ids[:, None]
    return _Cells(place.float(), inside.float(), known.float())


def _step(box: Float[Tensor, "m 5"], cells: _Cells) -> Float[Tensor, "m 5"]:
    """By how much x, y, yaw, length and width become more likely."""
    away = cells.place - box[:, None, :2]
    cos, sin = box[:, None, 2].cos(), box[:, None, 2].sin()
    ahead = away[..., 0] * cos + away[..., 1] * sin
    aside = away[..., 1] * cos - away[..., 0] * sin
    end, side = ahead.abs() - box[:, 3:4] / 2, aside.abs() - box[:, 4:] / 2
    # Where a cell lies is told by the nearest edge: an end or a side.
    ends = (end > side).to(end.dtype)
    sides = 1 - ends
    to_end, to_side = ahead.sign() * ends, aside.sign() * sides
    slope = torch.stack(
        (
            to_side * sin - to_end * cos,
            -to_side * cos - to_end * sin,
            to_end * aside - to_side * ahead,
            -ends / 2,
            -sides / 2,
        ),
        -1,
    )
    likely = torch.sigmoid(-torch.maximum(end, side) / BLUR)
    variance = likely * (1 - likely)
    change = -(variance / BLUR)[..., None] * slope
    weighted = change * (cells.known / variance.clamp(min=LEAST_VARIANCE))[..., None]
    information = weighted.mT @ change + PRIOR * torch.eye(5, device=box.device)
    score = weighted.mT @ (cells.inside - likely)[..., None]
    step: Tensor = torch.linalg.solve(information, score)[..., 0]
    return step.clamp(-LONGEST_STEP, LONGEST_STEP)
