"""Writes forecasts to disk as they are made: the forecast store (schema ``bev-forecast/2``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.loop import REALIZATIONS_AT_ONCE
from forecast.schema import (
    FORECAST_SCHEMA,
    FORECAST_VARIABLES,
    POSE_NAMES,
    REALIZATION_VARIABLES,
    SIDES,
    SequenceMeta,
)
from forecast.storage.atomic import refusing_os_errors
from forecast.storage.consolidation import consolidate
from forecast.types import Realization, StepForecast, as_numpy

BLOCK_LEADS = 6
"""Leads that are buffered and make one chunk: memory does not grow with the horizon."""
BY_TRACK = ("existence", "pose", "uncertainty")
POSES, MASKS = REALIZATION_VARIABLES
LEFT_OUT = "agents_left_out"
"""How many agents of each sequence are there at present and not forecast."""

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "instance": {"long_name": "persistent instance id, 0 = background", "units": "1"},
    "semantic": {"long_name": "most likely class, 0 = background, k = class k - 1", "units": "1"},
    "occupancy": {"long_name": "probability that a cell is of the class", "units": "1"},
    "flow": {"long_name": "backward flow at the destination cell, per step", "units": "m"},
    "existence": {
        "long_name": "probability that the agent is still there, NaN = no such agent",
        "units": "1",
    },
    "pose": {"long_name": "x, y (m) and yaw (rad) in the present ego frame, NaN = none"},
    "uncertainty": {
        "long_name": "expected error of the pose in the agent's frame, scale of a Laplace"
        " distribution, NaN = none or not known",
        "units": "m",
    },
    POSES: {
        "long_name": "x, y (m) and yaw (rad) in each of several futures, in the present ego frame,"
        " NaN = no such agent, or gone in this future",
    },
    MASKS: {"long_name": "persistent instance id in each future, 0 = background", "units": "1"},
}


def create_store(
    url: str,
    source: xr.Dataset,
    meta: SequenceMeta,
    *,
    horizon: int,
    tracks: int,
    attrs: Mapping[str, Any],
    realizations: int = 0,
    masks: bool = False,
) -> None:
    """Lays out a forecast store whose forecasts are still missing.

    Args:
        url: The new store, a local path or an fsspec URL; what is there is replaced.
        source: The sequences that are forecast.
        meta: Attributes of their store.
        horizon: Leads per sequence, free of the source's own horizon.
        tracks: Number of instance ids; id n is track n - 1.
        attrs: Plain JSON values about model, checkpoint hash, config and data source.
        realizations: Futures beside the forecast; 0 = none.
        masks: Whether their masks are stored too.
    """
    frame = _coordinates(source, meta, horizon)
    frame.attrs = {**_attrs(meta), **attrs, "horizon": horizon}
    sizes = {
        "sequence": source.sizes["sequence"],
        "lead": horizon,
        "y": meta.grid.height,
        "x": meta.grid.width,
        "class": len(meta.classes),
        "axis": 2,
        "track": tracks,
        "pose": len(POSE_NAMES),
        "side": len(SIDES),
        "realization": realizations,
    }
    several = (POSES, MASKS) if masks else (POSES,)
    if realizations:
        frame = frame.assign_coords(realization=("realization", *_numbered(realizations)))
    frame.to_zarr(url, mode="w", zarr_format=3, consolidated=False)
    group = zarr.open_group(url, mode="r+", use_consolidated=False)
    for name in (*FORECAST_VARIABLES, *(several if realizations else ())):
        _create(group, name, sizes)
    consolidate(url)


class ForecastWriter:
    """Writes forecasts into a store that is laid out, from as many processes as there are.

    Every chunk holds one sequence and at most ``BLOCK_LEADS`` leads; that block is all that is
    buffered, and no two sequences share a chunk.

    Args:
        url: A store made by :func:`create_store`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        group = zarr.open_group(url, mode="r+", use_consolidated=False)
        self._arrays: dict[str, Any] = {name: group[name] for name in FORECAST_VARIABLES}
        self._several: dict[str, Any] = {
            name: group[name] for name in REALIZATION_VARIABLES if name in group
        }
        self.horizon, self.tracks = self._arrays["existence"].shape[1:]

    def write(self, sequences: slice, steps: Iterable[StepForecast]) -> NDArray[np.bool_]:
        """Consumes the rollout of some sequences, block of leads by block of leads.

        Args:
            sequences: Where the batch stands in the source, ``slice(start, start + B)``.
            steps: Leads 1 to the writer's horizon, in order.

        Returns:
            ``(B, track)`` which tracks are forecast at the first lead.

        Raises:
            DataError: Leads are missing or out of order, an id exceeds the number of tracks, or
                the disk refuses.
        """
        remaining = self._in_order(steps)
        known = np.zeros((sequences.stop - sequences.start, self.tracks), bool)
        for start in range(0, self.horizon, BLOCK_LEADS):
            arrays = step_arrays(islice(remaining, BLOCK_LEADS), self.tracks)
            stop = min(start + BLOCK_LEADS, self.horizon)
            if start == 0:
                known = np.isfinite(arrays["existence"][:, 0])
            with refusing_os_errors(self.url):
                for name, array in self._arrays.items():
                    array[sequences, start:stop] = arrays[name]
        next(remaining, None)  # refuses a step too many
        return known

    def write_realizations(self, sequences: slice, futures: Iterable[Realization]) -> None:
        """Consumes the realizations of some sequences, a few of them at a time.

        Args:
            sequences: Where the batch stands in the source.
            futures: Realization 0 to the store's last, in order.

        Raises:
            DataError: An id exceeds the number of tracks, or the disk refuses.
        """
        remaining = iter(futures)
        while part := list(islice(remaining, REALIZATIONS_AT_ONCE)):
            numbers = slice(part[0].number, part[-1].number + 1)
            with refusing_os_errors(self.url):
                for name, array in self._several.items():
                    array[sequences, numbers] = self._stacked(name, part)

    def _stacked(self, name: str, part: Sequence[Realization]) -> NDArray[Any]:
        """A variable of some realizations, ``(B, realizations, leads, ...)``."""
        if name == POSES:
            values = [_poses_by_track(one, self.tracks) for one in part]
        else:
            values = [as_numpy(one.instance) for one in part if one.instance is not None]
        return np.stack(values, 1).astype(REALIZATION_VARIABLES[name][1])

    def _in_order(self, steps: Iterable[StepForecast]) -> Iterator[StepForecast]:
        expected = f"leads 1 to {self.horizon} in order"
        remedy = "roll out as far as the store's horizon"
        last = 0
        for step in steps:
            if step.lead != last + 1 or step.lead > self.horizon:
                raise DataError(expected, f"{step.lead} after {last}", remedy)
            last = step.lead
            yield step
        if last != self.horizon:
            raise DataError(expected, f"{last} of them", remedy)


