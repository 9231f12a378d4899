"""The transformer of the original DETR: every query reads every cell.

Source: Carion et al., "End-to-end object detection with transformers" (2020).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.detector.decoder import DecoderLayer
from forecast.detector.outputs import Decoded
from forecast.detector.spec import DetectorSpec
from forecast.model.layers.dense_attention import DenseAttention
from forecast.model.layers.encoder import EncoderLayer
from forecast.model.layers.levels import shapes_of


class DenseTransformer(nn.Module):
    """Encoder over the cells of one map, decoder over learned queries.

    Args:
        spec: Hyper-parameters.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        dim, heads, dropout = spec.hidden_dim, spec.heads, spec.dropout
        self.auxiliary = spec.auxiliary
        self.encoder = nn.ModuleList(
            EncoderLayer(DenseAttention(dim, heads, dropout), dim, spec.ffn, dropout)
            for _ in range(spec.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(
                nn.MultiheadAttention(dim, heads, dropout, batch_first=True),
                DenseAttention(dim, heads, dropout),
                dim,
                spec.ffn,
                dropout,
            )
            for _ in range(spec.decoder_layers)
        )
        self.norm = nn.LayerNorm(dim)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.query_embed = nn.Embedding(spec.queries, dim)

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
