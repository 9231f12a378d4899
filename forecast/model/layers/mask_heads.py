"""Mask heads: an attention map refined by small convolutions, or products with embedded cells.

- :class:`FpnMaskHead` is that of DETR. Source: Carion et al., "End-to-end object detection with
  transformers" (2020), section 4.4, and its public implementation. Its first convolution reads
  features that all queries share next to each query's attention; it is split, so that the shared
  part is convolved once: the numbers and the weights stay the same.
- :class:`PixelMaskHead` embeds every cell itself and draws whole masks (detector).
- :class:`DotMaskHead` reads the raster encoder's pixel embedding at sampled points and refines
  masks that are drawn without it (forecaster). With the one before it shares the product alone.

Source of the products: Cheng et al., "Per-pixel classification is not all you need for semantic
segmentation" (MaskFormer, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP
from forecast.model.layers.pixel_decoder import GROUPS, SHARE, PixelDecoder

# Logit of masks that were not drawn: their sigmoid is zero and their losses are finite.
ABSENT_LOGIT = -30.0
# Mask cells drawn at a time: enough to keep a processor busy, few enough to stay in its caches.
BATCH_CELLS = 100_000


class AttentionMap(nn.Module):
    """Where each query looks: one softmax over heads and cells together, and no values.

    Args:
        dim: Width D of queries and encoded features.
        heads: Attention heads; divides D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        for projection in (self.query, self.key):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        features: Float[Tensor, "b d h w"],
        padding: Bool[Tensor, "b h w"],
    ) -> Float[Tensor, "b q heads h w"]:
        """Shares of attention, summing to 1 for each query; 0 on padded cells."""
        size, parts = features.shape[-2:], (self.heads, queries.shape[-1] // self.heads)
        query = self.query(queries).unflatten(-1, parts) * parts[1] ** -0.5
        key = self.key(features.flatten(2).transpose(1, 2)).unflatten(-1, parts)
        score = torch.einsum("bqne,bsne->bqns", query, key)
        # The lowest number instead of -inf: a frame that is all padding stays finite.
        lowest = torch.finfo(score.dtype).min
        score = score.masked_fill(padding.flatten(1)[:, None, None], lowest)
        return score.flatten(2).softmax(-1).view(*score.shape[:3], *size)


class SplitConv(nn.Module):
    """A 3x3 convolution of [features of all queries | attention of each], the first part once.

    Args:
        shared: Channels that all queries share.
        own: Channels of each query.
        out: Output channels.
    """

    def __init__(self, shared: int, own: int, out: int) -> None:
        super().__init__()
        self.shared = shared
        self.conv = _convolution(shared + own, out, 3)

    def share(self, features: Float[Tensor, "b s h w"]) -> Float[Tensor, "b o h w"]:
        """The part that is the same for all queries of a frame."""
        return functional.conv2d(
            features, self.conv.weight[:, : self.shared], self.conv.bias, padding=1
        )

    def forward(
        self, once: Float[Tensor, "1 o h w"], own: Float[Tensor, "n k h w"]
    ) -> Float[Tensor, "n o h w"]:
        """The whole convolution, from the shared part's output and each query's channels."""
        each = functional.conv2d(own, self.conv.weight[:, self.shared :], padding=1)
        return each.add_(once)


class Fuse(nn.Module):
    """One step up (or down) the pyramid: convolve, resize to the next level, add what it says."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = _convolution(width, out, 3)
        self.norm = nn.GroupNorm(GROUPS, out)

    def forward(
        self, x: Float[Tensor, "n c h w"], guide: Float[Tensor, "1 o hl wl"] | None
    ) -> Float[Tensor, "n o hl wl"]:
        """The map at the guide's size; without a guide its size stays."""
        x = functional.relu(self.norm(self.conv(x)), inplace=True)
        if guide is None:
            return x
        if x.shape[-2:] != guide.shape[-2:]:
            x = functional.interpolate(x, guide.shape[-2:], mode="nearest")
        return x + guide


class FpnMaskHead(nn.Module):
    """The small convolution head of DETR on any pyramid, whatever its widths and sizes.

    Its widths halve from level to level: D + heads, D / 2, D / 4, D / 8, D / 16.

    Args:
        dim: Width D of queries and encoded features; a multiple of 128.
        heads: Attention heads; a multiple of 8.
        widths: Channels of the pyramid, coarse to fine.
        batch_cells: Mask cells drawn at a time, at least one mask; None draws all of a frame.
    """

    def __init__(
        self, dim: int, heads: int, widths: Sequence[int], batch_cells: int | None = BATCH_CELLS
    ) -> None:
        super().__init__()
        self.batch_cells = batch_cells
        first = dim + heads
        self.attention_map = AttentionMap(dim, heads)
        self.input = SplitConv(dim, heads, first)
        self.stage1 = nn.Sequential(nn.GroupNorm(GROUPS, first), nn.ReLU(inplace=True))
        outs = [dim // min(2**index, 16) for index in range(1, len(widths) + 2)]
        # stage2 ends on the coarsest level; the last stage only narrows the finest map.
        self.stages = [f"stage{index + 2}" for index in range(len(outs))]
        for name, width, out in zip(self.stages, [first, *outs], outs, strict=False):
            self.add_module(name, Fuse(width, out))
        self.adapters = nn.ModuleList(
            _convolution(width, out, 1) for width, out in zip(widths, outs, strict=False)
        )
        self.logits = _convolution(outs[-1], 1, 3)

    @record_function("mask head")
    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        features: Float[Tensor, "b d h w"],
        padding: Bool[Tensor, "b h w"],
        pyramid: Sequence[Float[Tensor, "b c hl wl"]],
        live: Bool[Tensor, "b q"] | None = None,
        context: Float[Tensor, "b d h w"] | None = None,
    ) -> Float[Tensor, "b q hm wm"]:
        """Mask logits at the size of the finest level.

        Args:
            queries: Decoded queries.
            features: The encoded features that the queries attend to.
            padding: True where a cell of them is padding.
            pyramid: Features that guide the masks, coarse to fine.
            live: Which queries to draw; the others get ``ABSENT_LOGIT``. None draws all.
            context: Features next to the attention in the first convolution; ``features`` where
                None. The original DETR gives its projected backbone features here.
        """
        attention = self.attention_map(queries, features, padding)
        once = self.input.share(features if context is None else context)
        guides = [adapt(level) for adapt, level in zip(self.adapters, pyramid, strict=True)]
        frames = [
            self._draw(
                attention[index] if live is None else attention[index, live[index]],
                once[index : index + 1],
                [guide[index : index + 1] for guide in guides],
            )
            for index in range(len(queries))
        ]
        size = guides[-1].shape[-2:]
        drawn = torch.cat([once.new_zeros(0, *size), *frames])  # also of a batch of 0
        if live is None:
            return drawn.view(*queries.shape[:2], *size)
        return _in_place(drawn, live)

    def _draw(
        self,
        attention: Float[Tensor, "n heads h w"],
        once: Float[Tensor, "1 c h w"],
        guides: list[Float[Tensor, "1 o hl wl"]],
    ) -> Float[Tensor, "n hm wm"]:
        """Masks of one frame, a few queries at a time."""
        height, width = guides[-1].shape[-2:]
        if len(attention) == 0:
            return once.new_zeros(0, height, width)
        rows = len(attention)
        # Meta tensors hold nothing, and should show the shapes of the whole.
        if self.batch_cells is not None and not attention.is_meta:
            rows = max(1, self.batch_cells // (height * width))
        masks = []
        for part in torch.split(attention, rows):
            x = self.stage1(self.input(once, part))
            for name, guide in zip(self.stages, [*guides, None], strict=True):
                x = self.get_submodule(name)(x, guide)
            masks.append(self.logits(x).squeeze(1))
        return torch.cat(masks)


class MaskPyramid(nn.Module):
    """Chooses the features that guide the masks, for one of three resolutions.

    - 4 x the stem's stride: layers 4, 3 and 2, each halved in resolution and channels by a 3x3
      convolution (the reference on deformable features);
    - the stem's stride: layers 3, 2 and 1 as they are (the original DETR);
    - 1: these and the frame itself.

    Args:
        widths: Channels of the backbone's four layers, finest first.
        channels: Channels of the frame.
        stem_stride: Stride of the backbone's finest layer.
        mask_stride: Cells of the frame per cell of a mask, along x and y.

    Attributes:
        widths: Channels of the pyramid, coarse to fine.
    """

    def __init__(
        self, widths: Sequence[int], channels: int, stem_stride: int, mask_stride: int
    ) -> None:
        super().__init__()
        coarse = tuple(reversed(widths))
        self.reduced = mask_stride == 4 * stem_stride
        self.framed = mask_stride == 1 and stem_stride > 1
        self.reduce = nn.ModuleList()
        if self.reduced:
            self.widths = tuple(width // 2 for width in coarse[:3])
            self.reduce.extend(nn.Conv2d(width, width // 2, 3, 2, 1) for width in coarse[:3])
        else:
            self.widths = coarse[1:] + (channels,) * self.framed

    def forward(
        self, frame: Float[Tensor, "b c h w"], levels: Sequence[Float[Tensor, "b d hl wl"]]
    ) -> list[Float[Tensor, "b d hp wp"]]:
        """The pyramid, coarse to fine, from the frame and the backbone's levels, finest first."""
        coarse = list(reversed(levels))
        if self.reduced:
            return [reduce(level) for reduce, level in zip(self.reduce, coarse[:3], strict=True)]
        return coarse[1:] + [frame] * self.framed


def _convolution(width: int, out: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size and, untrained, the variance."""
    conv = nn.Conv2d(width, out, kernel, padding=kernel // 2)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class DotMaskHead(nn.Module):
    """Refines masks by the product of a query embedding and the raster encoder's pixel embedding.

    The pixel embedding is that of the present frame, read where each cell of a mask was at the
    present: masks are moved once, from the present, and do not blur. Untrained it refines nothing.

    Args:
        dim: Width D of the decoded queries.
        pixel_dim: Width E of the pixel embedding.
    """

    def __init__(self, dim: int, pixel_dim: int) -> None:
        super().__init__()
        self.embed = MLP(dim, dim, pixel_dim, silent=True)

    @record_function("mask head")
    def forward(
        self, x: Float[Tensor, "b a d"], pixels: Float[Tensor, "b a p e"]
    ) -> Float[Tensor, "b a p"]:
        """Residual logits of sampled pixels."""
        return torch.einsum("bae,bape->bap", self.embed(x), pixels)


class PixelMaskHead(nn.Module):
    """A mask per query: the product of its embedding with that of every cell.

    Args:
        dim: Width D of queries and encoded features; a multiple of 32.
        widths: Channels of the pyramid, coarse to fine; the encoded features are not counted.
    """

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.pixels = PixelDecoder((dim, *widths), dim // SHARE)
        self.project = nn.Conv2d(dim // SHARE, dim // SHARE, 1)
        self.query = MLP(dim, dim, dim, dim // SHARE)

    def forward(
        self,
        queries: Float[Tensor, "b q d"],
        features: Float[Tensor, "b d h w"],
        pyramid: Sequence[Float[Tensor, "b c hl wl"]],
        live: Bool[Tensor, "b q"] | None = None,
    ) -> Float[Tensor, "b q hm wm"]:
        """Mask logits at the size of the finest level.

        Args:
            queries: Decoded queries.
            features: The coarsest level of the encoded features.
            pyramid: Features that guide the masks, coarse to fine.
            live: Which queries to draw; the others get ``ABSENT_LOGIT``. None draws all.
        """
        query = self.query(queries)
        cells: Tensor = self.project(self.pixels([features, *pyramid]))
        if live is None:
            return torch.einsum("bqe,behw->bqhw", query, cells)
        frames = zip(query, live, cells, strict=True)
        drawn = [torch.einsum("qe,ehw->qhw", mine[alive], own) for mine, alive, own in frames]
        nothing = cells.new_zeros(0, *cells.shape[-2:])  # for a batch of 0
        return _in_place(torch.cat([nothing, *drawn]), live)


def _in_place(
    drawn: Float[Tensor, "n hm wm"], live: Bool[Tensor, "b q"]
) -> Float[Tensor, "b q hm wm"]:
    """The masks of the live queries at their places; ``ABSENT_LOGIT`` elsewhere."""
    logits = drawn.new_full((*live.shape, *drawn.shape[1:]), ABSENT_LOGIT)
    return logits.index_put((live,), drawn)
