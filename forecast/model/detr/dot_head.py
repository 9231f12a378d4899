"""A mask per query as a product: its embedding with the embedding of every cell.

Source: Cheng et al., "Per-pixel classification is not all you need for semantic segmentation"
(MaskFormer, 2021). All queries share the pixels, so that full resolution stays affordable.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from forecast.model.detr.mask_head import ABSENT_LOGIT

GROUPS = 8  # of the group norms
SHARE = 4  # the width of a pixel is that of a query over this


class DotMaskHead(nn.Module):
    """Pixels from a pyramid, from coarse to fine, and their product with the queries.

    Args:
        dim: Width D of queries and memory; a multiple of 32.
        widths: Channels of the pyramid, coarse to fine.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        pixel = dim // SHARE
        self.context = nn.Conv2d(dim, pixel, 1)
        self.laterals = nn.ModuleList(nn.Conv2d(width, pixel, 1) for width in widths)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(pixel, pixel, 3, padding=1), nn.GroupNorm(GROUPS, pixel), nn.ReLU()
            )
            for _ in widths
        )
        self.pixel = nn.Conv2d(pixel, pixel, 1)
        self.query = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, pixel)
        )

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        memory: Float[Tensor, "b d h w"],
        pyramid: Sequence[Float[Tensor, "b c hl wl"]],
        live: Bool[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q hm wm"]:
        """Mask logits at the size of the finest level.

        Args:
            queries: Decoded queries.
            memory: The coarsest map of the memory.
            pyramid: Features that guide the masks, coarse to fine.
            live: Which queries to draw; the others get ``ABSENT_LOGIT``. None draws all.
        """
        x = self.context(memory)
        for lateral, smooth, level in zip(self.laterals, self.smooth, pyramid, strict=True):
            size = level.shape[-2:]
            x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
            x = smooth(x + lateral(level))
        logits = torch.einsum("bqe,behw->bqhw", self.query(queries), self.pixel(x))
        if live is None:
            return logits
        return logits.masked_fill(~live[..., None, None], ABSENT_LOGIT)
