"""Sine position embedding of a feature map.

Source: Carion et al., "End-to-end object detection with transformers" (2020), extended to the
centre-of-cell form of Zhu et al., "Deformable DETR" (2021).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sine_position(
    height: int, width: int, dim: int, device: torch.device, temperature: float = 10000.0
) -> Float[Tensor, "hw d"]:
    """Embedding of every cell, row by row: first half from y, second half from x."""
    y = (torch.arange(height, device=device) + 0.5) / height * 2 * math.pi
    x = (torch.arange(width, device=device) + 0.5) / width * 2 * math.pi
    half = dim // 2
    period = temperature ** (2 * torch.div(torch.arange(half, device=device), 2).floor() / half)
    rows = _interleave(y[:, None] / period)[:, None].expand(height, width, half)
    columns = _interleave(x[:, None] / period)[None].expand(height, width, half)
    return torch.cat((rows, columns), -1).flatten(0, 1)


def _interleave(phase: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.stack((phase[:, 0::2].sin(), phase[:, 1::2].cos()), -1).flatten(1)
