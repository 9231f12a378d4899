"""The multi-layer perceptron: every small head and feed-forward network is one."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


class MLP(nn.Sequential):
    """Linear layers with a ReLU between them.

    In a state dict its linear layers are numbered 0, 2, 4 ..., with dropout or without, so that one
    set of names fits all checkpoints.

    Args:
        widths: Of the input, the hidden layers and the output.
        dropout: Probability of dropping a hidden number in training; None = no dropout layer, which
            training could turn on.
        silent: Whether the last layer starts at zero, so that the untrained network says nothing.
    """

    def __init__(self, *widths: int, dropout: float | None = None, silent: bool = False) -> None:
        # A silent layer is made first: seeds of earlier versions give the same weights.
        last = silent_linear(*widths[-2:]) if silent else None
        linear = [
            nn.Linear(width, out) for width, out in pairwise(widths[:-1] if silent else widths)
        ]
        layers: list[nn.Module] = []
        for layer in (*linear, last) if last is not None else linear:
            layers += [layer] if not layers else [_between(dropout), layer]
        super().__init__(*layers)


def silent_linear(width: int, out: int) -> nn.Linear:
    """A linear layer that says nothing until it is trained."""
    layer = nn.Linear(width, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _between(dropout: float | None) -> nn.Module:
    return nn.ReLU() if dropout is None else nn.Sequential(nn.ReLU(), nn.Dropout(dropout))
