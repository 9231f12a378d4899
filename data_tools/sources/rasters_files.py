"""A recording of rasters as it lies on disk - zarr, NetCDF or a folder of .npy - opened alike."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import fsspec
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from data_tools.formats.documents import read_json
from forecast.errors import DataError, ForecastError, reason_of
from forecast.grid import BEVGrid
from forecast.storage.files import filesystem, is_local
from forecast.storage.stores import SCALES, open_store

SIDECAR = "rasters.json"
DIMS = {
    "semantic": ("time", "y", "x"),
    "ego_pose": ("time", "pose"),
    "time": ("time",),
    "instance": ("time", "y", "x"),
    "map": ("time", "map_layer", "y", "x"),
    "bev": ("time", "channel", "y", "x"),
}
REQUIRED = ("semantic", "ego_pose", "time")
RECORDING = (
    f"a recording of rasters: a zarr store, a NetCDF file or a folder with {SIDECAR}"
    f" and {', '.join(f'{name}.npy' for name in REQUIRED)}"
)
EXAMPLE = "write one as docs/data_format.md shows under Rasters"
# What NetCDF files begin with, and what reads them.
_ENGINES = {b"CDF\x01": "scipy", b"CDF\x02": "scipy", b"\x89HDF": "h5netcdf"}
_NAMES = {"channels": "channel", "map_layers": "map_layer"}


@contextmanager
def open_rasters(unit: str) -> Iterator[xr.Dataset]:
    """Opens a recording lazily, with the variables of :data:`DIMS` that it has.

    Args:
        unit: A zarr store, a NetCDF file or a folder with :data:`SIDECAR`; path or fsspec URL.

    Raises:
        DataError: It is none of these, lacks a variable, or one has other dimensions.
    """
    system, path = filesystem(unit)
    with ExitStack() as stack:
        try:
            if system.isfile(path):
                data = _open_netcdf(unit, stack)
            elif system.isfile(posixpath.join(path, SIDECAR)):
                data = _open_folder(unit)
            else:
                data = _scaled(open_store(unit))
        except ForecastError:
            raise
        except Exception as error:  # damage makes zarr and NetCDF readers raise whatever there is
            raise DataError(
                f"zarr, NetCDF or .npy with {SIDECAR}", f"{unit} ({reason_of(error)})", "check it"
            ) from error
        stack.callback(data.close)
        _check_dims(data, unit)
        yield data


def _check_dims(data: xr.Dataset, unit: str) -> None:
    for name, dims in DIMS.items():
        if name in data and data[name].dims != dims:
            shown = ", ".join(f"{dim} {size}" for dim, size in data[name].sizes.items())
            raise DataError(f"{name}({', '.join(dims)})", f"({shown}) in {unit}", "transpose it")
        if name in REQUIRED and name not in data:
            raise DataError(f"a variable {name!r}", f"none in {unit}", "add it")


def _open_netcdf(url: str, stack: ExitStack) -> xr.Dataset:
    file: Any = stack.enter_context(fsspec.open(url, "rb"))
    engine = _ENGINES.get(file.read(4))
    file.seek(0)
    if engine is None:
        raise DataError(RECORDING, f"{url}, a file that is no NetCDF", EXAMPLE)
    if find_spec(engine) is None:
        raise DataError(
            f"{engine}, which reads NetCDF 4",
            f"no such package for {url}",
            'pip install "bev-forecast[netcdf]" or store it as zarr',
        )
    return xr.open_dataset(file, engine=engine)


def _scaled(data: xr.Dataset) -> xr.Dataset:
    """With the numbers that a store means by those in it, where its attributes scale them.

    What fills a chunk that is not there is a value: zarr 2 says of every array what it is.
    """
    names = [name for name in data.variables if {*SCALES} & {*data[name].attrs}]
    if not names:
        return data
    others = [name for name in data.coords if name not in names]
    return data.assign(xr.decode_cf(data[names].drop_vars(others, errors="ignore")))


def _open_folder(folder: str) -> xr.Dataset:
    sidecar = posixpath.join(folder, SIDECAR)
    about = read_json(sidecar)
    if not isinstance(about, dict) or "grid" not in about:
        raise DataError("an object with grid and classes", sidecar, "add them")
    try:
        grid = BEVGrid.from_attrs(about["grid"])
    except (ForecastError, AttributeError) as error:
        raise DataError(
            "a grid of x_min_m, x_max_m, y_min_m, y_max_m, resolution_m",
            f"{json.dumps(about['grid'])} in {sidecar}",
            "correct it",
        ) from error
    coords = {dim: (dim, list(about[name])) for name, dim in _NAMES.items() if name in about}
    variables = {name: (dims, _load(folder, name, dims)) for name, dims in DIMS.items()}
    if (time_s := variables["time"][1]) is not None and time_s.dtype == np.float16:
        variables["time"] = DIMS["time"], time_s.astype(np.float64)  # pandas has no such index
    return xr.Dataset(
        {name: (dims, array) for name, (dims, array) in variables.items() if array is not None},
        coords={"y": grid.y_m, "x": grid.x_m, **coords},
        attrs={"classes": about.get("classes", [])},
    )


def _load(folder: str, name: str, dims: tuple[str, ...]) -> NDArray[Any] | None:
    """One array of a folder, mapped where the disk is local; None where there is no such file."""
    file = posixpath.join(folder, f"{name}.npy")
    system, path = filesystem(file)
    if not system.isfile(path):
        return None
    try:
        if is_local(system):
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with system.open(path, "rb") as content:
                array = np.load(content, allow_pickle=False)
    except Exception as error:  # the header is read as Python, and fails in as many ways
        raise DataError(
            "a .npy file of numbers", f"{file} ({reason_of(error)})", "write it anew"
        ) from error
    if array.ndim != len(dims):
        raise DataError(f"{name}({', '.join(dims)})", f"{array.shape} in {file}", "correct it")
    return array
