"""Reads the shapes of what a model's parts return, for tests against the reference table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Shape = tuple[int, ...] | None


def record(rows: dict[str, Shape], name: str) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that writes down the shape of what a module returns.

    The mask head draws a few queries at a time where memory is short: their number adds up.
    """

    def hook(_: nn.Module, __: object, output: Tensor | list[Tensor]) -> None:
        if isinstance(output, Tensor):
            before = rows.get(name) or (0,)
            rows[name] = (before[0] + output.shape[0], *output.shape[1:])
        else:
            start = 1 if name == "layer" else 0
            for index, tensor in enumerate(output):
                rows[f"{name}{index + start}"] = tuple(tensor.shape)

    return hook


def record_mask_head(rows: dict[str, Shape], pyramid: nn.Module, head: nn.Module) -> None:
    """Hooks for every row of a mask head, its pyramid coarse to fine."""
    pyramid.register_forward_hook(record(rows, "pyramid "))
    names = [name for name, _ in head.named_children() if name.startswith("stage")]
    for name in ("attention_map", "input", *names, "logits"):
        head.get_submodule(name).register_forward_hook(record(rows, f"mask_head.{name}"))
