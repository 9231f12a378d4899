"""How queries read a memory: deformable attention around a point, or dense attention to all of it.

Both have one interface, so that what surrounds them is the same.
"""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.levels import level_cell_centres
from forecast.model.layers.position_encoding import sines


class DenseAttention(nn.Module):
    """Multi-head attention of every query to every cell of a pyramid, as in the original DETR.

    Where a query looks it has to learn from the position embeddings, of its own point and of the
    cells; ``heading`` is not read.

    Source: Carion et al., "End-to-end object detection with transformers" (2020).

    Args:
        dim: Width of queries and values.
        heads: Attention heads; divides ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    @property
    def output_proj(self) -> nn.Linear:
        """The last projection, by the name that it has in deformable attention."""
        return self.attention.out_proj

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        reference: Float[Tensor, "b q levels 2"],
        value: Float[Tensor, "b s c"],
        shapes: Shapes,
        heading: Float[Tensor, "b q"] | None = None,
        padding: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """As ``MultiScaleDeformableAttention.forward``."""
        cells = sines(level_cell_centres(shapes, value)[:, :, 0] * 2 * math.pi, self.dim)
        here = sines(reference[:, :, 0] * 2 * math.pi, self.dim)
        out: Tensor = self.attention(
            query + here, value + cells, value, key_padding_mask=padding, need_weights=False
        )[0]
        return out
