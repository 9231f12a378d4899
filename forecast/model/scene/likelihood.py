"""How likely a cell is covered by what errs, and from where that is not worth a number."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def faded(likely: Float[Tensor, "*n"], least: float) -> Float[Tensor, "*n"]:
    """Probabilities without those up to ``least``, which others fade into from twice that on."""
    return likely * (likely / least - 1).clamp(0, 1)


def interval(
    off: Float[Tensor, "*n"], half: Float[Tensor, "*n"], scale: Float[Tensor, "*n"]
) -> Float[Tensor, "*n"]:
    """How likely a Laplace distribution around 0 is within ``half`` of a point ``off`` >= 0."""
    near = (off - half) / scale
    below = torch.where(near < 0, near.clamp(max=0).exp() / 2, 1 - (-near.clamp(min=0)).exp() / 2)
    return 1 - (-(off + half) / scale).exp() / 2 - below
