"""Operations of torch that the ONNX exporter does not know, or not as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def translations() -> dict[Any, Callable[..., Any]]:
    """By operation, for ``torch.onnx.export``."""
    aten = torch.ops.aten
    return {aten.sort.stable: _stably_sorted, aten._cdist_forward.default: _distances}


def _stably_sorted(
    values: Any, stable: bool = True, dim: int = -1, descending: bool = False
) -> tuple[Any, Any]:
    """Sorting in ONNX: of equal values TopK gives the first first."""
    from onnxscript import opset18 as op

    size = op.Shape(values, start=dim, end=dim + 1 if dim != -1 else None)
    sorted_values, order = op.TopK(values, size, axis=dim, largest=descending, sorted=True)
    return sorted_values, order


def _distances(one: Any, other: Any, p: float, compute_mode: int | None = None) -> Any:
    """Distances of few points, up to 25; torch finds those of more by matrix products."""
    from onnxscript import opset18 as op

    assert p == 2
    axes: list[Any] = [op.Constant(value_ints=[axis]) for axis in (-2, -3, -1)]
    apart = op.Sub(op.Unsqueeze(one, axes[0]), op.Unsqueeze(other, axes[1]))
    return op.ReduceL2(apart, axes[2], keepdims=0)
