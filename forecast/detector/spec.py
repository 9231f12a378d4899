"""What a detector is made of, in plain numbers; needs no torch to be read and checked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from forecast.model.layers.choices import AttentionName, BackboneName, BackendName, check_dilation
from forecast.section import STRICT, Section

PositionName = Literal["sine", "learned"]
MaskHeadName = Literal["none", "fpn", "dot"]


@dataclass(frozen=True, config=STRICT)
class DetectorSpec(Section):
    """Hyper-parameters of a detector; every one may be set in a configuration's ``detector``."""

    SECTION = "detector"

    channels: int = Field(default=3, ge=1)
    """Channels of a frame."""
    classes: int = Field(default=250, ge=1)
    """Classes told apart, no-object not counted."""
    backbone: BackboneName = "resnet50"
    """ResNet of the frame."""
    stem_stride: Literal[1, 2, 4] = 4
    """Stride of its stem: 1, 2 or 4 (the ordinary one)."""
    dilation: bool = False
    """Whether the last residual layer keeps its resolution and dilates instead."""
    frozen_norm: bool = False
    """Whether the ResNet's batch norms are constants, as small batches need when the weights were
    learned elsewhere.
    """
    attention: AttentionName = "deformable"
    """"deformable" (Deformable DETR) or "dense" (the original DETR)."""
    hidden_dim: int = Field(default=256, gt=0, multiple_of=4)
    """Width of queries and memory."""
    heads: int = Field(default=8, ge=1)
    """Attention heads."""
    queries: int = Field(default=300, ge=1)
    """Objects that can be found in one frame."""
    ffn: int = Field(default=1024, ge=1)
    """Width of the feed-forward networks."""
    encoder_layers: int = Field(default=6, ge=1)
    """Depth of the encoder."""
    decoder_layers: int = Field(default=6, ge=1)
    """Depth of the decoder."""
    levels: int = Field(default=4, ge=1)
    """Feature levels of the deformable transformer: the last residual layers, at most three, then
    as many extra ones of half the resolution of the one before.
    """
    points: int = Field(default=4, ge=1)
    """Samples per head and level of deformable attention."""
    position: PositionName = "sine"
    """Embedding of a cell's place: "sine" or "learned"."""
    box_refine: bool = True
    """Whether each layer of the deformable decoder corrects the boxes of the one before and looks
    there.
    """
    auxiliary: bool = True
    """Whether every decoder layer is returned, or only the last."""
    mask_head: MaskHeadName = "none"
    """"none", "fpn" (attention map and small convolutions) or "dot" (dot product with an embedding
    of every cell).
    """
    mask_stride: int = 16
    """Cells of the frame per cell of a mask along x and y: 4 x stem_stride as in the reference on
    deformable features, stem_stride as in the original, or 1.
    """
    semantic_head: bool = False
    """Whether every cell gets a class as well, background among them, for what has no instances."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a number in training."""
    backend: BackendName = "auto"
    """Implementation of deformable attention."""

    def __post_init__(self) -> None:
        self._check_widths()
        if self.dilation:
            check_dilation(self.backbone)

    def _check_widths(self) -> None:
        dim = self.hidden_dim
        self.require("hidden_dim", dim % self.heads == 0, "heads divides it")
        if self.attention == "deformable" or self.mask_head == "dot" or self.semantic_head:
            self.require("hidden_dim", dim % 32 == 0, "32 divides it (group norm)")
        if self.mask_head == "fpn":
            self.require("hidden_dim", dim % 128 == 0, "128 divides it (group norm of masks)")
            self.require("heads", self.heads % 8 == 0, "8 divides it (group norm of masks)")
        if self.mask_head != "none":
            strides = (4 * self.stem_stride, self.stem_stride, 1)
            rule = "4 x stem_stride, stem_stride or 1"
            self.require("mask_stride", self.mask_stride in strides, rule)

    @property
    def logits(self) -> int:
        """Numbers of the class head: the original DETR has a last one for no-object."""
        return self.classes + (self.attention == "dense")
