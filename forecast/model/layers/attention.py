"""How queries read encoded features: around a point (deformable), or every cell (dense)."""

from __future__ import annotations

from forecast.model.layers.choices import AttentionName, BackendName
from forecast.model.layers.deformable_attention import MultiScaleDeformableAttention
from forecast.model.layers.dense_attention import DenseAttention

FeatureAttention = MultiScaleDeformableAttention | DenseAttention
"""Both have one interface, so that what surrounds them is the same."""


def feature_attention(
    kind: AttentionName,
    dim: int,
    heads: int,
    levels: int,
    points: int,
    backend: BackendName = "auto",
) -> FeatureAttention:
    """The attention of that kind.

    Args:
        kind: Deformable or dense.
        dim: Width of queries and features.
        heads: Attention heads.
        levels: Levels of the pyramid; for deformable attention.
        points: Samples per head and level; for deformable attention.
        backend: Implementation of deformable attention.
    """
    match kind:
        case "deformable":
            return MultiScaleDeformableAttention(dim, heads, levels, points, backend)
        case "dense":
            return DenseAttention(dim, heads)
