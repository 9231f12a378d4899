"""The decoder: what track queries learn from their surroundings at one step."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from forecast.model.layers.attention import feature_attention
from forecast.model.raster_encoder import Memory, reference_points
from forecast.model.scene.context import Rows, Surroundings
from forecast.model.scene_attention import LaneAttention, NeighbourAttention
from forecast.model.spec import ForecasterSpec


class DecoderLayer(nn.Module):
    """Neighbours, lanes, the memory around the query, then a feed-forward network (pre-norm).

    Args:
        spec: Hyper-parameters.
        traits: Numbers in ``Rows.traits``.
    """

    def __init__(self, spec: ForecasterSpec, traits: int) -> None:
        super().__init__()
        dim, ffn = spec.dim, spec.ffn
        self.neighbours = NeighbourAttention(dim, traits, spec.hidden)
        self.lanes = LaneAttention(dim, spec.hidden)
        self.norm_memory = nn.LayerNorm(dim)
        self.memory = feature_attention(
            spec.attention, spec.dim, spec.heads, spec.levels, spec.points, spec.backend
        )
        # The memory starts silent and can only add to what the agent's own frame tells.
        nn.init.zeros_(self.memory.output_proj.weight)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn), nn.ReLU(), nn.Linear(ffn, dim))
        self.dropout = nn.Dropout(0.0)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        position: Float[Tensor, "n d"],
        rows: Rows,
        around: Surroundings,
        memory: Memory | None,
    ) -> Float[Tensor, "n d"]:
        """Reads everything once; without a memory that part is left out."""
        x = self.neighbours(x + position, rows) - position
        x = self.lanes(x + position, rows, around) - position
        if memory is not None:
            x = x + self._read(self.norm_memory(x) + position, rows, around, memory)
        out: Tensor = x + self.dropout(self.ffn(self.norm_ffn(x)))
        return out

    def _read(self, query: Tensor, rows: Rows, around: Surroundings, memory: Memory) -> Tensor:
        pose = rows.packing.pad(rows.pose)
        read = self.memory(
            rows.packing.pad(query),
            reference_points(pose[..., :2], around.grid, len(memory.levels)),
            memory.flat(),
            memory.shapes,
            heading=pose[..., 2],
        )
        return rows.packing.pack(read)


class Decoder(nn.Module):
    """A stack of layers with a final norm; arguments as :class:`DecoderLayer`."""

    def __init__(self, spec: ForecasterSpec, traits: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(spec, traits) for _ in range(spec.decoder_layers))
        self.norm = nn.LayerNorm(spec.dim)

    def forward(
        self,
        content: Float[Tensor, "n d"],
        position: Float[Tensor, "n d"],
        rows: Rows,
        around: Surroundings,
        memory: Memory | None,
    ) -> Float[Tensor, "n d"]:
        """Decoded queries, packed as ``rows``."""
        return self.every(content, position, rows, around, memory)[-1]

    def every(
        self,
        content: Float[Tensor, "n d"],
        position: Float[Tensor, "n d"],
        rows: Rows,
        around: Surroundings,
        memory: Memory | None,
    ) -> list[Float[Tensor, "n d"]]:
        """The queries as they are after each layer, the last one included."""
        x, outputs = content, []
        for layer in self.layers:
            x = layer(x, position, rows, around, memory)
            outputs.append(self.norm(x))
        return outputs
