"""The multi-layer perceptron: every small head and feed-forward network is one."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


class MLP(nn.Sequential):
    """Linear layers with a ReLU, and dropout where there is any, between them.

    Its linear layers are numbered 0, 2, 4 ... in a state dict, whether there is dropout or not.

    Args:
        widths: Of the input, the hidden layers and the output.
        dropout: Probability of dropping a hidden number in training.
        silent: Whether the last layer starts at zero, so that the untrained network says nothing.
    """

    def __init__(self, *widths: int, dropout: float = 0.0, silent: bool = False) -> None:
        layers: list[nn.Module] = []
        for index, (width, out) in enumerate(pairwise(widths)):
            if index:
                layers.append(_between(dropout))
            layers.append(nn.Linear(width, out))
        super().__init__(*layers)
        if silent:
            last = layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _between(dropout: float) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Dropout(dropout)) if dropout else nn.ReLU()
