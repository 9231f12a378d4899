"""The deformable encoder's layer, and levels of a pyramid as one sequence of cells.

Source: Zhu et al., "Deformable DETR" (2021).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.mlp import MLP


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
        self.ffn = MLP(dim, ffn, dim, dropout=dropout)
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
