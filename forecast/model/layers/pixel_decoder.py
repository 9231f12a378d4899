"""One embedding per cell from a pyramid, and heads that read it: masks and classes of cells.

Sources: Cheng et al., "Per-pixel classification is not all you need for semantic segmentation"
(MaskFormer, 2021), for masks; Kirillov et al., "Panoptic feature pyramid networks" (2019), for
classes. All queries share the cells, so that full resolution stays affordable.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8  # of every group norm, so they divide all widths
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
