"""What tells the files of one export from those of others, for hosts that read no JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forecast.export import host
from forecast.export.layout import GraphSpec, Layout

CHECKSUMS = "checksums.txt"


def told_by(about: Mapping[str, Any], layout: Layout, spec: GraphSpec) -> dict[str, str]:
    """What an ONNX graph carries: its name, of which export it is, and what its host must know.

    Graphs are of one export where the checkpoint, the grid and every shape are the same.

    Args:
        about: The metadata of the export, without its graphs.
        layout: Of the graph's bucket.
        spec: Of the graph.
    """
    state = {name: asdict(tensor) for name, tensor in layout.state.items()}
    grid = [about["grid"][f"{axis}_{end}_m"] for axis in "xy" for end in ("min", "max")]
    return {
        "bev_forecast": host.checksum({**about, "state": state}),
        "bev_forecast_graph": f"{spec.name}_{layout.slots}",
        "bev_forecast_classes": str(len(about["classes"])),
        "bev_forecast_dt_range_s": " ".join(map(str, about["dt_range_s"])),
        "bev_forecast_grid_m": " ".join(map(str, grid)),
        "bev_forecast_lane_spacing_m": str(about["lane_spacing_m"]),
    }


def file_of(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a file."""
    return {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_checksums(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Lists the metadata and every graph in ``checksums.txt``, as ``sha256sum -c`` reads it.

    Args:
        folder: Of the export, whose metadata are written.
        metadata: The same.
    """
    graphs = [graph for bucket in metadata["buckets"] for graph in bucket["graphs"].values()]
    files = [file for graph in graphs for file in graph["files"].values()]
    lines = [
        f"{file['sha256']}  {file['path']}\n" for file in (file_of(folder / host.METADATA), *files)
    ]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
