"""The transformer of the original DETR: every query reads every cell.

Source: Carion et al., "End-to-end object detection with transformers" (2020); post-norm layers
whose parameter names are those of the public implementation.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.detector.outputs import Decoded


class DenseTransformer(nn.Module):
    """Encoder over the cells of one map, decoder over learned queries.

    Args:
        dim: Width D of memory and queries.
        heads: Attention heads; divides D.
        ffn: Width of the feed-forward networks.
        encoder_layers: Depth of the encoder.
        decoder_layers: Depth of the decoder.
        queries: Objects that can be found in one frame.
        dropout: Probability of dropping a number in training.
        auxiliary: Whether every decoder layer is returned, or only the last.
    """

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        ffn: int = 2048,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        queries: int = 100,
        dropout: float = 0.0,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        self.auxiliary = auxiliary
        self.encoder = nn.ModuleList(
            EncoderLayer(dim, heads, ffn, dropout) for _ in range(encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, heads, ffn, dropout) for _ in range(decoder_layers)
        )
        self.norm = nn.LayerNorm(dim)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.query_embed = nn.Embedding(queries, dim)

    def forward(
        self,
        features: Float[Tensor, "b d h w"],
        padding: Bool[Tensor, "b h w"],
        position: Float[Tensor, "b d h w"],
    ) -> Decoded:
        """Finds objects in a map of features.

        Args:
            features: Backbone features projected to D channels.
            padding: True where a cell is padding.
            position: Embedding of each cell's place.
        """
        hidden, place = padding.flatten(1), position.flatten(2).transpose(1, 2)
        memory = features.flatten(2).transpose(1, 2)
        for encode in self.encoder:
            memory = encode(memory, place, hidden)
        query = self.query_embed.weight.expand(len(memory), -1, -1)
        x = torch.zeros_like(query)
        layers = []
        for decode in self.decoder:
            x = decode(x, query, memory, memory + place, hidden)
            layers.append(x)
        returned = layers if self.auxiliary else layers[-1:]
        return Decoded(
            memory=memory.transpose(0, 1),
            hs=self.norm(torch.stack(returned)),
            seg_memory=memory.transpose(1, 2).reshape(features.shape),
            seg_mask=padding,
        )


class EncoderLayer(nn.Module):
    """Self-attention among cells and a feed-forward network."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        place: Float[Tensor, "b s d"],
        hidden: Bool[Tensor, "b s"],
    ) -> Float[Tensor, "b s d"]:
        """Encodes cells; ``hidden`` ones are not read."""
        key = x + place
        read, _ = self.self_attn(key, key, x, key_padding_mask=hidden, need_weights=False)
        x = self.norm1(x + self.dropout(read))
        wide = self.dropout(torch.relu(self.linear1(x)))
        encoded: Tensor = self.norm2(x + self.dropout(self.linear2(wide)))
        return encoded


class DecoderLayer(nn.Module):
    """Attention among queries, attention to the memory and a feed-forward network."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        query: Float[Tensor, "b q d"],
        memory: Float[Tensor, "b s d"],
        keys: Float[Tensor, "b s d"],
        hidden: Bool[Tensor, "b s"],
    ) -> Float[Tensor, "b q d"]:
        """Decodes queries.

        Args:
            x: Their content.
            query: Their embedding, added wherever they ask.
            memory: Encoded cells.
            keys: Encoded cells with their place added.
            hidden: True where a cell is not to be read.
        """
        key = x + query
        read, _ = self.self_attn(key, key, x, need_weights=False)
        x = self.norm1(x + self.dropout(read))
        read, _ = self.multihead_attn(
            x + query, keys, memory, key_padding_mask=hidden, need_weights=False
        )
        x = self.norm2(x + self.dropout(read))
        wide = self.dropout(torch.relu(self.linear1(x)))
        decoded: Tensor = self.norm3(x + self.dropout(self.linear2(wide)))
        return decoded
