"""Detected input: gives every occupied cell of a raster to the track that covers it.

A tracker's boxes say who is where; the raster says exactly how far each agent reaches. Cells start
from the box that they lie in, then each label floods what is connected to it, so that a box that
is half a metre off still collects its whole agent. What looks like one vehicle is not divided.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.masks import sides
from forecast.model.tracking.components import components_of
from forecast.model.tracking.tracks import Tracks

# Cells that a label may flood beyond its box: the reach of a lorry whose box is too short.
FLOOD_CELLS = 12
# A component is taken for one vehicle if it fills a rectangle to within this share ...
RECTANGLE = 0.12
# ... as long as cars to lorries are, and no wider than these. Two cars in a row have the length of
# a lorry, but mostly the width of a car: where cells make them wider, they are taken for one.
SHORTEST_M, LONGEST_M, WIDEST_M = 3.0, 19.0, 3.3
LORRY_LENGTH_M, LORRY_WIDTH_M = 6.5, 2.3


def segment(semantic: Int[Tensor, "b h w"], tracks: Tracks, grid: BEVGrid) -> Int[Tensor, "b h w"]:
    """Label maps of the tracks, from class maps of the same moment.

    Args:
        semantic: Class of each cell; 0 = background.
        tracks: Tracks with their poses, expected ones where not seen: what the tracker missed may
            still be there in the raster.
        grid: The grid.

    Returns:
        The id of the track that each occupied cell belongs to; 0 where no track is near. A cell
        belongs to tracks of its own class only.
    """
    # Components are found on the CPU: all that it takes is brought there at once.
    kind = torch.where(tracks.ids > 0, tracks.score.argmax(-1) + 1, 0).cpu()
    ids, occupied, pose = tracks.ids.cpu(), semantic.cpu(), tracks.pose.detach().cpu()
    size = tracks.size.detach().clamp(min=2 * grid.resolution_m).cpu()
    labels = torch.zeros_like(occupied, dtype=torch.long)
    x, y = (torch.as_tensor(axis, dtype=torch.float32) for axis in (grid.x_m, grid.y_m))
    for index, cells in enumerate(occupied):
        row, column = cells.nonzero(as_tuple=True)
        here = kind[index] > 0
        if not len(row) or not here.any():
            continue
        points = torch.stack((x[column], y[row]), -1)
        share = _share(points, pose[index, here], size[index, here])
        other = cells[row, column][:, None] != kind[index, here]
        best, owner = share.masked_fill(other, torch.inf).min(1)
        claimed = torch.where(best <= 1.0, owner, -1)
        part = torch.as_tensor(components_of(cells.numpy())[0])[row, column]
        claimed = torch.where(_in_one_part(claimed, part), claimed, -1)
        claimed = _undivided(claimed, part, points, grid.resolution_m)
        labels[index, row, column] = functional.pad(ids[index, here], (1, 0))[claimed + 1]
    return _flood(labels.to(semantic.device), semantic)


def _in_one_part(claimed: Int[Tensor, "n"], part: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
    """Whether each cell, claimed by some track (-1 = none), lies in that track's main component.

    An agent is in one piece; a box that is too large must not take its neighbours along.
    """
    pairs, which, count = torch.unique(
        torch.stack((claimed, part), -1), dim=0, return_inverse=True, return_counts=True
    )
    most = torch.zeros(int(claimed.max()) + 2, dtype=count.dtype, device=count.device)
    most = most.scatter_reduce(0, pairs[:, 0] + 1, count, "amax")
    main: Tensor = (count == most[pairs[:, 0] + 1])[which]
    return (claimed >= 0) & main


def _undivided(
    claimed: Int[Tensor, "n"], part: Int[Tensor, "n"], points: Float[Tensor, "n 2"], cell_m: float
) -> Int[Tensor, "n"]:
    """The same claims, but what looks like one vehicle goes to the track that claims most of it.

    A tracker that has seen few lorries takes a long one for several cars.
    """
    _, own = torch.unique(part, return_inverse=True)
    claims = functional.one_hot(claimed + 1).float()
    votes = claims.new_zeros(int(own.max()) + 1, claims.shape[1]).index_add(0, own, claims)
    votes[:, 0] = 0  # of no track
    winner = votes.argmax(1) - 1
    return torch.where(_vehicles(own, points, cell_m)[own], winner[own], claimed)


def _vehicles(
    part: Int[Tensor, "n"], points: Float[Tensor, "n 2"], cell_m: float
) -> Bool[Tensor, "p"]:
    """Which parts look like one vehicle: rectangles of its length and width."""
    count = torch.bincount(part)

    def mean(values: Float[Tensor, "n k"]) -> Float[Tensor, "p k"]:
        sums = values.new_zeros(len(count), values.shape[1]).index_add(0, part, values)
        return sums / count[:, None]

    x, y = (points - mean(points)[part]).unbind(-1)
    cell = points.new_tensor([1.0, 1.0, 0.0]) * cell_m**2 / 12
    length, width = sides(mean(torch.stack((x * x, y * y, x * y), -1)) + cell).unbind(-1)
    full = (count * cell_m**2 / (length * width) - 1).abs() < RECTANGLE
    lorry: Tensor = (length < LORRY_LENGTH_M) | (width > LORRY_WIDTH_M)
    return full & lorry & (length > SHORTEST_M) & (length < LONGEST_M) & (width < WIDEST_M)


def _share(
    points: Float[Tensor, "n 2"], pose: Float[Tensor, "s 3"], size: Float[Tensor, "s 2"]
) -> Float[Tensor, "n s"]:
    """How far out each point lies in each box: 0 at its centre, 1 on its edge."""
    body = se2.unapply(pose[None], points[:, None])
    return (2 * body.abs() / size).amax(-1)


def _flood(grown: Int[Tensor, "b h w"], kinds: Int[Tensor, "b h w"]) -> Int[Tensor, "b h w"]:
    """Grows every label over connected cells of the same class that have none."""
    for kind in torch.unique(kinds).tolist():
        inside: Bool[Tensor, "b h w"] = kinds == kind
        if kind == 0 or not (inside & (grown == 0)).any():
            continue
        front = torch.where(inside, grown, 0).int()
        for _ in range(FLOOD_CELLS):
            front = torch.where(inside & (front == 0), _largest_beside(front), front)
        grown = torch.where(inside, front.long(), grown)
    return grown


def _largest_beside(labels: Int[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
    """The largest label of a cell's four neighbours: parked cars may touch at a corner."""
    wide = functional.pad(labels, (1, 1, 1, 1))
    rows, columns = wide[:, :, 1:-1], wide[:, 1:-1]
    along = torch.maximum(columns[..., :-2], columns[..., 2:])
    return torch.maximum(along, torch.maximum(rows[:, :-2], rows[:, 2:]))
