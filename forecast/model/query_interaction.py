"""The query interaction module: this frame's decoded track queries become the next frame's.

Source: Zeng et al., "MOTR" (2022), QIM. By default ``query_pos`` is not updated here but made anew
from each agent's pose and motion, as in MOTRv2; the update of MOTR itself is an option.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP


class QueryInteraction(nn.Module):
    """Attention among tracks, then an update of each query as a residual stream.

    Args:
        dim: Width D of ``query`` and ``query_pos``.
        heads: Attention heads.
        ffn: Width of the feed-forward networks.
        update_query_pos: Whether ``query_pos`` is updated as well.
    """

    def __init__(self, dim: int, heads: int, ffn: int, update_query_pos: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = MLP(dim, ffn, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn_query = MLP(dim, ffn, dim)
        self.norm_query = nn.LayerNorm(dim)
        self.ffn_query_pos = MLP(dim, ffn, dim) if update_query_pos else None
        self.norm_query_pos = nn.LayerNorm(dim) if update_query_pos else None

    @record_function("query interaction")
    def forward(
        self,
        output: Float[Tensor, "b q d"],
        query_pos: Float[Tensor, "b q d"],
        query: Float[Tensor, "b q d"],
        live: Bool[Tensor, "b q"],
    ) -> tuple[Float[Tensor, "b q d"], Float[Tensor, "b q d"]]:
        """The next frame's query_pos and query of every live query.

        Args:
            output: The decoder's output for each query.
            query_pos: Position embeddings of the queries that were decoded.
            query: The queries as they were before decoding.
            live: Which queries are tracks; the others are neither read nor meaningful.
        """
        # A sequence without any track still needs one key, or its softmax is NaN.
        hidden = ~live & live.any(1, keepdim=True)
        key = output + query_pos
        read, _ = self.attention(key, key, output, key_padding_mask=hidden, need_weights=False)
        x = self.norm1(output + read)
        x = self.norm2(x + self.ffn(x))
        query = self.norm_query(query + self.ffn_query(x))
        if self.ffn_query_pos is not None and self.norm_query_pos is not None:
            query_pos = self.norm_query_pos(query_pos + self.ffn_query_pos(x))
        return query_pos, query
