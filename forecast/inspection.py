"""What a store holds, in a few lines for a person to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from forecast.grid import BEVGrid
from forecast.schema import (
    FORECAST_SCHEMA,
    FORECAST_VARIABLES,
    SEQUENCE_VARIABLES,
    SequenceMeta,
    open_forecast_store,
    open_sequence_store,
    open_store,
    refusing_damage,
)


def describe_store(path: str) -> dict[str, str]:
    """Names and values that describe a sequence store or a forecast store.

    Args:
        path: Local path or fsspec URL.

    Raises:
        DataError: It is missing, damaged or of neither schema.
    """
    if open_store(path).attrs.get("schema") == FORECAST_SCHEMA:
        dataset = open_forecast_store(path)
        facts = _forecast_facts(dataset)
    else:
        dataset, meta = open_sequence_store(path)
        with refusing_damage(path):
            facts = _sequence_facts(dataset, meta)
    return {"schema": str(dataset.attrs["schema"])} | facts | _variable_facts(dataset)


def _sequence_facts(dataset: xr.Dataset, meta: SequenceMeta) -> dict[str, str]:
    scenes = np.unique(dataset["scene"].values).size
    return {
        "sequences": f"{dataset.sizes['sequence']} from {scenes} scenes",
        "source": meta.source,
        "time": f"{meta.history} frames of history and {meta.horizon} ahead, {meta.dt_s:g} s apart",
        "grid": _grid_text(meta.grid),
        "classes": _class_counts(dataset, meta.classes),
        "map layers": ", ".join(meta.map_layers) or "none",
        "protocol": f"{meta.protocol.get('name')} ({meta.protocol.get('hash')})",
        "created by": meta.created_by,
    }


def _forecast_facts(dataset: xr.Dataset) -> dict[str, str]:
    plain = {
        name: str(value)
        for name, value in dataset.attrs.items()
        if name != "schema" and not isinstance(value, (dict, list))
    }
    return {
        "sequences": str(dataset.sizes["sequence"]),
        "leads": str(dataset.sizes["lead"]),
        "grid": _grid_text(BEVGrid.from_attrs(dataset.attrs["grid"])),
        "classes": ", ".join(dataset.attrs["classes"]),
    } | plain


def _grid_text(grid: BEVGrid) -> str:
    return (
        f"{grid.height} x {grid.width} cells of {grid.resolution_m:g} m: "
        f"x {grid.x_min_m:g}..{grid.x_max_m:g} m, y {grid.y_min_m:g}..{grid.y_max_m:g} m"
    )


def _class_counts(dataset: xr.Dataset, classes: tuple[str, ...]) -> str:
    if "track_class" not in dataset:
        return ", ".join(classes)
    counts = np.bincount(dataset["track_class"].values.ravel(), minlength=len(classes) + 1)
    return ", ".join(f"{name} ({counts[k]} tracks)" for k, name in enumerate(classes, start=1))


def _variable_facts(dataset: xr.Dataset) -> dict[str, str]:
    # Not data_vars: xarray counts "pose", which has a dimension of its own name, as a coordinate.
    names = {**SEQUENCE_VARIABLES, **FORECAST_VARIABLES}
    return {name: _array_text(dataset[name]) for name in names if name in dataset}


def _array_text(array: xr.DataArray) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
    units: Any = array.attrs.get("units")
    kind = "str" if array.dtype.kind == "T" else str(array.dtype)
    return f"{kind} ({sizes})" + (f" in {units}" if units not in (None, "1") else "")
