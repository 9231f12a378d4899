"""One embedding per cell from a pyramid, and heads that read it: masks and classes of cells.

Sources: Cheng et al., "Per-pixel classification is not all you need for semantic segmentation"
(MaskFormer, 2021), for masks; Kirillov et al., "Panoptic feature pyramid networks" (2019), for
classes. All queries share the cells, so that full resolution stays affordable.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from forecast.model.layers.mask_heads import ABSENT_LOGIT, GROUPS

SHARE = 4  # the width of a cell is that of a query over this: there are many cells


class PixelDecoder(nn.Module):
    """Fuses a pyramid from its coarsest level up into one map at the finest.

    Args:
        widths: Channels of the pyramid, coarse to fine.
        dim: Channels of the map; a multiple of 8.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, dim, 3, padding=1), nn.GroupNorm(GROUPS, dim), nn.ReLU(inplace=True)
            )
            for _ in widths[1:]
        )

    def forward(self, pyramid: Sequence[Float[Tensor, "b c hl wl"]]) -> Float[Tensor, "b e h w"]:
        """The map at the finest level's size."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, pyramid, strict=True)]
        fused: Tensor = levels[0]
        for level, smooth in zip(levels[1:], self.smooth, strict=True):
            size = level.shape[-2:]
            fused = functional.interpolate(fused, size, mode="bilinear", align_corners=False)
            fused = smooth(fused + level)
        return fused


class PixelMaskHead(nn.Module):
    """A mask per query: the product of its embedding with that of every cell.

    Args:
        dim: Width D of queries and memory; a multiple of 32.
        widths: Channels of the pyramid, coarse to fine, the memory not counted.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.pixels = PixelDecoder((dim, *widths), dim // SHARE)
        self.project = nn.Conv2d(dim // SHARE, dim // SHARE, 1)
        self.query = nn.Sequential(
            nn.Linear(dim, dim),
            nn.ReLU(),
            nn.Linear(dim, dim),
            nn.ReLU(),
            nn.Linear(dim, dim // SHARE),
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
        query = self.query(queries)
        cells: Tensor = self.project(self.pixels([memory, *pyramid]))
        if live is None:
            return torch.einsum("bqe,behw->bqhw", query, cells)
        frames = zip(query, live, cells, strict=True)
        drawn = [torch.einsum("qe,ehw->qhw", mine[alive], own) for mine, alive, own in frames]
        size = cells.shape[-2:]
        logits = cells.new_full((*live.shape, *size), ABSENT_LOGIT)
        # The empty first part is for a batch of 0.
        return logits.index_put((live,), torch.cat([cells.new_zeros(0, *size), *drawn]))


class SemanticHead(nn.Module):
    """A class for every cell, whatever the queries find: for roads and other stuff.

    Args:
        dim: Channels of the fused map; a multiple of 8.
        widths: Channels of the pyramid, coarse to fine.
        classes: Classes, background not counted.
    """

    def __init__(self, dim: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.pixels = PixelDecoder(widths, dim)
        self.logits = nn.Conv2d(dim, classes + 1, 1)

    def forward(
        self, pyramid: Sequence[Float[Tensor, "b c hl wl"]], size: tuple[int, int]
    ) -> Float[Tensor, "b k H W"]:
        """Class logits at the given size, background first: their argmax is a class map."""
        logits: Tensor = self.logits(self.pixels(pyramid))
        return functional.interpolate(logits, size, mode="bilinear", align_corners=False)
