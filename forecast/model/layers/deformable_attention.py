"""Multi-scale deformable attention: queries look at a few learned places of a pyramid.

Source: Zhu et al., "Deformable DETR" (2021); the parameter names are those of mmcv's
``MultiScaleDeformableAttention``, so that its weights load here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.errors import ConfigError
from forecast.model.layers.choices import BackendName
from forecast.model.layers.deformable_kernels import Shapes, deformable_attention
from forecast.model.scene import se2


class MultiScaleDeformableAttention(nn.Module):
    """Learns where to look around a reference point, on every level of a pyramid.

    Args:
        embed_dims: Width C of queries and values.
        num_heads: Attention heads; divides C.
        num_levels: Levels of the pyramid.
        num_points: Samples per head and level.
        backend: Implementation.

    Raises:
        ConfigError: The heads do not divide the width.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        backend: BackendName = "auto",
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(
                "a number of heads that divides the hidden size",
                f"{num_heads} heads for {embed_dims}",
                "change model.heads or model.hidden_dim",
            )
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.backend = backend
        total = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, total * 2)
        self.attention_weights = nn.Linear(embed_dims, total)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self._reset()

    def _reset(self) -> None:
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        ray = torch.stack((angle.cos(), angle.sin()), -1)
        ray = ray / ray.abs().amax(-1, keepdim=True)
        radius = torch.arange(1, self.num_points + 1)[:, None]
        bias = (ray[:, None, None] * radius).expand(-1, self.num_levels, -1, -1)
        nn.init.zeros_(self.sampling_offsets.weight)
        self.sampling_offsets.bias.data = bias.reshape(-1).clone()
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Float[Tensor, "b q c"],
        reference: Float[Tensor, "b q levels k"],
        value: Float[Tensor, "b s c"],
        shapes: Shapes,
        heading: Float[Tensor, "b q"] | None = None,
        padding: Bool[Tensor, "b s"] | None = None,
        key: Float[Tensor, "b s c"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """Reads the pyramid around each query's reference point.

        Args:
            query: Queries with their position embedding added.
            reference: Reference points (x, y) in [0, 1] of each level, or boxes (cx, cy, w, h).
            value: All levels flattened one after the other.
            shapes: Height and width of each level.
            heading: Turns the sampling offsets, so that "ahead" means ahead of the query.
            padding: True where a value is padding.
            key: Not read: where a query looks depends on the query alone.
        """
        batch, count, _ = query.shape
        heads, levels, points = self.num_heads, self.num_levels, self.num_points
        projected = self.value_proj(value)
        if padding is not None:
            projected = projected.masked_fill(padding[..., None], 0.0)
        offsets = self.sampling_offsets(query).view(batch, count, heads, levels, points, 2)
        if heading is not None:
            offsets = se2.rotate(offsets, heading[:, :, None, None, None])
        weights = self.attention_weights(query).view(batch, count, heads, levels * points)
        weights = weights.softmax(-1).view(batch, count, heads, levels, points)
        places = reference[:, :, None, :, None]
        if reference.shape[-1] == 2:
            size = query.new_tensor([[w, h] for h, w in shapes])
            locations = places + offsets / size[:, None]
        else:  # offsets reach half a box to each side at the outermost point
            locations = places[..., :2] + offsets / points * places[..., 2:] * 0.5
        values = projected.unflatten(-1, (heads, -1))
        mixed = deformable_attention(values, shapes, locations, weights, self.backend)
        out: Tensor = self.output_proj(mixed)
        return out
