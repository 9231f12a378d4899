"""What the detectors return."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Decoded:
    """Output of a transformer, deformable or dense.

    Attributes:
        memory: The encoded frame: (b, s, d) of all levels one after the other (deformable), or
            sequence first, (s, b, d), as in the original DETR (dense).
        hs: Decoded queries of every returned layer.
        seg_memory: The coarsest level of the memory as a map.
        seg_mask: True where a cell of that map is padding.
        init_reference: Where the queries look first, x and y in [0, 1]; None for dense.
        references: What each returned layer read, (b, q, 2) or (b, q, 4); its box is a correction
            of it. Empty for dense.
        enc_outputs_class: Only of two-stage detectors: None.
        enc_outputs_coord_unact: Only of two-stage detectors: None.
    """

    memory: Float[Tensor, "..."]
    hs: Float[Tensor, "layers b q d"]
    seg_memory: Float[Tensor, "b d h w"]
    seg_mask: Bool[Tensor, "b h w"]
    init_reference: Float[Tensor, "b q 2"] | None = None
    references: tuple[Float[Tensor, "b q _"], ...] = ()
    enc_outputs_class: None = None
    enc_outputs_coord_unact: None = None


@dataclass(frozen=True)
class Detections:
    """Output of a detector.

    Attributes:
        outputs_class: Class logits of every returned layer; ``DetectorSpec.logits`` of them.
        outputs_coord: Boxes, cx, cy, w, h as fractions of the frame.
        mask_logits: Masks of the last layer's queries; None without a mask head.
        decoded: What the transformer returned.
        semantic_logits: Class of every cell of the frame, background first; None without that head.
    """

    outputs_class: Float[Tensor, "layers b q logits"]
    outputs_coord: Float[Tensor, "layers b q 4"]
    mask_logits: Float[Tensor, "b q h w"] | None
    decoded: Decoded
    semantic_logits: Float[Tensor, "b k h w"] | None = None
