"""The transformer of the original DETR: every query reads every cell.

Source: Carion et al., "End-to-end object detection with transformers" (2020).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.detector.decoder import DecoderLayer
from forecast.detector.outputs import Decoded
from forecast.model.layers.dense_attention import DenseAttention
from forecast.model.layers.encoder import EncoderLayer
from forecast.model.layers.levels import shapes_of


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
            EncoderLayer(DenseAttention(dim, heads, dropout), dim, ffn, dropout)
            for _ in range(encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(
                nn.MultiheadAttention(dim, heads, dropout, batch_first=True),
                DenseAttention(dim, heads, dropout),
                dim,
                ffn,
                dropout,
            )
            for _ in range(decoder_layers)
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
        shapes, padded = shapes_of([features]), padding.flatten(1)
        place, memory = (x.flatten(2).transpose(1, 2) for x in (position, features))
        for layer in self.encoder:
            memory = layer(memory, place, None, shapes, padded)
        query_pos = self.query_embed.weight.expand(len(memory), -1, -1)
        x = torch.zeros_like(query_pos)
        layers = []
        for layer in self.decoder:
            x = layer(x, query_pos, None, memory, shapes, padded, key=memory + place)
            layers.append(x)
        returned = layers if self.auxiliary else layers[-1:]
        return Decoded(
            memory=memory.transpose(0, 1),
            hs=self.norm(torch.stack(returned)),
            seg_memory=memory.transpose(1, 2).reshape(features.shape),
            seg_mask=padding,
        )
