"""The query interaction module: this frame's decoded track queries become the next frame's.

Source: Zeng et al., "MOTR" (2022), QIM; the position part is recomputed from each query's
kinematic state, as in MOTRv2; the update of MOTR itself is there as an option of the module.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn


class QueryInteraction(nn.Module):
    """Attention among tracks, then an update of their content as a residual stream.

    Args:
        dim: Width D of a query's position and content.
        heads: Attention heads.
        ffn: Width of the feed-forward networks.
        update_position: Whether the position part is updated as well.
    """

    def __init__(self, dim: int, heads: int, ffn: int, update_position: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = _feed_forward(dim, ffn)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn_content = _feed_forward(dim, ffn)
        self.norm_content = nn.LayerNorm(dim)
        self.ffn_position = _feed_forward(dim, ffn) if update_position else None
        self.norm_position = nn.LayerNorm(dim) if update_position else None

    def forward(
        self,
        output: Float[Tensor, "b q d"],
        position: Float[Tensor, "b q d"],
        content: Float[Tensor, "b q d"],
        live: Bool[Tensor, "b q"],
    ) -> tuple[Float[Tensor, "b q d"], Float[Tensor, "b q d"]]:
        """The next frame's position and content of every live query.

        Args:
            output: The decoder's output for each query.
            position: Position part of the queries that went in.
            content: Content part of the queries that went in.
            live: Which queries are tracks; the others are neither read nor meaningful.
        """
        # A sequence without any track still needs one key, or its softmax is NaN.
        hidden = ~live & live.any(1, keepdim=True)
        key = output + position
        read, _ = self.attention(key, key, output, key_padding_mask=hidden, need_weights=False)
        x = self.norm1(output + read)
        x = self.norm2(x + self.ffn(x))
        content = self.norm_content(content + self.ffn_content(x))
        if self.ffn_position is not None and self.norm_position is not None:
            position = self.norm_position(position + self.ffn_position(x))
        return position, content


def _feed_forward(dim: int, ffn: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, ffn), nn.ReLU(), nn.Linear(ffn, dim))
