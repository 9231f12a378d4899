"""Recordings of rasters as they lie in zarr stores, whoever wrote these."""

import numpy as np
import pytest
import zarr

from data_tools.sources import source
from forecast.grid import BEVGrid
from tests.support.rasters import drive, seen, write_zarr
from tests.support.stores import Mover

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
DRIVE = drive((Mover(6.0, 3.0, 0.1, 6.0),), Mover(0.0, 0.0, speed=5.0))


def test_what_fills_arrays_of_zarr_2_is_a_value_and_nothing_is_absent(tmp_path):
    data = seen(DRIVE, GRID)
    group = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    group.attrs["classes"] = data.attrs["classes"]
    for name, array in data.variables.items():
        values = array.values.astype(str) if array.dtype.kind in "OT" else array.values
        fill = "" if values.dtype.kind == "U" else 0
        made = group.create_array(name, data=values, fill_value=fill)
        made.attrs["_ARRAY_DIMENSIONS"] = list(array.dims)
    old = source("rasters").read(str(tmp_path / "old.zarr"), 0.5)
    new = source("rasters").read(write_zarr(tmp_path / "new.zarr", data), 0.5)
    for name in ("semantic", "instance", "map", "bev", "ego_pose", "time_s"):
        found = getattr(old, name)
        assert found.dtype == getattr(new, name).dtype
        np.testing.assert_array_equal(found, getattr(new, name))


@pytest.mark.parametrize("version", [2, 3])
def test_rasters_whose_attributes_scale_them_are_what_these_say(tmp_path, version):
    data = seen(DRIVE, GRID)
    data["bev"].encoding = {"dtype": "int16", "scale_factor": 0.25, "_FillValue": -999}
    scene = source("rasters").read(write_zarr(tmp_path / "z.zarr", data, version), 0.5)
    np.testing.assert_array_equal(scene.bev, data["bev"])
