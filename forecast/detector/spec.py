"""What a detector is made of, in plain numbers; needs no torch to be read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from forecast.errors import ConfigError
from forecast.model.layers.choices import BackboneName, BackendName, check_dilation

AttentionName = Literal["deformable", "dense"]
PositionName = Literal["sine", "learned"]
MaskHeadName = Literal["none", "fpn", "dot"]


@dataclass(frozen=True)
class DetectorSpec:
    """Hyper-parameters of a detector; every one may be set in a configuration's ``detector``.

    Attributes:
        channels: Channels of a frame.
        classes: Classes told apart, no-object not counted.
        backbone: ResNet of the frame.
        stem_stride: Stride of its stem: 1, 2 or 4 (the ordinary one).
        dilation: Whether the last residual layer keeps its resolution and dilates instead.
        frozen_norm: Whether the ResNet's batch norms are constants, as small batches need when the
            weights were learned elsewhere.
        attention: "deformable" (Deformable DETR) or "dense" (the original DETR).
        hidden_dim: Width of queries and memory.
        heads: Attention heads.
        queries: Objects that can be found in one frame.
        ffn: Width of the feed-forward networks.
        encoder_layers: Depth of the encoder.
        decoder_layers: Depth of the decoder.
        levels: Feature levels of the deformable transformer: the last residual layers, at most
            three, then as many extra ones of half the resolution of the one before.
        points: Samples per head and level of deformable attention.
        position: Embedding of a cell's place: "sine" or "learned".
        box_refine: Whether each layer of the deformable decoder corrects the boxes of the one
            before and looks there.
        auxiliary: Whether every decoder layer is returned, or only the last.
        mask_head: "none", "fpn" (attention map and small convolutions) or "dot" (dot product with
            an embedding of every cell).
        mask_stride: Cells of the frame per cell of a mask along x and y: 4 x stem_stride as in the
            reference on deformable features, stem_stride as in the original, or 1.
        semantic_head: Whether every cell gets a class as well, background among them, for what has
            no instances.
        dropout: Probability of dropping a number in training.
        backend: Implementation of deformable attention.
    """

    channels: int = 3
    classes: int = 250
    backbone: BackboneName = "resnet50"
    stem_stride: int = 4
    dilation: bool = False
    frozen_norm: bool = False
    attention: AttentionName = "deformable"
    hidden_dim: int = 256
    heads: int = 8
    queries: int = 300
    ffn: int = 1024
    encoder_layers: int = 6
    decoder_layers: int = 6
    levels: int = 4
    points: int = 4
    position: PositionName = "sine"
    box_refine: bool = True
    auxiliary: bool = True
    mask_head: MaskHeadName = "none"
    mask_stride: int = 16
    semantic_head: bool = False
    dropout: float = 0.0
    backend: BackendName = "auto"

    def __post_init__(self) -> None:
        for name, known in (
            ("backbone", BackboneName),
            ("attention", AttentionName),
            ("position", PositionName),
            ("mask_head", MaskHeadName),
            ("backend", BackendName),
        ):
            choices = get_args(known)
            self._check(name, getattr(self, name) in choices, f"one of {', '.join(choices)}")
        for name in ("channels", "classes", "heads", "queries", "ffn", "levels", "points"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("encoder_layers", "decoder_layers"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        self._check("stem_stride", self.stem_stride in (1, 2, 4), "1, 2 or 4")
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._check_widths()
        if self.dilation:
            check_dilation(self.backbone)

    def _check_widths(self) -> None:
        dim = self.hidden_dim
        self._check("hidden_dim", dim > 0 and dim % self.heads == 0, "heads divides it")
        self._check("hidden_dim", dim % 4 == 0, "4 divides it (position embedding)")
        if self.attention == "deformable" or self.mask_head == "dot" or self.semantic_head:
            self._check("hidden_dim", dim % 32 == 0, "32 divides it (group norm)")
        if self.mask_head == "fpn":
            self._check("hidden_dim", dim % 128 == 0, "128 divides it (group norm of masks)")
            self._check("heads", self.heads % 8 == 0, "8 divides it (group norm of masks)")
        if self.mask_head != "none":
            strides = (4 * self.stem_stride, self.stem_stride, 1)
            rule = "4 x stem_stride, stem_stride or 1"
            self._check("mask_stride", self.mask_stride in strides, rule)

    def _check(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(
                f"detector.{name} such that: {rule}",
                str(getattr(self, name)),
                f"change detector.{name}",
            )

    @property
    def logits(self) -> int:
        """Numbers of the class head: the original DETR has a last one for no-object."""
        return self.classes + (self.attention == "dense")
