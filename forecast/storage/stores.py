"""Opens sequence and forecast stores lazily, and refuses everything else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from forecast.errors import DataError, reason_of
from forecast.grid import BEVGrid
from forecast.schema import (
    FORECAST_VARIABLES,
    MAX_INSTANCE_ID,
    OPTIONAL_FORECAST_VARIABLES,
    OPTIONAL_VARIABLES,
    POSE_NAMES,
    READ_FORECAST_SCHEMAS,
    REALIZATION_VARIABLES,
    SEQUENCE_VARIABLES,
    SIDES,
    STATE_NAMES,
    ForecastAttributes,
    SequenceMeta,
    read_attributes,
)
from forecast.storage.chunks import DAMAGE, quickly
from forecast.storage.files import filesystem, is_local, refuse_pipes_in

MOST_SEQUENCES = 2**24
MOST_BYTES = 2**32  # of one, unpacked


def open_sequence_store(path: str) -> tuple[xr.Dataset, SequenceMeta]:
    """Opens a sequence store lazily and checks its schema, variables and dimensions.

    Args:
        path: Local path or fsspec URL.

    Returns:
        The store and its attributes; ``map_layers`` is empty where it has no map.

    Raises:
        DataError: It is missing, not zarr, of another schema or lacks a variable.
    """
    dataset = open_store(path)
    meta = SequenceMeta.from_attrs(dataset.attrs, path)
    _check_variables(dataset, SEQUENCE_VARIABLES, OPTIONAL_VARIABLES, path)
    sizes = {"time": meta.history + meta.horizon, "map_layer": len(meta.map_layers)}
    _check_sizes(dataset, meta.grid, sizes | {"state": len(STATE_NAMES)}, path)
    _load_provenance(dataset, path)
    return dataset, meta if "map" in dataset else replace(meta, map_layers=())


def open_forecast_store(path: str) -> xr.Dataset:
    """Opens a forecast store lazily and checks its schema and variables.

    Raises:
        DataError: It is missing, not zarr, of another schema or lacks a variable.
    """
    dataset = open_store(path)
    remedy = "make it anew with `forecast rollout`"
    meta = read_attributes(ForecastAttributes, dataset.attrs, READ_FORECAST_SCHEMAS, path, remedy)
    variables = FORECAST_VARIABLES | REALIZATION_VARIABLES
    optional = OPTIONAL_FORECAST_VARIABLES | REALIZATION_VARIABLES.keys()
    _check_variables(dataset, variables, optional, path)
    sizes = {"lead": meta.horizon, "class": len(meta.classes), "side": len(SIDES)}
    if meta.realizations:
        sizes["realization"] = meta.realizations
    _check_sizes(dataset, BEVGrid.from_attrs(meta.grid), sizes, path)
    _load_provenance(dataset, path)
    return dataset


def open_store(path: str) -> xr.Dataset:
    """Opens a zarr store of whatever schema lazily, its numbers as they lie there.

    Raises:
        DataError: It is missing or not zarr.
    """
    try:
        system, inner = filesystem(path)
        if is_local(system):
            refuse_pipes_in(inner)
        with quickly(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types and units that are refused below, if need be
            # Indexes read their coordinates, whatever size these claim to be.
            dataset: xr.Dataset = xr.open_zarr(
                path,
                consolidated=False,
                chunks=None,
                create_default_indexes=False,
                mask_and_scale=False,  # what fills is a value: 0 is the background
            )
            for name, variable in dataset.variables.items():
                _check_parts(str(name), variable)
                fill = variable.attrs.get("_FillValue", 0)
                if np.ndim(fill) == 0 and fill != fill:  # NaN is absent already
                    variable.encoding["_FillValue"] = variable.attrs.pop("_FillValue")
            for name in dataset.dims:
                if name not in dataset.coords or dataset[name].dims != (name,):
                    continue
                if dataset.sizes[name] > MOST_SEQUENCES:
                    raise ValueError(f"{name} of size {dataset.sizes[name]}")
                dataset = dataset.set_xindex(str(name))
    except Exception as error:  # damaged metadata make zarr raise any exception
        table = path.endswith((".csv", ".parquet", ".pq"))
        remedy = "make one of it with `forecast prepare tracks`" if table else "check the path"
        raise DataError("a zarr store", f"{path} ({reason_of(error)})", remedy) from error
    return dataset


@contextmanager
def refusing_damage(path: str) -> Iterator[None]:
    """Turns errors of codecs and disks about a damaged chunk into a one-line error.

    Raises:
        DataError: A chunk that was read in the block is cut off, garbled or unreadable.
    """
    try:
        yield
    except DAMAGE as error:
        raise DataError(
            f"whole chunks in {path}", f"a damaged one ({reason_of(error)})", "make the store anew"
        ) from error


def refuse_impossible(arrays: Mapping[str, np.ndarray[Any, Any]], classes: int, path: str) -> None:
    """Refuses values that no store may have: unknown classes, maps beyond 0 and 1, infinite poses.

    Args:
        arrays: Those of a store by name; others than the above are let pass.
        classes: How many it has: 0 is none, k the k-th class.
        path: Of the store, for the error.

    Raises:
        DataError: There is such a value.
    """
    for name, most in {"semantic": classes, "track_class": classes, "map": 1}.items():
        highest = int(arrays[name].max(initial=0)) if name in arrays else 0
        if highest > most:
            raise DataError(f"0 to {most} in {name}", f"{highest} in {path}", "make the store anew")
    for name in _FINITE & arrays.keys():
        # An axis may have the name of a variable, and then names of its own.
        if arrays[name].dtype.kind == "f" and np.isinf(arrays[name]).any():
            wanted = f"finite numbers in {name}, NaN where there is none"
            raise DataError(wanted, f"an infinite one in {path}", "make the store anew")


_FINITE = {
    *("track_state", "track_history", "sample_time", "map_point"),
    *("pose", "existence", "realization_pose"),
}


def _load_provenance(dataset: xr.Dataset, path: str) -> None:
    """Reads what is small and always needed, so that damage shows at once."""
    for name in ("scene", "init_time"):
        if name not in dataset:
            raise DataError(f"a variable {name!r}", f"none in {path}", "make the store anew")
        with refusing_damage(path):
            dataset[name].load()


def _check_variables(
    dataset: xr.Dataset,
    variables: Mapping[str, tuple[tuple[str, ...], str]],
    optional: frozenset[str],
    path: str,
) -> None:
    for name, (dims, dtype) in variables.items():
        if name not in dataset:
            if name in optional:
                continue
            raise DataError(f"a variable {name!r}", f"none in {path}", "make the store anew")
        variable = dataset[name]
        if variable.dims != dims:
            raise DataError(f"{name}{dims}", f"{name}{variable.dims} in {path}", "make it anew")
        # Of what is empty, zarr and xarray may make another kind.
        if variable.size and _KINDS.get(variable.dtype.kind, "str") != _KINDS.get(
            np.dtype(dtype).kind, "str"
        ):
            got = f"{variable.dtype} in {path}"
            raise DataError(f"{name} of {dtype}", got, "make the store anew")
        coded = {key: variable.attrs[key] for key in _CODES if key in variable.attrs}
        for key, value in coded.items():
            if key == "_FillValue" and variable.dtype.kind != "f":
                continue  # zarr 2 says so of every array: 0 is the background
            if key in SCALES or np.ndim(value) or value == value:  # but NaN, which is absent
                got = f"{key} {value} of {name} in {path}"
                raise DataError("numbers that lie there as they are", got, "make the store anew")


SCALES = ("scale_factor", "add_offset")
_CODES = (*SCALES, "_FillValue", "missing_value")
"""Attributes by which others make other numbers of those on disk."""


def _check_parts(name: str, variable: xr.Variable) -> None:
    """Refuses what would take more memory than is given to one part, as that is unpacked at once.

    Raises:
        ValueError: A chunk or a shard has no element, or too many.
    """
    for kind in ("chunks", "shards"):
        sides = variable.encoding.get(kind) or (1,)
        if min(sides) < 1 or math.prod(sides) * variable.dtype.itemsize > MOST_BYTES:
            raise ValueError(f"{name} with {kind} of {sides}")


_KINDS = {"b": "whole", "i": "whole", "u": "whole", "f": "real", "c": "complex", "M": "date"}


def _check_sizes(dataset: xr.Dataset, grid: BEVGrid, sizes: Mapping[str, int], path: str) -> None:
    """Arrays are as large as the attributes say, and not larger than a machine's memory.

    A few bytes of metadata may claim terabytes; nothing of an array has been read here yet.
    """
    sizes = {
        **{"y": grid.height, "x": grid.width},
        **{"pose": len(POSE_NAMES), "point_state": len(POSE_NAMES), "axis": 2},
        **sizes,
    }
    for dim, size in sizes.items():
        if dataset.sizes.get(dim, size) != size:
            got = f"{dataset.sizes[dim]} in {path}"
            raise DataError(f"{dim} of size {size}, as the attributes say", got, "make it anew")
    if (tracks := dataset.sizes.get("track", 0)) > MAX_INSTANCE_ID:
        raise DataError(f"{MAX_INSTANCE_ID} tracks at most", f"{tracks} in {path}", "make it anew")
    count = dataset.sizes["sequence"]
    each = sum(array.nbytes for array in dataset.variables.values()) // max(count, 1)
    if count > MOST_SEQUENCES or each > MOST_BYTES:
        raise DataError(
            f"{MOST_SEQUENCES} sequences at most, of {MOST_BYTES} bytes at most",
            f"{count} of {each} in {path}",
            "make several stores, or one with fewer frames or cells",
        )


BLOCK = 32  # sequences read at a time, a shard
BLOCK_BYTES = 2**26  # of them, unpacked: few large sequences make a smaller block


def blocks(part: xr.Dataset | xr.DataArray, most: int = BLOCK) -> Iterator[slice]:
    """The sequences of what is read of a store, in blocks that fit in memory.

    Args:
        part: The variables that are read, opened lazily.
        most: Sequences of a block.
    """
    count = part.sizes["sequence"]
    size = min(max(BLOCK_BYTES * count // max(part.nbytes, 1), 1), most)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def lacks_ids(data: xr.Dataset, meta: SequenceMeta) -> bool:
    """Whether some history has cells of a class, but no history has an id.

    No attribute says so. A store with boxes has ids and is not read; one with ids is read up to
    the first. Call it inside :func:`refusing_damage`.
    """
    if data.sizes.get("track", 0):
        return False
    past = data.isel(time=slice(meta.history))
    return not _any(past["instance"]) and _any(past["semantic"])


def _any(rasters: xr.DataArray) -> bool:
    return any(rasters.isel(sequence=block).values.any() for block in blocks(rasters))
