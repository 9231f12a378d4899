"""A detector: backbone, transformer, class and box heads, mask head, put together by its spec.

Source: Carion et al., "End-to-end object detection with transformers" (2020), and Zhu et al.,
"Deformable DETR" (2021).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.detector.deformable import DeformableTransformer, corrected
from forecast.detector.dense import DenseTransformer
from forecast.detector.outputs import Decoded, Detections
from forecast.detector.padding import check_mask, shrink_mask
from forecast.detector.spec import DetectorSpec
from forecast.errors import DataError
from forecast.model.layers.backbone import Backbone
from forecast.model.layers.mask_heads import FpnMaskHead, MaskPyramid, PixelMaskHead
from forecast.model.layers.mlp import MLP
from forecast.model.layers.pixel_decoder import SHARE, SemanticHead
from forecast.model.layers.position_encoding import position_embedding

RARE = 0.01  # believed probability of a class before training, as in focal loss
SMALL = -2.0  # logit of a box's width and height before training


class Detector(nn.Module):
    """Finds objects, and their masks, in one frame.

    Args:
        spec: Hyper-parameters.

    Raises:
        ConfigError: Already by ``spec``, where parts do not fit together.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(
            spec.backbone,
            spec.channels,
            spec.stem_stride,
            dilation=spec.dilation,
            frozen_norm=spec.frozen_norm,
        )
        widths, dim = self.backbone.widths, spec.hidden_dim
        self.transformer: DeformableTransformer | DenseTransformer
        match spec.attention:
            case "deformable":
                self.transformer = DeformableTransformer(spec, widths)
            case "dense":
                self.input_proj = nn.Conv2d(widths[-1], dim, 1)
                self.position = position_embedding(spec.position, dim, centred=False)
                self.transformer = DenseTransformer(spec)
        self.refine = spec.attention == "deformable" and spec.box_refine
        # Layers that correct each other's boxes have heads of their own, others share one.
        heads = spec.decoder_layers if self.refine else 1
        self.class_heads = nn.ModuleList(nn.Linear(dim, spec.logits) for _ in range(heads))
        self.box_heads = nn.ModuleList(MLP(dim, dim, dim, 4) for _ in range(heads))
        if spec.attention == "deformable":
            self._start_rare_and_still()
        if spec.mask_head != "none":
            self.mask_pyramid = MaskPyramid(
                widths, spec.channels, spec.stem_stride, spec.mask_stride
            )
        match spec.mask_head:
            case "fpn":
                self.mask_head = FpnMaskHead(dim, spec.heads, self.mask_pyramid.widths)
            case "dot":
                self.dot_head = PixelMaskHead(dim, self.mask_pyramid.widths)
        if spec.semantic_head:
            self.semantic_head = SemanticHead(dim // SHARE, widths[::-1], spec.classes)

    def _start_rare_and_still(self) -> None:
        """Untrained, classes are rare and boxes small and where the references are."""
        for classify in self.class_heads:
            nn.init.constant_(classify.bias, -math.log((1 - RARE) / RARE))  # type: ignore[arg-type]
        for head in self.box_heads:
            last = head.get_submodule("4")
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        first = self.box_heads[0].get_submodule("4")
        assert isinstance(first, nn.Linear)
        nn.init.constant_(first.bias.data[2:], SMALL)

    def forward(
        self,
        frame: Float[Tensor, "b c h w"],
        mask: Bool[Tensor, "b h w"] | None = None,
        live: Bool[Tensor, "b q"] | None = None,
    ) -> Detections:
        """Detects.

        Args:
            frame: Images, or BEV rasters, padded to one size.
            mask: True where a cell is padding; None where none is, as in a BEV.
            live: Which queries to draw masks of; None draws all.

        Raises:
            DataError: Frames of other channels or too small, a mask of another shape, or one that
                calls a whole frame padding.
        """
        self._check_frame(frame)
        if mask is not None:
            check_mask(mask, frame)
        pyramid = self.backbone(frame)
        decoded, context = self._decode(pyramid, mask)
        masks = None
        if self.spec.mask_head != "none":
            masks = self._masks(decoded, self.mask_pyramid(frame, pyramid), live, context)
        classes = None
        if self.spec.semantic_head:
            classes = self.semantic_head(pyramid[::-1], frame.shape[2:])
        return Detections(self._classes(decoded), self._boxes(decoded), masks, decoded, classes)

    def _check_frame(self, frame: Float[Tensor, "b c h w"]) -> None:
        channels, stride = self.spec.channels, self.backbone.strides[-1]
        if frame.shape[1] != channels or max(frame.shape[2:]) <= stride:
            raise DataError(
                f"frames of {channels} channels and more than {stride} cells along x or y",
                " x ".join(str(size) for size in frame.shape[1:]),
                "change detector.channels, or give larger frames or a smaller stem_stride",
            )

    def _decode(
        self, pyramid: list[Tensor], mask: Tensor | None
    ) -> tuple[Decoded, Float[Tensor, "b d h w"] | None]:
        """The decoded queries, and what the mask head reads in place of the memory, if anything."""
        if isinstance(self.transformer, DeformableTransformer):
            return self.transformer(pyramid, mask, self.box_heads if self.refine else None), None
        source = self.input_proj(pyramid[-1])
        padding = shrink_mask(mask, source)
        return self.transformer(source, padding, self.position(padding)), source

    def _masks(
        self,
        decoded: Decoded,
        guides: list[Tensor],
        live: Bool[Tensor, "b q"] | None,
        context: Float[Tensor, "b d h w"] | None,
    ) -> Float[Tensor, "b q hm wm"]:
        queries, memory = decoded.hs[-1], decoded.seg_memory
        masks: Tensor
        if self.spec.mask_head == "fpn":
            masks = self.mask_head(queries, memory, decoded.seg_mask, guides, live, context)
        else:
            masks = self.dot_head(queries, memory, guides, live)
        return masks

    def _classes(self, decoded: Decoded) -> Float[Tensor, "layers b q logits"]:
        heads = self._returned(self.class_heads, len(decoded.hs))
        return torch.stack([head(x) for head, x in zip(heads, decoded.hs, strict=True)])

    def _boxes(self, decoded: Decoded) -> Float[Tensor, "layers b q 4"]:
        heads = self._returned(self.box_heads, len(decoded.hs))
        deltas = [head(x) for head, x in zip(heads, decoded.hs, strict=True)]
        if not decoded.references:
            return torch.stack(deltas).sigmoid()
        pairs = zip(deltas, decoded.references, strict=True)
        return torch.stack([corrected(delta, reference) for delta, reference in pairs])

    def _returned(self, heads: nn.ModuleList, count: int) -> list[nn.Module]:
        """The heads of the last ``count`` layers."""
        return list(heads)[-count:] if self.refine else [heads[0]] * count
