"""Lane points as they are read: as far apart on every map, however many lanes cross there."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Points of a place whose directions fall into different eighths of a turn are different lanes.
DIRECTIONS = 8
# Places are told apart within so many cells from the origin to each side.
SPAN = 4096


def thinned(points: Float[Tensor, "b p 3"], spacing_m: float) -> Float[Tensor, "b q 3"]:
    """One point of each direction in every square of a lattice: the first that there is.

    A query reads a fixed number of the nearest points. On a street of six lanes with all their
    connections they would end after a few metres, on a country road after a hundred.

    Args:
        points: x, y, yaw; NaN padded.
        spacing_m: Side of the squares.
    """
    known = torch.isfinite(points).all(-1)
    place = torch.where(known[..., None], points, 0.0)
    cell = (place[..., :2] / spacing_m).floor().long().clamp(-SPAN, SPAN - 1) + SPAN
    turn = (place[..., 2] / (2 * torch.pi) * DIRECTIONS).round().long() % DIRECTIONS
    key = (cell[..., 0] * 2 * SPAN + cell[..., 1]) * DIRECTIONS + turn
    key = torch.where(known, key, -1)
    ordered, order = torch.sort(key, dim=1, stable=True)
    first = torch.ones_like(known)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    kept = torch.zeros_like(known).scatter(1, order, first) & known
    most = int(kept.sum(1).max()) if kept.numel() else 0
    front = torch.argsort((~kept).byte(), dim=1, stable=True)[:, :most]
    chosen = points.gather(1, front[..., None].expand(-1, -1, 3))
    return torch.where(kept.gather(1, front)[..., None], chosen, torch.nan)
