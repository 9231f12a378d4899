"""A user's own dense frames, such as a perception network puts out, with the ego's poses.

A recording is a zarr store, a NetCDF file or a folder of .npy files (``docs/data_format.md`` lists
their content). Every frame is in the frame that the ego had at its time; nothing is moved here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from data_tools.scene import DenseScene
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.observations import frame_numbers
from data_tools.sources.rasters_files import EXAMPLE, RECORDING, SIDECAR, open_rasters
from data_tools.sources.rasters_frames import Frames, names
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import refusing_damage

Array = NDArray[np.float64]

ROOTS = ("zarr.json", ".zgroup", SIDECAR)  # what a folder that is a recording holds
MOST_CLASSES = 255
JITTER = 0.1  # of a step, from one frame to the next


class Rasters:
    """Recordings of rasters; a unit is one zarr store, NetCDF file or folder."""

    name = "rasters"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The recordings in some inputs.

        Raises:
            DataError: An input does not exist or holds none.
        """
        units: dict[str, None] = {}
        for path in find_files(inputs, (*ROOTS, ".nc"), RECORDING, EXAMPLE):
            folder, name = posixpath.split(path)
            units[folder if name in ROOTS else path] = None
        # The arrays of a zarr store look like stores themselves.
        return [unit for unit in units if posixpath.dirname(unit) not in units]

    def read(self, unit: str, dt_s: float) -> DenseScene:
        """A recording at ``dt_s``, which must be a multiple of its own step.

        Raises:
            DataError: A variable is missing, of another shape, or has a value at fault.
        """
        with refusing_damage(unit), open_rasters(unit) as data:
            time_s, taken = _frames(_seconds(data["time"].values, unit), dt_s, unit)
            there = taken >= 0
            frames = Frames(data, taken[there], unit)
            native = _classes(data, unit)
            layers = frames.layers()
            pose = np.full((len(time_s), 3), np.nan)
            pose[there] = frames.poses()
            return DenseScene(
                name=str(data.attrs.get("scene", _stem(unit))),
                time_s=time_s,
                dt_s=dt_s,
                row=np.where(there, there.cumsum() - 1, -1),
                ego_pose=pose,
                grid=_grid(data, unit),
                native=native,
                semantic=frames.labels("semantic", len(native)).astype(np.uint8),
                instance=frames.labels("instance") if "instance" in data else None,
                map=layers,
                channels=frames.channels(),
                bev=frames.bev(),
                notes={"frames missing": int((~there).sum())},
            )


def _classes(data: xr.Dataset, unit: str) -> tuple[str, ...]:
    """The classes of a recording; stores number them in a byte.

    Raises:
        DataError: They have no different names, or are too many.
    """
    native = names(data.attrs.get("classes"), "classes", unit)
    if len(native) > MOST_CLASSES:
        raise DataError(
            f"{MOST_CLASSES} classes at most", f"{len(native)} in {unit}", "join some of them"
        )
    return native


def _seconds(time: NDArray[Any], unit: str) -> Array:
    """Times of the frames, ``(T,)`` seconds: numbers as they are, dates since 1970.

    Raises:
        DataError: One is not finite, or not later than the one before.
    """
    if time.dtype.kind in "mM":
        since = time - np.datetime64(0, "s") if time.dtype.kind == "M" else time
        time = since / np.timedelta64(1, "s")
    if time.dtype.kind not in "iuf":
        raise DataError("time in seconds", f"{time.dtype} in {unit}", "convert it")
    time_s = time.astype(np.float64)
    later = np.diff(time_s, prepend=-np.inf) > 0
    if not (later & np.isfinite(time_s)).all():
        frame = int((~(later & np.isfinite(time_s))).argmax())
        before = f" after {time_s[frame - 1]:g} s" if frame else ""
        got = f"{time_s[frame]:g} s{before} in frame {frame} of {unit}"
        raise DataError("times that ascend", got, "sort the frames (the first is 0)")
    return time_s


def _frames(time_s: Array, dt_s: float, unit: str) -> tuple[Array, NDArray[np.int64]]:
    """Times ``dt_s`` apart, and which frame is at each, -1 where it is missing.

    Raises:
        DataError: The times are not regular, or ``dt_s`` is no multiple of their step.
    """
    if len(time_s) < 2:
        raise DataError("two frames or more", f"{len(time_s)} in {unit}", "leave it out")
    step = float(np.median(np.diff(time_s)))
    number = frame_numbers(time_s, step, JITTER * step, unit)
    frame = np.full(int(number[-1]) + 1, -1)
    frame[number] = np.arange(len(number))
    regular_s = time_s[0] + step * np.arange(len(frame))
    every = decimate(regular_s, dt_s, unit)
    return np.where(frame < 0, regular_s, time_s[frame])[every], frame[every]


def _grid(data: xr.Dataset, unit: str) -> BEVGrid:
    """The grid whose cell centres the coordinates are."""
    edges: list[float] = []
    steps: list[float] = []
    for axis in ("x", "y"):
        if axis not in data.coords or data.sizes[axis] < 2:
            raise DataError(
                f"a coordinate {axis} of cell centres, metres", f"none in {unit}", "add it"
            )
        centre = data[axis].values.astype(np.float64)
        step = (centre[-1] - centre[0]) / (len(centre) - 1)
        even = np.abs(np.diff(centre) - step).max() <= 1e-3 * abs(step)  # False where NaN
        if not (step > 0 and even):
            raise DataError(
                f"{axis} that ascends in equal steps", f"others in {unit}", "sort or resample it"
            )
        steps.append(step)
        edges += [centre[0] - step / 2, centre[0] + (len(centre) - 0.5) * step]
    if abs(steps[1] - steps[0]) > 1e-4 * steps[0]:
        raise DataError(
            "square cells", f"{steps[0]:g} m by {steps[1]:g} m in {unit}", "resample the frames"
        )
    high = edges[2] + data.sizes["y"] * steps[0]
    return BEVGrid(edges[0], edges[1], edges[2], high, steps[0])


def _stem(unit: str) -> str:
    name = posixpath.basename(unit)
    return name.removesuffix(".nc").removesuffix(".zarr")
