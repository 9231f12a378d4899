"""The deformable encoder's layer, and levels of a pyramid as one sequence of cells.

Source: Zhu et al., "Deformable DETR" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.deformable_kernels import Shapes


class EncoderLayer(nn.Module):
    """Self-attention over the pyramid, then a feed-forward network (post-norm).

    Args:
        attention: With the interface of ``MultiScaleDeformableAttention``.
        dim: Width of the cells.
        ffn: Width of the feed-forward network.
        dropout: Probability.
    """

    def __init__(self, attention: nn.Module, dim: int, ffn: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = attention
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = feed_forward(dim, ffn, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        position: Float[Tensor, "*b s d"],
        reference: Float[Tensor, "b s levels 2"],
        shapes: Shapes,
        padding: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b s d"]:
        """One round of message passing between cells; ``padding`` is True where there is none."""
        read = self.attention(x + position, reference, x, shapes, padding=padding)
        x = self.norm1(x + self.dropout(read))
        out: Tensor = self.norm2(x + self.dropout(self.ffn(x)))
        return out


def feed_forward(dim: int, ffn: int, dropout: float = 0.0) -> nn.Sequential:
    """Two linear layers with ReLU and dropout between them."""
    between = nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(nn.Linear(dim, ffn), between, nn.Linear(ffn, dim))


def shapes_of(levels: Sequence[Tensor]) -> Shapes:
    """Height and width of each level."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


def flatten_levels(levels: Sequence[Float[Tensor, "b d hl wl"]]) -> Float[Tensor, "b s d"]:
    """All levels, row by row, one after the other."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)


def unflatten_levels(
    x: Float[Tensor, "b s d"], shapes: Shapes
) -> tuple[Float[Tensor, "b d hl wl"], ...]:
    """The levels of a sequence of cells as maps again."""
    parts = torch.split(x, [h * w for h, w in shapes], 1)
    return tuple(
        part.transpose(1, 2).reshape(len(part), -1, *shape)
        for part, shape in zip(parts, shapes, strict=True)
    )


def cell_centres(shapes: Shapes, like: Tensor) -> Float[Tensor, "1 s 1 2"]:
    """Centre of every cell of every level, x and y in [0, 1]."""
    centres = []
    for height, width in shapes:
        y = (torch.arange(height, device=like.device) + 0.5) / height
        x = (torch.arange(width, device=like.device) + 0.5) / width
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
        centres.append(grid.flatten(0, 1))
    return torch.cat(centres)[None, :, None].to(like.dtype)
