"""The deformable transformer: encoder over a pyramid, decoder with box refinement.

Source: Zhu et al., "Deformable DETR" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from forecast.detector.decoder import DecoderLayer
from forecast.detector.outputs import Decoded
from forecast.detector.padding import shrink_mask, valid_ratio
from forecast.detector.spec import DetectorSpec
from forecast.model.layers.deformable_attention import MultiScaleDeformableAttention
from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.encoder import EncoderLayer
from forecast.model.layers.levels import (
    flatten_levels,
    level_cell_centres,
    shapes_of,
    unflatten_levels,
)
from forecast.model.layers.position_encoding import position_embedding

RESIDUAL_LEVELS = 3  # residual layers read, from the last; further levels halve the one before
LOGIT_EPSILON = 1e-5  # as the original: references reach the border of the frame, logits do not


class DeformableTransformer(nn.Module):
    """From a pyramid to decoded queries, with multi-scale deformable attention throughout.

    Args:
        spec: Hyper-parameters.
        widths: Channels of the pyramid, finest level first.
    """

    def __init__(self, spec: DetectorSpec, widths: Sequence[int]) -> None:
        super().__init__()
        dim = spec.hidden_dim
        self.auxiliary = spec.auxiliary
        self.residual = min(spec.levels, RESIDUAL_LEVELS)
        self.input_proj = _input_projections(widths[-self.residual :], spec.levels, dim)
        self.position = position_embedding(spec.position, dim)
        self.level_embed = nn.Parameter(torch.randn(spec.levels, dim))
        self.encoder = nn.ModuleList(
            EncoderLayer(_attention(spec), dim, spec.ffn, spec.dropout)
            for _ in range(spec.encoder_layers)
        )
        self.query_embed = nn.Embedding(spec.queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 2)
        self.decoder = nn.ModuleList(
            DecoderLayer(
                nn.MultiheadAttention(dim, spec.heads, spec.dropout, batch_first=True),
                _attention(spec),
                dim,
                spec.ffn,
                spec.dropout,
            )
            for _ in range(spec.decoder_layers)
        )
        self._reset()

    def _reset(self) -> None:
        for layers in (self.encoder, self.decoder):
            for name, parameter in layers.named_parameters():
                # Deformable attention sets its own: it starts by looking in all directions.
                if parameter.dim() > 1 and ".attention." not in name:
                    nn.init.xavier_uniform_(parameter)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self,
        pyramid: Sequence[Float[Tensor, "b c hl wl"]],
        mask: Bool[Tensor, "b h w"] | None = None,
        refine: nn.ModuleList | None = None,
    ) -> Decoded:
        """Encodes the pyramid and decodes the queries.

        Args:
            pyramid: Levels of the backbone, finest first.
            mask: True where a cell of the frame is padding; None where none is, as in a BEV.
            refine: The box head of each decoder layer, where layers correct each other's boxes.
        """
        levels = self._project(pyramid)
        masks = [shrink_mask(mask, level) for level in levels]
        shapes = shapes_of(levels)
        ratios = torch.stack([valid_ratio(part, levels[0].dtype) for part in masks], 1)
        padding = None if mask is None else torch.cat([part.flatten(1) for part in masks], 1)
        memory = self._encode(levels, masks, shapes, ratios, padding)
        query_pos, query = self.query_embed.weight.expand(len(memory), -1, -1).chunk(2, -1)
        initial = self.reference_points(query_pos).sigmoid()
        hs, references = [], []
        x, reference = query, initial
        for index, layer in enumerate(self.decoder):
            scaled = reference[:, :, None] * ratios.repeat(1, 1, reference.shape[-1] // 2)[:, None]
            x = layer(x, query_pos, scaled, memory, shapes, padding)
            hs.append(x)
            references.append(reference)
            if refine is not None and index + 1 < len(self.decoder):
                reference = corrected(refine[index](x), reference).detach()
        first = 0 if self.auxiliary else len(hs) - 1
        return Decoded(
            memory=memory,
            hs=torch.stack(hs[first:]),
            seg_memory=unflatten_levels(memory, shapes)[-1],
            seg_mask=masks[-1],
            init_reference=initial,
            references=tuple(references[first:]),
        )

    def _project(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        levels: list[Tensor] = []
        for index, project in enumerate(self.input_proj):
            if index < self.residual:
                source = pyramid[index - self.residual]
            elif index == self.residual:
                source = pyramid[-1]
            else:
                source = levels[-1]
            levels.append(project(source))
        return levels

    def _encode(
        self,
        levels: Sequence[Tensor],
        masks: Sequence[Tensor],
        shapes: Shapes,
        ratios: Float[Tensor, "b levels 2"],
        padding: Bool[Tensor, "b s"] | None,
    ) -> Float[Tensor, "b s d"]:
        x = flatten_levels(levels)
        position = flatten_levels(
            [
                self.position(mask).to(x.dtype) + embed[:, None, None]
                for mask, embed in zip(masks, self.level_embed, strict=True)
            ]
        )
        reference = _encoder_references(shapes, ratios)
        for layer in self.encoder:
            x = layer(x, position, reference, shapes, padding)
        return x


def corrected(
    delta: Float[Tensor, "b q 4"], reference: Float[Tensor, "b q k"]
) -> Float[Tensor, "b q 4"]:
    """Boxes from what a box head says of reference points (k = 2) or boxes (k = 4)."""
    known = torch.logit(reference, LOGIT_EPSILON)
    return (delta + functional.pad(known, (0, 4 - known.shape[-1]))).sigmoid()


def _attention(spec: DetectorSpec) -> MultiScaleDeformableAttention:
    return MultiScaleDeformableAttention(
        spec.hidden_dim, spec.heads, spec.levels, spec.points, spec.backend
    )


def _input_projections(widths: Sequence[int], levels: int, dim: int) -> nn.ModuleList:
    """A 1 x 1 convolution for each residual layer, one of stride 2 for each extra level."""
    convolutions = [nn.Conv2d(width, dim, 1) for width in widths]
    for extra in range(levels - len(widths)):
        source = widths[-1] if extra == 0 else dim
        convolutions.append(nn.Conv2d(source, dim, 3, stride=2, padding=1))
    for convolution in convolutions:
        nn.init.xavier_uniform_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.ModuleList(nn.Sequential(c, nn.GroupNorm(32, dim)) for c in convolutions)


def _encoder_references(
    shapes: Shapes, ratios: Float[Tensor, "b levels 2"]
) -> Float[Tensor, "b s levels 2"]:
    """Each cell's centre as a share of its own level's valid part, then in every level."""
    own = [ratios[:, [i]].expand(-1, h * w, -1) for i, (h, w) in enumerate(shapes)]
    return level_cell_centres(shapes, ratios) / torch.cat(own, 1)[:, :, None] * ratios[:, None]
