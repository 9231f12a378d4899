"""The mask head as it is usually written: everything repeated for every query, then convolved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from forecast.model.layers.mask_heads import FpnMaskHead, Fuse


def repeat(features: Tensor, queries: int) -> Tensor:
    """Maps (b, c, h, w) of frames as maps (b * q, c, h, w) of queries."""
    return features[:, None].expand(-1, queries, -1, -1, -1).flatten(0, 1)


def naive_masks(
    head: FpnMaskHead,
    queries: Tensor,
    memory: Tensor,
    padding: Tensor,
    pyramid: Sequence[Tensor],
    context: Tensor | None = None,
) -> Tensor:
    """What ``head`` returns, with its own weights."""
    attention = head.attention_map(queries, memory, padding)
    batch, count = attention.shape[:2]
    shared = repeat(memory if context is None else context, count)
    x = head.stage1(head.input.conv(torch.cat((shared, attention.flatten(0, 1)), 1)))
    *stages, last = (head.get_submodule(name) for name in head.stages)
    for stage, adapt, level in zip(stages, head.adapters, pyramid, strict=True):
        assert isinstance(stage, Fuse)
        x = torch.relu(stage.norm(stage.conv(x)))
        x = functional.interpolate(x, level.shape[-2:], mode="nearest")
        x = x + repeat(adapt(level), count)
    x = torch.relu(last.norm(last.conv(x)))  # type: ignore[operator]
    return head.logits(x).unflatten(0, (batch, count)).squeeze(2)
