"""What a part of a network costs, in plain numbers; needs no torch to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COUNTED = (
    "multiply-adds of matrix products, convolutions and bilinear samples (4 each);"
    " activations: all tensors that one forward pass makes, attention written out in PyTorch"
)


@dataclass(frozen=True)
class LayerCost:
    """One named tensor of a network, and the work that leads to it from the stages before.

    Attributes:
        name: The tensor.
        shape: Its shape; None where this network has no such tensor.
        parameters: Numbers learned.
        multiply_adds: Of one forward pass; see ``COUNTED``.
        activation_bytes: Bytes of all tensors made.
    """

    name: str
    shape: tuple[int, ...] | None
    parameters: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0


def total(stages: Sequence[LayerCost]) -> LayerCost:
    """All stages together."""
    return LayerCost(
        "total",
        None,
        sum(stage.parameters for stage in stages),
        sum(stage.multiply_adds for stage in stages),
        sum(stage.activation_bytes for stage in stages),
    )
