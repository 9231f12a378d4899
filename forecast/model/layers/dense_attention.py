"""Dense attention: every query reads every cell, through the interface of deformable attention."""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.levels import level_cell_centres
from forecast.model.layers.position_encoding import sines


class DenseAttention(nn.Module):
    """Multi-head attention of every query to every cell of a pyramid, as in the original DETR.

    Where a query looks it has to learn from position embeddings, its own and those of the cells.

    Source: Carion et al., "End-to-end object detection with transformers" (2020).

    Args:
        dim: Width C of queries and values.
        heads: Attention heads; divides C.
        dropout: Probability of dropping an attention weight in training.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)

    @property
    def output_proj(self) -> nn.Linear:
        """The last projection, by the name that it has in deformable attention."""
        return self.attention.out_proj

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        reference: Float[Tensor, "b q levels 2"] | None,
        value: Float[Tensor, "b s c"],
        shapes: Shapes,
        heading: Float[Tensor, "b q"] | None = None,
        padding: Bool[Tensor, "b s"] | None = None,
        key: Float[Tensor, "b s c"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Reads all cells.

        Args:
            query: Queries with their position embeddings added.
            reference: Reference points (x, y) in [0, 1] of each level; not read where keys are
                given.
            value: All levels flattened one after the other.
            shapes: Height and width of each level.
            heading: Not read: dense attention samples at no offsets that could be turned.
            padding: True where a value is padding.
            key: Values with their position embeddings added. None: the sines of the cells' centres
                are added to the values, and those of the reference points to the queries.
        """
        if key is None:
            assert reference is not None
            key = value + sines(level_cell_centres(shapes, value)[:, :, 0] * 2 * math.pi, self.dim)
            query = query + sines(reference[:, :, 0] * 2 * math.pi, self.dim)
        out: Tensor = self.attention(
            query, key, value, key_padding_mask=padding, need_weights=False
        )[0]
        return out
