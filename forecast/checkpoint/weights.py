"""Loads weights that others published: torchvision's ResNets, DETR and Deformable DETR.

Sources of the names: torchvision, and the repositories facebookresearch/detr and
fundamentalvision/Deformable-DETR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from forecast.detector.detector import Detector
from forecast.errors import CheckpointError
from forecast.model.layers.backbone import Backbone

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
    (r"^transformer\.(encoder|decoder)\.layers\.", r"transformer.\1."),
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
    (
        r"^transformer\.decoder\.layers\.(\d+)\.self_attn\.",
        r"transformer.decoder.\1.self_attention.",
    ),
    (r"^transformer\.decoder\.layers\.(\d+)\.cross_attn\.", r"transformer.decoder.\1.attention."),
    # Theirs are numbered as they were written, ours as they are used.
    (r"^transformer\.decoder\.layers\.(\d+)\.norm1\.", r"transformer.decoder.\1.norm2."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm2\.", r"transformer.decoder.\1.norm1."),
    (r"^transformer\.(encoder|decoder)\.layers\.", r"transformer.\1."),
    (r"\.linear1\.", ".ffn.0."),
    (r"\.linear2\.", ".ffn.2."),
    (r"^class_embed\.", "class_heads."),
    (r"^bbox_embed\.", "box_heads."),
)


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Fills a backbone with weights of torchvision's ResNet, such as those learned on ImageNet.

    The stem is adapted. With other than three channels each gets the mean filter of red, green
    and blue times 3 / channels, so that a grey image excites it as before; a smaller stem stride
    reads the same filters more densely. The classifier, and layers that are not run, are ignored.

    Args:
        backbone: Changed in place.
        path: A local ``.safetensors`` file, or one of ``torch.save``, which is read without
            unpickling anything but tensors.

    Raises:
        CheckpointError: The file cannot be read, or is of another ResNet.
    """
    weights = read_weights(path)
    stem = weights.get("conv1.weight")
    if stem is not None:
        weights["conv1.weight"] = _adapt_stem(stem, backbone.extract.conv1.in_channels)
    expected = f"weights of torchvision's ResNet of widths {backbone.widths}"
    _fill(backbone.extract, weights, expected, path, "give those of the same ResNet")


def _adapt_stem(weight: Float[Tensor, "n k a b"], channels: int) -> Float[Tensor, "n c a b"]:
    if weight.dim() != 4 or weight.shape[1] == channels:
        return weight
    mean = weight.float().mean(1, keepdim=True) * (weight.shape[1] / channels)
    return mean.expand(-1, channels, -1, -1).contiguous()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, read without unpickling anything else.

    Args:
        path: A ``.safetensors`` file, or one of ``torch.save``: a state dict, alone or as "model".

    Raises:
        CheckpointError: The file cannot be read or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file makes torch's reader raise whatever there is
        raise CheckpointError(
            "a file of weights (.safetensors, or saved by torch.save)",
            f"{path}: {f'{type(error).__name__}: {error}'.splitlines()[0]}",
            "give a file that holds a state dict and nothing else",
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("model"), dict):
        weights = weights["model"]
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in weights.items()
    ):
        raise CheckpointError(
            "a state dict, from names to tensors", str(path), "save model.state_dict() alone"
        )
    return weights


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
    rules = (*COMMON, *(DENSE if detector.spec.attention == "dense" else DEFORMABLE))
    weights: dict[str, Tensor] = {}
    for name, value in read_weights(path).items():
        for pattern, ours in rules:
            name = re.sub(pattern, ours, name)
        weights[name] = value
    expected = f"published weights of a {detector.spec.attention} DETR of the same settings"
    _fill(detector, weights, expected, path, "make a detector of the file's settings")


def _fill(
    module: nn.Module, weights: Mapping[str, Tensor], expected: str, path: Path, remedy: str
) -> None:
    """Loads what the module needs of some weights; all of that must be there."""
    # Weights of old versions of torchvision count no batches, and frozen norms have no count.
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    wrong = [k for k, v in own.items() if k not in weights or weights[k].shape != v.shape]
    if wrong:
        others = f"{wrong[0]} and {len(wrong) - 1} others are missing or of another shape"
        raise CheckpointError(expected, f"{path}, where {others}", remedy)
    module.load_state_dict({name: weights[name] for name in own}, strict=False)
