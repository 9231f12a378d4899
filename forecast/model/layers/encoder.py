"""The encoder's layer: cells of a feature map, or of a pyramid, read each other.

Sources: Carion et al., "End-to-end object detection with transformers" (2020), dense attention;
Zhu et al., "Deformable DETR" (2021), deformable attention.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.attention import FeatureAttention
from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.mlp import MLP


class EncoderLayer(nn.Module):
    """Self-attention among the cells, then a feed-forward network (post-norm).

    Args:
        attention: Deformable or dense.
        dim: Width D of the cells.
        ffn: Width of the feed-forward network.
        dropout: Probability of dropping a number in training.
    """

    def __init__(
        self, attention: FeatureAttention, dim: int, ffn: int, dropout: float = 0.0
    ) -> None:
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
        reference: Float[Tensor, "b s levels 2"] | None,
        shapes: Shapes,
        padding: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b s d"]:
        """One round of message passing between cells.

        Args:
            x: The cells of all levels, one level after the other.
            position: Embedding of each cell's place.
            reference: Centre of each cell, x and y in [0, 1] of every level; None where dense
                attention tells cells apart by ``position`` alone.
            shapes: Height and width of each level.
            padding: True where a cell is padding.
        """
        query = x + position
        key = query if reference is None else None
        read = self.attention(query, reference, x, shapes, padding=padding, key=key)
        x = self.norm1(x + self.dropout(read))
        out: Tensor = self.norm2(x + self.dropout(self.ffn(x)))
        return out
