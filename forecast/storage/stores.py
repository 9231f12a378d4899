"""Opens sequence and forecast stores lazily, and refuses everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import xarray as xr

from forecast.errors import DataError, reason_of
from forecast.schema import (
    FORECAST_SCHEMA,
    FORECAST_VARIABLES,
    OPTIONAL_VARIABLES,
    SEQUENCE_VARIABLES,
    SequenceMeta,
    check_schema,
)
from forecast.storage.chunks import DAMAGE, quickly


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
    frames, shape = meta.history + meta.horizon, meta.grid.shape
    found = dataset.sizes["time"], (dataset.sizes["y"], dataset.sizes["x"])
    if found != (frames, shape):
        raise DataError(
            f"{frames} frames of {shape} cells, as the attributes of {path} say",
            f"{found[0]} frames of {found[1]}",
            "make the store anew with `forecast prepare`",
        )
    _load_provenance(dataset, path)
    return dataset, meta if "map" in dataset else replace(meta, map_layers=())


def open_forecast_store(path: str) -> xr.Dataset:
    """Opens a forecast store lazily and checks its schema and variables.

    Raises:
        DataError: It is missing, not zarr, of another schema or lacks a variable.
    """
    dataset = open_store(path)
    check_schema(dataset.attrs, (FORECAST_SCHEMA,), path, "make it anew with `forecast rollout`")
    _check_variables(dataset, FORECAST_VARIABLES, frozenset(), path)
    _load_provenance(dataset, path)
    return dataset


def open_store(path: str) -> xr.Dataset:
    """Opens a zarr store of whatever schema lazily.

    Raises:
        DataError: It is missing or not zarr.
    """
    try:
        with quickly(path):
            dataset: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks=None)
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
    for name, (dims, _) in variables.items():
        if name not in dataset:
            if name in optional:
                continue
            raise DataError(f"a variable {name!r}", f"none in {path}", "make the store anew")
        if dataset[name].dims != dims:
            raise DataError(
                f"{name}{dims}", f"{name}{dataset[name].dims} in {path}", "make the store anew"
            )


BLOCK = 32  # sequences read at a time, a shard


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
    starts = range(0, rasters.sizes["sequence"], BLOCK)
    return any(rasters.isel(sequence=slice(start, start + BLOCK)).values.any() for start in starts)
