"""Loads weights that others published: torchvision's ResNets, DETR and Deformable DETR.

Sources of the names: torchvision, and the repositories facebookresearch/detr and
fundamentalvision/Deformable-DETR.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from forecast.errors import CheckpointError
from forecast.model.layers.backbone import Backbone


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
    fill(backbone.extract, weights, expected, path, "give those of the same ResNet")


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


def fill(
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
