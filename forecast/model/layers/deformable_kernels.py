"""The sampling at the heart of deformable attention: one function, three backends.

Source: Zhu et al., "Deformable DETR" (2021); arguments as mmcv's ``multi_scale_deformable_attn``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from forecast.errors import ConfigError
from forecast.model.layers.choices import BackendName

Shapes = Sequence[tuple[int, int]]
COMPILED: tuple[BackendName, ...] = ("native", "mmcv")  # in the order in which `auto` tries them
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def deformable_attention(
    value: Float[Tensor, "b s heads d"],
    shapes: Shapes,
    locations: Float[Tensor, "b q heads levels points 2"],
    weights: Float[Tensor, "b q heads levels points"],
    backend: BackendName = "auto",
) -> Float[Tensor, "b q c"]:
    """Weighted sum of bilinear samples of every level.

    Whatever the backend, half precision is sampled in float32 (a bfloat16 cannot tell two
    neighbouring cells of a large map apart) and the result has the type of ``value``.

    Args:
        value: All levels flattened one after the other.
        shapes: Height and width of each level.
        locations: Sampling points in [0, 1] of each level, x first; zeros outside.
        weights: Attention weights, summing to 1 over levels and points.
        backend: Implementation.

    Raises:
        ConfigError: The backend was asked for by name and cannot run here.
    """
    chosen, _ = choose_backend(backend, value.device.type)
    exact = value.dtype if value.dtype == torch.float64 else torch.float32
    parts = [tensor.to(exact) for tensor in (value, locations, weights)]
    # Compiled kernels refuse empty tensors on some devices.
    if chosen == "torch" or not all(part.numel() for part in parts):
        out = _sample(parts[0], shapes, parts[1], parts[2])
    else:
        sizes = torch.tensor(shapes, device=value.device)
        area = sizes.prod(1)
        values, places, shares = (part.contiguous() for part in parts)  # mmcv insists
        out = _kernel(chosen)(values, sizes, area.cumsum(0) - area, places, shares)
    return out.to(value.dtype)


def _sample(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """In pure PyTorch, on any device."""
    batch, _, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = []
    for level, part in enumerate(torch.split(value, [h * w for h, w in shapes], dim=1)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, *shapes[level])
        samples.append(
            functional.grid_sample(
                image, grids[:, :, level], "bilinear", "zeros", align_corners=False
            )
        )
    flat = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(shapes) * points)
    mixed = (torch.cat(samples, -1) * flat).sum(-1)
    return mixed.view(batch, heads * dim, queries).transpose(1, 2)


@cache
def choose_backend(name: BackendName, device: str) -> tuple[BackendName, str]:
    """The backend that runs on a kind of device, and why.

    ``auto`` takes a compiled kernel wherever one runs: on CPU it was faster than PyTorch at every
    size measured (tests/benchmarks/test_attention.py), on CUDA it saves PyTorch's copy of every
    sample. Types and shapes do not matter to the choice, as :func:`deformable_attention` gives
    every backend what it can read.

    Args:
        name: What was asked for.
        device: Such as "cpu" or "cuda".

    Raises:
        ConfigError: A backend was asked for by name and cannot run here.
    """
    if name == "torch":
        return "torch", "asked for"
    refused = {}
    for compiled in COMPILED:
        if name in ("auto", compiled):
            reason = problem(compiled, device)
            if reason is None:
                return compiled, f"a compiled kernel for {device}, faster than PyTorch"
            refused[compiled] = reason
    why = "; ".join(refused.values())
    if name == "auto":
        return "torch", f"runs everywhere; {why}"
    raise ConfigError(
        f"attention backend {name!r} to run on {device}",
        why,
        "choose the backend `auto` or `torch`, or see docs/attention.md",
    )


def problem(backend: BackendName, device: str) -> str | None:
    """Why a compiled backend does not run on a kind of device; None where it does."""
    return _native_problem(device) if backend == "native" else _mmcv_problem(device)


def _native_problem(device: str) -> str | None:
    """Why torch-ms-deform-attn does not run on a device; None where it does."""
    if importlib.util.find_spec("torch_ms_deform_attn") is None:
        return "torch-ms-deform-attn is not installed"
    try:
        importlib.import_module("torch_ms_deform_attn")
        built = importlib.import_module("torch_ms_deform_attn._C")
    except (ImportError, OSError):
        return "torch-ms-deform-attn was built for another torch: install it anew"
    runs = {"cpu": True, "cuda": built.with_cuda, "mps": built.with_mps}
    return None if runs.get(device) else f"torch-ms-deform-attn was built without {device}"


def _mmcv_problem(device: str) -> str | None:
    """Why mmcv's operator does not run on a device; None where it does."""
    if device != "cuda":
        return "mmcv's kernel needs CUDA"
    # Looks at files first, as importing mmcv loads OpenCV.
    found = importlib.util.find_spec("mmcv")
    folders = found.submodule_search_locations if found is not None else None
    if not any(any(Path(folder).glob("_ext.*")) for folder in folders or ()):
        return "mmcv is not installed with compiled operators"
    try:
        _kernel("mmcv")
    except ModuleNotFoundError as error:
        return f"mmcv lacks {error.name}: install bev-forecast[mmcv]"
    except (ImportError, OSError):
        return "mmcv was built for another torch: build it anew"
    return None


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
