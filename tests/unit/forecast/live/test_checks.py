"""What a stack gives or asks for wrongly is refused in one line, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forecast.errors import ConfigError, DataError, ForecastError
from forecast.grid import GRIDS
from forecast.live import Forecaster, MapRaster, Raster
from tests.support.small_live import assert_alike, drive, ego_at, live, tracks_at
from tests.support.stores import GRID


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"time_s": math.nan}, "a finite time_s; got nan"),
        ({"ego_pose": [0, 0]}, r"ego_pose of shape \(3,\)"),
        ({"tracks": None}, r"tracks or a raster with ids; got neither"),
        ({"tracks": None, "raster": Raster(np.zeros(GRID.shape, int))}, "a raster without ids"),
        ({"tracks": replace(tracks_at(0), classes=["tram"] * 3)}, "a class of vehicle"),
        ({"raster": Raster(np.zeros((3, 3), int))}, "of shape"),
        ({"tracks": {"ids": [1]}}, "tracks as forecast.live.Tracks; got dict"),
        ({"tracks": [1, 2]}, "tracks as forecast.live.Tracks; got list"),
        ({"raster": np.zeros(GRID.shape, int)}, "raster as forecast.live.Raster; got ndarray"),
        ({"map": "city.geojson"}, "map as forecast.live.WorldMap; got str 'city.geojson'"),
        ({"map": MapRaster(np.zeros((4, *GRID.shape)), GRID)}, "map as .*; got MapRaster"),
        ({"time_s": 10**400}, "a finite time_s; got int too large"),
        ({"ego_pose": [1e300, 0, 0]}, "ego_pose below"),
        (
            {"tracks": None, "raster": Raster(np.ones(GRID.shape, int), np.zeros(GRID.shape, int))},
            "got classes without ids; give their ids, or use input_mode='detected'",
        ),
    ],
)
def test_what_is_refused_changes_nothing(call: dict[str, Any], message: str) -> None:
    model, other = drive(live()), drive(live())
    given = {"time_s": 1.1, "ego_pose": ego_at(1.1), "tracks": tracks_at(1.1)} | call
    with pytest.raises(DataError, match=message) as caught:
        model.observe(given.pop("time_s"), **given)
    assert "\n" not in str(caught.value)
    assert model.counts == other.counts
    assert_alike(model.forecast(2), other.forecast(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: live().forecast(1),
        lambda: drive(live(), 0.1).forecast(0),
        lambda: drive(live(), 0.1).forecast(1, dt_s=0.0),
        lambda: drive(live(), 0.1).forecast(1, dt_s=math.nan),
        lambda: drive(live(), 0.1).forecast(1, dt_s=1e-300),
        lambda: drive(live(), 0.1).forecast(1, dt_s=0.009),
        lambda: drive(live(), 0.1).forecast(1, dt_s=10**400),
        lambda: drive(live(), 0.1).forecast(10**5000),
        lambda: drive(live(), 0.1).forecast(1, realizations=10**8),
        lambda: live(raster_every_s=0.0),
        lambda: live(raster_every_s="x"),
        lambda: live(raster_every_s=None),
        lambda: live(raster_every_s=10**400),
        lambda: live(min_score="a"),
        lambda: live(min_score=math.nan),
        lambda: live(min_score=None),
        lambda: live(input_mode="trackd"),
        lambda: live(device=None),
        lambda: Forecaster("kalman", grid="bev-1m"),
        lambda: Forecaster("kalman", grid=None),  # type: ignore[arg-type]
        lambda: Forecaster(None),  # type: ignore[arg-type]
        lambda: Forecaster(5),  # type: ignore[arg-type]
        lambda: Forecaster("no such model"),
        lambda: Forecaster("components-cv"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(call: Callable[[], object]) -> None:
    with pytest.raises(ForecastError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "change --" not in str(caught.value)


def test_a_grid_may_be_given_by_its_name() -> None:
    assert Forecaster("kalman", grid="bev-30m").grid == GRIDS["bev-30m"]


@pytest.mark.parametrize("horizon", [2.5, 0, -2])
def test_a_horizon_is_a_number_of_steps(horizon: float) -> None:
    began = drive(live("constant-turn"))
    with pytest.raises(ConfigError, match="horizon"):
        began.forecast(horizon=horizon)  # type: ignore[arg-type]
