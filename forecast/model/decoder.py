"""The decoder of the forecaster: queries read their neighbours, the lanes and the raster."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.model.layers.attention import feature_attention
from forecast.model.layers.mlp import MLP
from forecast.model.raster_encoder import EncodedFeatures, reference_points
from forecast.model.scene.context import PackedQueries
from forecast.model.scene_attention import LaneAttention, NeighbourAttention
from forecast.model.spec import ForecasterSpec
from forecast.types import SceneContext


class DecoderLayer(nn.Module):
    """Attention to neighbours, lanes and encoded features, feed-forward network (pre-norm).

    Args:
        spec: Hyper-parameters.
        attributes: Numbers in ``PackedQueries.attributes``.
    """

    def __init__(self, spec: ForecasterSpec, attributes: int) -> None:
        super().__init__()
        dim, ffn = spec.hidden_dim, spec.ffn
        self.neighbours = NeighbourAttention(dim, attributes, spec.scene_dim)
        self.lanes = LaneAttention(dim, spec.scene_dim)
        self.norm_features = nn.LayerNorm(dim)
        self.cross_attention = feature_attention(
            spec.attention, spec.hidden_dim, spec.heads, spec.levels, spec.points, spec.backend
        )
        # Untrained, encoded features add nothing to what is read in the agent's own frame.
        nn.init.zeros_(self.cross_attention.output_proj.weight)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = MLP(dim, ffn, dim)
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        query_pos: Float[Tensor, "n d"],
        packed: PackedQueries,
        context: SceneContext,
        features: EncodedFeatures | None,
    ) -> Float[Tensor, "n d"]:
        """Decodes the queries once.

        Args:
            x: The queries.
            query_pos: Their position embeddings, added wherever they ask.
            packed: Poses, motions and attributes of the queries.
            context: Map and lanes.
            features: Of the raster; None where it is not read.
        """
        x = self.neighbours(x + query_pos, packed) - query_pos
        x = self.lanes(x + query_pos, packed, context) - query_pos
        if features is not None:
            x = x + self._read(self.norm_features(x) + query_pos, packed, context, features)
        out: Tensor = x + self.dropout(self.ffn(self.norm_ffn(x)))
        return out

    @record_function("decoder: encoded features")
    def _read(
        self, query: Tensor, packed: PackedQueries, context: SceneContext, features: EncodedFeatures
    ) -> Tensor:
        pose = packed.packing.pad(packed.pose)
        read = self.cross_attention(
            packed.packing.pad(query),
            reference_points(pose[..., :2], context.grid, len(features.levels)),
            features.flat(),
            features.shapes,
            heading=pose[..., 2],
        )
        return packed.packing.pack(read)


class Decoder(nn.Module):
    """A stack of layers with a final norm; arguments as :class:`DecoderLayer`."""

    def __init__(self, spec: ForecasterSpec, attributes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(spec, attributes) for _ in range(spec.decoder_layers)
        )
        self.norm = nn.LayerNorm(spec.hidden_dim)

    @record_function("decoder: the rest")
    def forward(
        self,
        query: Float[Tensor, "n d"],
        query_pos: Float[Tensor, "n d"],
        packed: PackedQueries,
        context: SceneContext,
        features: EncodedFeatures | None,
    ) -> Float[Tensor, "n d"]:
        """Decoded queries, packed as ``packed``."""
        return self.every(query, query_pos, packed, context, features)[-1]

    def every(
        self,
        query: Float[Tensor, "n d"],
        query_pos: Float[Tensor, "n d"],
        packed: PackedQueries,
        context: SceneContext,
        features: EncodedFeatures | None,
    ) -> list[Float[Tensor, "n d"]]:
        """The queries as they are after each layer, the last one included."""
        x, outputs = query, []
        for layer in self.layers:
            x = layer(x, query_pos, packed, context, features)
            outputs.append(self.norm(x))
        return outputs
