"""What a store holds, in a few lines for a person to read."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.errors import counted
from forecast.evaluation.counts import MOVING_DISTANCE_M
from forecast.grid import BEVGrid
from forecast.schema import (
    FORECAST_VARIABLES,
    READ_FORECAST_SCHEMAS,
    REALIZATION_VARIABLES,
    SEQUENCE_VARIABLES,
    SequenceMeta,
    protocol_text,
)
from forecast.storage.stores import (
    blocks,
    lacks_ids,
    open_forecast_store,
    open_sequence_store,
    open_store,
    refusing_damage,
)

Array = NDArray[np.float64]
BLOCK = 256  # sequences read at a time, of their tracks


def describe_store(path: str) -> dict[str, str]:
    """Names and values that describe a sequence store or a forecast store.

    Args:
        path: Local path or fsspec URL.

    Raises:
        DataError: It is missing, damaged or of neither schema.
    """
    if open_store(path).attrs.get("schema") in READ_FORECAST_SCHEMAS:
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
        "sequences": f"{dataset.sizes['sequence']} from {counted(scenes, 'scene')}",
        "source": meta.source,
        "time": f"{meta.history} frames of history and {meta.horizon} ahead, {meta.dt_s:g} s apart",
        **_samples_fact(dataset),
        "grid": _grid_text(meta.grid),
        "classes": _class_counts(dataset, meta.classes),
        **_ids_fact(dataset, meta),
        **_motion_facts(dataset, meta),
        "map layers": ", ".join(meta.map_layers) or "none",
        "protocol": protocol_text(meta.protocol),
        "created by": meta.created_by,
    }


def _samples_fact(dataset: xr.Dataset) -> dict[str, str]:
    """How often agents were observed, and over how long, where the store has it."""
    if "sample_time" not in dataset:
        return {}
    time_s = dataset["sample_time"].values.astype(np.float64)
    number, step_s = np.isfinite(time_s).sum(axis=1), np.diff(time_s, axis=1)
    if not np.isfinite(step_s).any():
        return {"observed": "at the present only"}
    spans = f"{-np.nanmin(time_s):.2g} s back at most"
    rate = f"every {np.nanmedian(step_s):.2g} s"
    return {"observed": f"{rate}, {number.min()} to {number.max()} samples, {spans}"}


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
        "protocol": protocol_text(dataset.attrs.get("protocol", {})),
    } | plain


def _grid_text(grid: BEVGrid) -> str:
    return (
        f"{grid.height} x {grid.width} cells of {grid.resolution_m:g} m: "
        f"x {grid.x_min_m:g}..{grid.x_max_m:g} m, y {grid.y_min_m:g}..{grid.y_max_m:g} m"
    )


def _class_counts(dataset: xr.Dataset, classes: tuple[str, ...]) -> str:
    if "track_class" not in dataset:
        return _cell_counts(dataset, classes)
    counts = np.bincount(dataset["track_class"].values.ravel(), minlength=len(classes) + 1)
    return ", ".join(f"{name} ({counts[k]} tracks)" for k, name in enumerate(classes, start=1))


def _cell_counts(dataset: xr.Dataset, classes: tuple[str, ...]) -> str:
    """Of masks alone: the frames in which each class is seen, and its cells in all of them."""
    count = dataset.sizes["sequence"]
    frames, cells = np.zeros((2, len(classes)), np.int64)
    for block in blocks(dataset["semantic"]):
        semantic = dataset["semantic"].isel(sequence=block).values
        for k in range(len(classes)):
            area = np.count_nonzero(semantic == k + 1, axis=(2, 3))
            frames[k] += np.count_nonzero(area)
            cells[k] += area.sum()
    of = count * dataset.sizes["time"]
    return ", ".join(
        f"{name} ({cells[k]} cells in {frames[k]} of {of} frames)" for k, name in enumerate(classes)
    )


def _ids_fact(dataset: xr.Dataset, meta: SequenceMeta) -> dict[str, str]:
    """Said only where ids are missing, as most stores have them."""
    if not lacks_ids(dataset, meta):
        return {}
    return {"ids": "none: roll it out with --input detected"}


def _motion_facts(dataset: xr.Dataset, meta: SequenceMeta) -> dict[str, str]:
    """By class: agents visible at present, the share that moves, and how fast all of them are."""
    if "track_state" not in dataset or "track_class" not in dataset:
        return {}
    moving, still = np.zeros((2, len(meta.classes) + 1), np.int64)
    speeds: list[list[Array]] = [[] for _ in range(len(meta.classes) + 1)]
    tracks = dataset[["track_state", "track_class"]]
    for part in blocks(tracks, BLOCK):
        block = tracks.isel(sequence=part)
        label = block["track_class"].values
        places = block["track_state"].values[..., :2].astype(np.float64)
        now = places[:, :, meta.history - 1 : meta.history]
        inside: NDArray[np.bool_] = meta.grid.contains(now[..., 0, 0], now[..., 0, 1])
        away = np.linalg.norm(places[:, :, meta.history :] - now, axis=-1)
        moves = (away > MOVING_DISTANCE_M).any(axis=-1)  # False where NaN
        speed = np.linalg.norm(np.diff(places, axis=2), axis=-1) / meta.dt_s
        for k in range(1, len(meta.classes) + 1):
            moving[k] += int((moves & inside & (label == k)).sum())
            still[k] += int((~moves & inside & (label == k)).sum())
            known = speed[label == k]
            speeds[k].append(known[np.isfinite(known)])
    return {
        name: _motion_text(int(moving[k]), int(still[k]), np.concatenate([np.empty(0), *speeds[k]]))
        for k, name in enumerate(meta.classes, start=1)
    }


def _motion_text(moving: int, still: int, speed: Array) -> str:
    if moving + still == 0 or len(speed) == 0:
        return "none at present"
    middle, fast, top = np.quantile(speed, [0.5, 0.95, 1.0])
    share = f"{moving / (moving + still):.0%} move" if moving else "none moves"
    others = ", the others are still" if moving and still else ""
    return (
        f"{moving + still} at present: {share} over {MOVING_DISTANCE_M:g} m{others};"
        f" speeds {middle:.1f} (median), {fast:.1f} (95 %), {top:.1f} m/s (fastest)"
    )


def _variable_facts(dataset: xr.Dataset) -> dict[str, str]:
    # Not data_vars: xarray counts "pose", which has a dimension of its own name, as a coordinate.
    names = {**SEQUENCE_VARIABLES, **FORECAST_VARIABLES, **REALIZATION_VARIABLES}
    return {name: _array_text(dataset[name]) for name in names if name in dataset}


def _array_text(array: xr.DataArray) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
    units: Any = array.attrs.get("units")
    kind = "str" if array.dtype.kind == "T" else str(array.dtype)
    return f"{kind} ({sizes})" + (f" in {units}" if units not in (None, "1") else "")
