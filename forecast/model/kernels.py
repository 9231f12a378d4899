"""Compiled kernels of deformable attention, used where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.errors import ConfigError
from forecast.model.spec import BackendName

Shapes = Sequence[tuple[int, int]]
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def choose_backend(name: BackendName, device: str) -> tuple[BackendName, str]:
    """The backend that runs on a kind of device, and why.

    Args:
        name: What was asked for.
        device: Such as "cpu" or "cuda".

    Raises:
        ConfigError: A backend was asked for by name and cannot run here.
    """
    if name == "torch":
        return "torch", "asked for"
    if name in ("auto", "native") and importlib.util.find_spec("torch_ms_deform_attn"):
        return "native", "torch-ms-deform-attn is installed"
    if name in ("auto", "mmcv") and device == "cuda" and _mmcv_is_compiled():
        return "mmcv", "compiled mmcv is installed and the device is CUDA"
    if name == "auto":
        return "torch", f"no compiled kernel is installed for {device}; this one always runs"
    raise ConfigError(
        f"attention backend {name!r} to be installed for {device}",
        "no such package",
        "install the extra `native`, or choose the backend `auto` or `torch`",
    )


def run_kernel(
    backend: BackendName,
    value: Float[Tensor, "b s heads d"],
    shapes: Shapes,
    locations: Float[Tensor, "b q heads levels points 2"],
    weights: Float[Tensor, "b q heads levels points"],
) -> Float[Tensor, "b q c"]:
    """``forecast.model.attention.deformable_attention`` by a compiled kernel."""
    sizes = torch.tensor(shapes, device=value.device)
    area = sizes.prod(1)
    return _kernel(backend)(value, sizes, area.cumsum(0) - area, locations, weights)


@cache
def _kernel(backend: BackendName) -> Kernel:
    if backend == "native":
        from torch_ms_deform_attn import ms_deform_attn

        native: Kernel = ms_deform_attn
        return native
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    def mmcv_kernel(value: Tensor, *rest: Any) -> Tensor:
        # Its last argument is how many of the batch are worked on at a time.
        out: Tensor = MultiScaleDeformableAttnFunction.apply(value, *rest, len(value))
        return out

    return mmcv_kernel


def _mmcv_is_compiled() -> bool:
    """Whether mmcv has its operators; looks at its files, as importing it would load OpenCV."""
    found = importlib.util.find_spec("mmcv")
    folders = found.submodule_search_locations if found is not None else None
    return any(any(Path(folder).glob("_ext.*")) for folder in folders or ())
