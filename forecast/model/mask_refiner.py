"""The mask head as what refines masks: logits at points of each agent's own frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.grid import BEVGrid
from forecast.model.layers.mask_heads import DotMaskHead, FpnMaskHead
from forecast.model.observer import in_raster
from forecast.model.raster_encoder import EncodedFeatures, RasterEncoder
from forecast.model.scene.refiner import Refiner
from forecast.model.scene.warp import sample_at, sample_own
from forecast.model.spec import ForecasterSpec
from forecast.model.state import LastRaster, SlotStep


def mask_head_of(
    spec: ForecasterSpec, raster_encoder: RasterEncoder | None
) -> DotMaskHead | FpnMaskHead:
    """The mask head of a network; untrained it adds nothing: masks are those of the boxes."""
    if raster_encoder is None or spec.mask_head == "dot":
        return DotMaskHead(spec.hidden_dim, spec.pixel_dim)
    head = FpnMaskHead(spec.hidden_dim, spec.heads, raster_encoder.guide_widths)
    nn.init.zeros_(head.logits.weight)
    return head


def mask_refiner(
    head: DotMaskHead | FpnMaskHead,
    raster: LastRaster,
    features: EncodedFeatures,
    slots: SlotStep,
    grid: BEVGrid,
) -> Refiner:
    """What a mask head says of the agents of a step, from the features of the last raster."""
    if isinstance(head, DotMaskHead):

        def refine(body: Float[Tensor, "b a p 2"]) -> Float[Tensor, "b a p"]:
            pixels = sample_at(features.pixels, in_raster(raster, body), grid)
            out: Tensor = head(slots.output, pixels.permute(0, 2, 3, 1))
            return out

        return refine
    coarse = features.levels[-1]
    nothing_padded = torch.zeros_like(coarse[:, 0], dtype=torch.bool)
    maps = head(slots.output, coarse, nothing_padded, features.guides, slots.agents.live)
    return lambda body: sample_own(maps, in_raster(raster, body), grid)
