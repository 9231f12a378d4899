"""Versions, devices and backends of this installation, for reports of problems."""

from __future__ import annotations

import os
import platform
from importlib import metadata, resources

PACKAGES = (
    "bev-forecast",
    "torch",
    "torchvision",
    "kornia",
    "pytorch-lightning",
    "xarray",
    "zarr",
    "dask",
    "mmcv",
    "torch-ms-deform-attn",
    "eclipse-sumo",
)


def examine() -> dict[str, str]:
    """Names and values: versions, devices and packaged files; what is absent is named too."""
    return {
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) for name in PACKAGES},
        "devices": ", ".join(_devices()),
        **_attention(),
        "packaged files": _packaged(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch

    found = [f"cpu ({os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads)"]
    for index in range(torch.cuda.device_count()):
        found.append(f"cuda:{index} ({torch.cuda.get_device_name(index)})")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _attention() -> dict[str, str]:
    """The backend that `auto` chooses, and whether each backend runs or why not."""
    import torch

    from forecast.model.layers.deformable_kernels import COMPILED, choose_backend, problem

    device = "cuda" if torch.cuda.is_available() else "cpu"
    backend, reason = choose_backend("auto", device)
    found = {"attention": f"{backend} on {device}: {reason}", "attention torch": "runs"}
    for name in COMPILED:
        found[f"attention {name}"] = problem(name, device) or "runs"
    return found


def _packaged() -> str:
    folder = resources.files("forecast") / "packaged"
    names = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names) or "none"
