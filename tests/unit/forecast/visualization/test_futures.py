"""Realizations as they are drawn: paths of the store, sizes and classes of boxes or of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.visualization.futures import MOST_REALIZATIONS, Realizations, realizations_of
from tests.support.realizations import add_realizations
from tests.support.stores import Mover, forecast_store, sequence_store

SCENES = ([Mover(0.0, 0.0, speed=4.0), Mover(8.0, 4.0, yaw=0.6, label=2, length=3.0, width=1.5)],)


def found(ours: str, sequences: str, data: xr.Dataset | None = None) -> Realizations | None:
    store, meta = open_sequence_store(sequences)
    one = (store if data is None else data).isel(sequence=0)
    return realizations_of(one, open_forecast_store(ours).isel(sequence=0), meta)


def test_a_forecast_without_realizations_has_none(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    assert found(forecast_store(tmp_path / "f.zarr", data), data) is None


def test_paths_are_the_store_s_and_agents_as_they_were_observed(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data), 3)
    drawn = found(ours, data)
    assert drawn is not None
    pose = open_forecast_store(ours)["realization_pose"].values[0]
    np.testing.assert_array_equal(drawn.pose, pose)
    np.testing.assert_allclose(drawn.present, [[0, 0], [8, 4]])
    np.testing.assert_allclose(drawn.size, [[4.5, 2.0], [3.0, 1.5]])
    np.testing.assert_array_equal(drawn.label, [1, 2])


def test_of_many_realizations_the_first_are_drawn(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data), MOST_REALIZATIONS + 3)
    drawn = found(ours, data)
    assert drawn is not None
    pose = open_forecast_store(ours)["realization_pose"].values[0]
    np.testing.assert_array_equal(drawn.pose, pose[:MOST_REALIZATIONS])


def test_where_ids_are_the_forecaster_s_own_its_first_masks_tell_the_size(tmp_path: Path) -> None:
    leaving = Mover(17.75, -6.0, speed=4.0)  # at last half beyond the edge
    data = sequence_store(tmp_path / "s.zarr", [[*SCENES[0], leaving]])
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data, input="detected"), 2)
    drawn = found(ours, data)
    assert drawn is not None
    assert np.isnan(drawn.present).all(), "whose place now it is cannot be told"
    first, turned, last = drawn.size
    np.testing.assert_allclose(first, [5.0, 2.0], atol=1e-6)  # ten cells by four
    np.testing.assert_allclose(turned, [3.0, 1.5], atol=0.5)
    np.testing.assert_allclose(last, [4.5, 2.0], atol=1e-6)  # nine cells by four
    np.testing.assert_array_equal(drawn.label, [1, 2, 1])


def test_without_boxes_the_present_is_that_of_the_masks(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data), 2)
    bare = open_sequence_store(data)[0].drop_vars(["track_state", "track_class"])
    drawn = found(ours, data, bare)
    assert drawn is not None
    np.testing.assert_allclose(drawn.present, [[0, 0], [8, 4]], atol=0.3)
    np.testing.assert_allclose(drawn.size, [[4.5, 2.0], [3.0, 1.5]], atol=0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pose_that_is_no_place_is_none(tmp_path: Path, value: float) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data), 2)
    poses = zarr.open_group(ours, mode="r+", use_consolidated=False)["realization_pose"]
    assert isinstance(poses, zarr.Array)
    poses[0, 1, 3, 0, 1] = value
    drawn = found(ours, data)
    assert drawn is not None
    assert np.isnan(drawn.pose[1, 3, 0]).all()
    assert np.isfinite(drawn.pose).sum() == drawn.pose.size - 3
