"""Position embeddings of a feature map: sines, or learned rows and columns.

Source: Carion et al., "End-to-end object detection with transformers" (2020), extended to the
centre-of-cell form of Zhu et al., "Deformable DETR" (2021).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

TABLE = 50  # rows and columns that a learned embedding tells apart
EPSILON = 1e-6  # keeps positions of a map without any valid cell finite


def sine_position(
    height: int, width: int, dim: int, device: torch.device, temperature: float = 10000.0
) -> Float[Tensor, "hw d"]:
    """Embedding of every cell of a map without padding, row by row; y first.

    The numbers are those of :func:`sines` at the cells' centres, but every row and column is
    embedded once. Those of :class:`SinePosition` differ in the last bits on maps of fewer than 32
    rows or columns, where its ``EPSILON`` changes the count of cells.
    """
    y = (torch.arange(height, device=device) + 0.5) / height * 2 * math.pi
    x = (torch.arange(width, device=device) + 0.5) / width * 2 * math.pi
    half = dim // 2
    rows = _waves(y, half, temperature)[:, None].expand(height, width, half)
    columns = _waves(x, half, temperature)[None].expand(height, width, half)
    return torch.cat((rows, columns), -1).flatten(0, 1)


class SinePosition(nn.Module):
    """Sines of a cell's place in the valid part of its map; y first (first half of the embedding).

    Args:
        dim: Width of the embedding.
        centred: Whether a cell's place is its centre (Deformable DETR) or its far edge (DETR).
        temperature: Ratio of the longest period to the shortest.
    """

    def __init__(self, dim: int, centred: bool = True, temperature: float = 10000.0) -> None:
        super().__init__()
        self.dim, self.temperature = dim, temperature
        self.shift = 0.5 if centred else 0.0

    def forward(self, mask: Bool[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """Embeds the cells of a map; ``mask`` is True where a cell is padding."""
        valid = (~mask).float()
        y, x = valid.cumsum(1), valid.cumsum(2)
        y = (y - self.shift) / (y[:, -1:] + EPSILON) * 2 * math.pi
        x = (x - self.shift) / (x[:, :, -1:] + EPSILON) * 2 * math.pi
        waves = [_waves(phase, self.dim // 2, self.temperature) for phase in (y, x)]
        return torch.cat(waves, -1).permute(0, 3, 1, 2)


class LearnedPosition(nn.Module):
    """A learned vector per column and per row; x first, as in DETR.

    Maps with more rows or columns than the table has entries are stretched over it and read between
    entries, so that any size can be embedded.

    Args:
        dim: Width of the embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.row = nn.Embedding(TABLE, dim // 2)
        self.column = nn.Embedding(TABLE, dim // 2)
        nn.init.uniform_(self.row.weight)
        nn.init.uniform_(self.column.weight)

    def forward(self, mask: Bool[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """Embeds the cells of a map; of ``mask`` only the shape counts."""
        batch, height, width = mask.shape
        columns = _spread(self.column.weight, width)[:, None].expand(-1, height, width)
        rows = _spread(self.row.weight, height)[:, :, None].expand(-1, height, width)
        return torch.cat((columns, rows)).expand(batch, -1, -1, -1)


def position_embedding(
    name: Literal["sine", "learned"], dim: int, centred: bool = True
) -> SinePosition | LearnedPosition:
    """The embedding of that name."""
    match name:
        case "sine":
            return SinePosition(dim, centred)
        case "learned":
            return LearnedPosition(dim)


def sines(
    place: Float[Tensor, "*n 2"], dim: int, temperature: float = 10000.0
) -> Float[Tensor, "*n d"]:
    """Embedding of points given as angles (x, y): first half from y, second half from x."""
    waves = [_waves(place[..., axis], dim // 2, temperature) for axis in (1, 0)]
    return torch.cat(waves, -1)


def _spread(table: Float[Tensor, "n d"], count: int) -> Float[Tensor, "d count"]:
    if count <= len(table):
        return table[:count].T
    return nn.functional.interpolate(table.T[None], count, mode="linear", align_corners=True)[0]


def _waves(place: Float[Tensor, "..."], dim: int, temperature: float) -> Float[Tensor, "... d"]:
    """Sines and cosines of falling frequency, taking turns."""
    index = torch.arange(dim, device=place.device)
    phase = place[..., None] / temperature ** (2 * torch.div(index, 2).floor() / dim)
    return torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), -1).flatten(-2)
