"""A forecast is scored against the history that it was made from, whatever the names say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from forecast.errors import DataError
from forecast.evaluation.agreement import DIGEST, history_digest
from forecast.evaluation.scoring import score_stores
from forecast.storage.stores import open_sequence_store
from tests.support.stores import Mover, forecast_store, sequence_store

SCENES = [[Mover(0, -4, speed=6), Mover(-6, 4)], [Mover(3, -3, speed=4)]]


def digest(path: str, count: int = 2) -> dict[str, str]:
    return history_digest(path, *open_sequence_store(path), count)


def forecast_of(tmp_path: Path, data: str) -> str:
    return forecast_store(tmp_path / "f.zarr", data, **{DIGEST: digest(data)})


def moved(tmp_path: Path, data: str, change: Any) -> str:
    """The same store with something else in it."""
    other = change(xr.open_zarr(data, consolidated=False, chunks=None).load())
    other.to_zarr(tmp_path / "other.zarr", zarr_format=3, consolidated=False)
    return str(tmp_path / "other.zarr")


def another_centre(data: xr.Dataset) -> xr.Dataset:
    data["ego_pose"][:, 0, 0] = -3.0
    return data


def other_observations(data: xr.Dataset) -> xr.Dataset:
    data["track_state"][1, 0, 1, 0] += 0.1
    return data


def another_future(data: xr.Dataset) -> xr.Dataset:
    data["track_state"][:, :, 4:, 0] += 5.0
    data["ego_pose"][:, 4:, 0] = 2.0
    return data


@pytest.mark.parametrize(
    ("change", "what"), [(another_centre, "ego_pose"), (other_observations, "track_state")]
)
def test_another_history_is_refused(tmp_path: Path, change: Any, what: str) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_of(tmp_path, data)
    assert score_stores(forecast, data).classes["vehicle"].iou == 1.0
    with pytest.raises(DataError, match=f"another {what} in .*other.zarr") as caught:
        score_stores(forecast, moved(tmp_path, data, change))
    assert "\n" not in str(caught.value)


def test_the_future_is_no_part_of_the_history(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    assert score_stores(forecast_of(tmp_path, data), moved(tmp_path, data, another_future))


def test_neither_padding_nor_newcomers_change_a_history(tmp_path: Path) -> None:
    late = Mover(-40, 0, speed=16)  # on the grid only after the present
    stores = [
        sequence_store(tmp_path / f"{name}.zarr", scenes, horizon=horizon)
        for name, scenes, horizon in (
            ("as it is", SCENES, 6),
            ("longer", [[*SCENES[0], late], SCENES[1]], 9),
        )
    ]
    assert digest(stores[0]) == digest(stores[1])


def test_only_the_sequences_that_were_forecast_count(tmp_path: Path) -> None:
    scenes = [SCENES[0], [replace(SCENES[1][0], x=-3)]]
    first, other = (
        sequence_store(tmp_path / name, these)
        for name, these in (("a.zarr", SCENES), ("b.zarr", scenes))
    )
    assert digest(first, 1) == digest(other, 1)
    assert digest(first) != digest(other)
