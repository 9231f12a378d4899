"""Random models of ``transformers`` as an independent reference, and their weights in our names.

Nothing is downloaded: models are built from configurations and filled with random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import ResNetConfig

RESNET = (
    (r"embedder\.embedder\.convolution", "conv1"),
    (r"embedder\.embedder\.normalization", "bn1"),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)", lambda m: f"layer{int(m[1]) + 1}.{m[2]}"),
    (r"layer\.(\d+)\.convolution", lambda m: f"conv{int(m[1]) + 1}"),
    (r"layer\.(\d+)\.normalization", lambda m: f"bn{int(m[1]) + 1}"),
    (r"shortcut\.convolution", "downsample.0"),
    (r"shortcut\.normalization", "downsample.1"),
)


def resnet18(channels: int, stages: Sequence[int]) -> ResNetConfig:
    """ResNet-18 returning some of its four stages."""
    return ResNetConfig(
        num_channels=channels,
        layer_type="basic",
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        out_features=[f"stage{stage}" for stage in stages],
    )


def resnet50(channels: int, stages: Sequence[int]) -> ResNetConfig:
    """ResNet-50 returning some of its four stages."""
    return ResNetConfig(num_channels=channels, out_features=[f"stage{stage}" for stage in stages])


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Fills every weight, norm and statistic, so that no part of a network is silent."""
    torch.manual_seed(seed)
    state = model.state_dict()
    for name, value in state.items():
        if value.dim() > 1:
            value.normal_(0, value[0].numel() ** -0.5)
        elif name.endswith(("running_var", "norm.weight", "normalization.weight")):
            value.uniform_(0.7, 1.3)
        elif value.is_floating_point():
            value.normal_(0, 0.1)


def renamed(state: dict[str, Tensor], rules: Sequence[tuple[str, object]]) -> dict[str, Tensor]:
    """A state dict with every pattern replaced in turn; what a rule names None is left out."""
    out = {}
    for name, value in state.items():
        new: str | None = name
        for pattern, replacement in rules:
            if new is None or not re.search(pattern, new):
                continue
            new = None if replacement is None else re.sub(pattern, replacement, new)  # type: ignore[call-overload]
        if new is not None:
            out[new] = value
    return out
