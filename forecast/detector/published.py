"""Loads the weights that DETR and Deformable DETR were published with.

Sources of the names: the repositories facebookresearch/detr and fundamentalvision/Deformable-DETR.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from forecast.checkpoint.published_weights import fill, read_weights
from forecast.detector.detector import Detector

# Pattern of a published name, and what takes its place; every rule is tried, in this order.
COMMON = (
    (r"^detr\.", ""),  # a detector inside one with masks
    (r"^backbone\.0\.body\.", "backbone.extract."),
    (r"^query_embed\.", "transformer.query_embed."),
    # The linear layers of box heads; here the activations between them are counted, too.
    (r"\.layers\.0\.(weight|bias)$", r".0.\1"),
    (r"\.layers\.1\.(weight|bias)$", r".2.\1"),
    (r"\.layers\.2\.(weight|bias)$", r".4.\1"),
)


DENSE = (
    (r"^backbone\.1\.row_embed\.", "position.row."),
    (r"^backbone\.1\.col_embed\.", "position.column."),
    (
        r"^transformer\.encoder\.layers\.(\d+)\.self_attn\.",
        r"transformer.encoder.\1.attention.attention.",
    ),
    (r"\.multihead_attn\.", ".attention.attention."),
    (r"^transformer\.decoder\.norm\.", "transformer.norm."),
    (r"^class_embed\.", "class_heads.0."),
    (r"^bbox_embed\.", "box_heads.0."),
    (r"^bbox_attention\.q_linear\.", "mask_head.attention_map.query."),
    (r"^bbox_attention\.k_linear\.", "mask_head.attention_map.key."),
    (r"^mask_head\.lay1\.", "mask_head.input.conv."),
    (r"^mask_head\.gn1\.", "mask_head.stage1.0."),
    (r"^mask_head\.lay(\d)\.", r"mask_head.stage\1.conv."),
    (r"^mask_head\.gn(\d)\.", r"mask_head.stage\1.norm."),
    (r"^mask_head\.out_lay\.", "mask_head.logits."),
    (r"^mask_head\.adapter1\.", "mask_head.adapters.0."),
    (r"^mask_head\.adapter2\.", "mask_head.adapters.1."),
    (r"^mask_head\.adapter3\.", "mask_head.adapters.2."),
)


DEFORMABLE = (
    (r"^input_proj\.", "transformer.input_proj."),
    (r"^transformer\.encoder\.layers\.(\d+)\.self_attn\.", r"transformer.encoder.\1.attention."),
    (r"^transformer\.decoder\.layers\.(\d+)\.cross_attn\.", r"transformer.decoder.\1.attention."),
    # Theirs are numbered as they were written, ours as they are used.
    (r"^transformer\.decoder\.layers\.(\d+)\.norm1\.", r"transformer.decoder.\1.norm2."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm2\.", r"transformer.decoder.\1.norm1."),
    (r"^class_embed\.", "class_heads."),
    (r"^bbox_embed\.", "box_heads."),
)


# What is the same in both, once the attention of the encoder has been named above.
LAYERS = (
    (r"^transformer\.(encoder|decoder)\.layers\.", r"transformer.\1."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.linear1\.", ".ffn.0."),
    (r"\.linear2\.", ".ffn.2."),
)


def load_published(detector: Detector, path: Path) -> None:
    """Fills a detector with published weights of the same settings.

    What the file holds beyond the detector's parts is ignored, such as a mask head. Masks on
    deformable features were never published.

    Args:
        detector: Changed in place.
        path: The local file, read without unpickling anything but tensors.

    Raises:
        CheckpointError: The file cannot be read, or is of other settings.
    """
    rules = (*(DENSE if detector.spec.attention == "dense" else DEFORMABLE), *LAYERS)
    weights: dict[str, Tensor] = {}
    for name, value in read_weights(path).items():
        for pattern, ours in (*COMMON, *rules):
            name = re.sub(pattern, ours, name)
        weights[name] = value
    expected = f"published weights of a {detector.spec.attention} DETR of the same settings"
    fill(detector, weights, expected, path, "make a detector of the file's settings")