def write_left_out(url: str, counts: list[int]) -> None:
    """Adds to a forecast store how many agents of each sequence are not forecast."""
    group = zarr.open_group(url, mode="r+", use_consolidated=False)
    group.create_array(
        LEFT_OUT,
        data=np.array(counts, np.uint16),
        dimension_names=("sequence",),
        attributes={
            "long_name": "agents at present that the model had no room for, farthest from the ego",
            "units": "1",
        },
        overwrite=True,
    )
    consolidate(url)


def _create(group: zarr.Group, name: str, sizes: Mapping[str, int]) -> None:
    dims, dtype = (FORECAST_VARIABLES | REALIZATION_VARIABLES)[name]
    shape = tuple(sizes[dim] for dim in dims)
    most = {"sequence": 1, "lead": BLOCK_LEADS, "realization": REALIZATIONS_AT_ONCE}
    chunks = tuple(min(sizes[dim], most.get(dim, sizes[dim])) for dim in dims)
    group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(size, 1) for size in chunks),
        dtype=dtype,
        fill_value=np.nan if name in (*BY_TRACK, POSES) else 0,
        # Shuffled bytes at the lowest level: nearly as small as higher ones, several times
        # quicker, and a rollout should not wait for its compressor.
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle=BloscShuffle.shuffle),
        # One directory per variable: nested ones cost more to make and flush than chunks.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=dims,
        attributes=ATTRIBUTES[name],
        config={"write_empty_chunks": False},
    )


def step_arrays(steps: Iterable[StepForecast], tracks: int) -> dict[str, NDArray[Any]]:
    """Steps as the store's arrays: ``(B, leads, ...)`` with the names and types of the schema.

    A slot's id decides the track that its existence and pose go to.

    Raises:
        DataError: An id exceeds ``tracks``.
    """
    # Each step is made small and let go before the next one is asked for.
    leads = [_lead_arrays(step, tracks) for step in steps]
    return {name: np.stack([lead[name] for lead in leads], axis=1) for name in FORECAST_VARIABLES}


