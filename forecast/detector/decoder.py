"""The decoder's layer: queries read each other, then the encoded frame.

Sources: Carion et al., "End-to-end object detection with transformers" (2020), dense attention;
Zhu et al., "Deformable DETR" (2021), deformable attention.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.attention import FeatureAttention
from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.mlp import MLP


class DecoderLayer(nn.Module):
    """Attention among queries, attention to the memory, feed-forward network (post-norm).

    Args:
        self_attention: Attention among queries, batch first.
        attention: Attention to the memory; deformable or dense.
        dim: Width D of queries and memory.
        ffn: Width of the feed-forward network.
        dropout: Probability of dropping a number in training.
    """

    def __init__(
        self,
        self_attention: nn.MultiheadAttention,
        attention: FeatureAttention,
        dim: int,
        ffn: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = MLP(dim, ffn, dim, dropout=dropout)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        query_pos: Float[Tensor, "b q d"],
        reference: Float[Tensor, "b q levels k"] | None,
        memory: Float[Tensor, "b s d"],
        shapes: Shapes,
        padding: Bool[Tensor, "b s"] | None = None,
        key: Float[Tensor, "b s d"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        """Decodes queries.

        Args:
            x: The queries.
            query_pos: Their position embeddings, added wherever they ask.
            reference: Where deformable attention looks, points (k = 2) or boxes (k = 4); None for
                dense attention.
            memory: The encoded cells.
            shapes: Height and width of each level.
            padding: True where a cell is padding.
            key: The encoded cells with their position embeddings added, for dense attention.
        """
        query = x + query_pos
        read, _ = self.self_attention(query, query, x, need_weights=False)
        x = self.norm1(x + self.dropout(read))
        read = self.attention(x + query_pos, reference, memory, shapes, padding=padding, key=key)
        x = self.norm2(x + self.dropout(read))
        out: Tensor = self.norm3(x + self.dropout(self.ffn(x)))
        return out