def _lead_arrays(step: StepForecast, tracks: int) -> dict[str, NDArray[Any]]:
    rasters = {name: as_numpy(getattr(step, name)) for name in ("instance", "semantic")}
    # Halved by torch, which is quicker than numpy and leaves less to bring from the device.
    rasters |= {name: as_numpy(getattr(step, name).half()) for name in ("occupancy", "flow")}
    return {
        name: array.astype(FORECAST_VARIABLES[name][1])
        for name, array in {**rasters, **_by_track(step, tracks)}.items()
    }


def _by_track(step: StepForecast, tracks: int) -> dict[str, NDArray[np.float32]]:
    """What :data:`BY_TRACK` names of the slots in use, ``(B, tracks, ...)``, NaN elsewhere."""
    ids = as_numpy(step.ids)
    batch, slot = _slots_in_use(ids, tracks)
    of_track = {}
    for name, shape in zip(BY_TRACK, ((), (len(POSE_NAMES),), (len(SIDES),)), strict=True):
        of_track[name] = np.full((len(ids), tracks, *shape), np.nan, np.float32)
        said = getattr(step, name)
        if said is not None:
            of_track[name][batch, ids[batch, slot] - 1] = as_numpy(said)[batch, slot]
    return of_track


def _poses_by_track(one: Realization, tracks: int) -> NDArray[np.float32]:
    """Poses of a realization, ``(B, leads, tracks, 3)``, NaN where there is none."""
    ids, pose = as_numpy(one.ids), as_numpy(one.pose)
    batch, slot = _slots_in_use(ids, tracks)
    of_track = np.full((len(ids), tracks, pose.shape[1], pose.shape[3]), np.nan, np.float32)
    of_track[batch, ids[batch, slot] - 1] = pose.swapaxes(1, 2)[batch, slot]
    return of_track.swapaxes(1, 2)


def _slots_in_use(ids: NDArray[Any], tracks: int) -> tuple[NDArray[Any], ...]:
    """Indices of the slots that hold an agent.

    Raises:
        DataError: An id exceeds ``tracks``.
    """
    if ids.max(initial=0) > tracks:
        remedy = "give the forecast store more tracks"
        raise DataError(f"instance ids up to {tracks}", f"id {ids.max()}", remedy)
    return np.nonzero(ids)


def _numbered(realizations: int) -> tuple[NDArray[Any], dict[str, str]]:
    """The coordinate of realizations, as CF names it."""
    return np.arange(realizations), {"standard_name": "realization", "units": "1"}


def _attrs(meta: SequenceMeta) -> dict[str, Any]:
    """What a reader needs of the source's attributes to understand the forecast alone."""
    return {
        "Conventions": "CF-1.12",
        "schema": FORECAST_SCHEMA,
        "grid": meta.grid.to_attrs(),
        "dt_s": meta.dt_s,
        "history": meta.history,
        "classes": list(meta.classes),
        "protocol": dict(meta.protocol),
        "source": meta.source,
    }


def _coordinates(source: xr.Dataset, meta: SequenceMeta, horizon: int) -> xr.Dataset:
    """The small variables: provenance of each sequence and the axes' coordinates."""
    lead = np.arange(1, horizon + 1)
    return xr.Dataset(
        {
            "scene": ("sequence", source["scene"].values.astype(object)),
            "init_time": ("sequence", source["init_time"].values, source["init_time"].attrs),
        },
        coords={
            "lead": ("lead", lead, {"long_name": "steps after the present", "units": "1"}),
            "lead_time": (
                "lead",
                lead * meta.dt_s,
                {"standard_name": "forecast_period", "units": "s"},
            ),
            **_grid_coordinates(meta.grid),
            "class": ("class", np.array(meta.classes, dtype=object)),
            "axis": ("axis", np.array(["x", "y"], dtype=object)),
            "pose_component": ("pose", np.array(POSE_NAMES, dtype=object)),
            "side": ("side", np.array(SIDES, dtype=object)),
        },
    )


def _grid_coordinates(grid: BEVGrid) -> dict[str, Any]:
    return {
        "x": ("x", grid.x_m, {"long_name": "forward of the ego", "units": "m", "axis": "X"}),
        "y": ("y", grid.y_m, {"long_name": "left of the ego", "units": "m", "axis": "Y"}),
    }
