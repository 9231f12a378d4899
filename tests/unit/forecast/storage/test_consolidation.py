"""Every store that we write opens in xarray without a warning, however it came about.

Warnings are errors in these tests, as everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from data_tools.prepare import PrepareOptions, prepare
from forecast.checkpoint.packaged import packaged
from forecast.grid import BEVGrid
from forecast.storage.stores import open_store
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.scenarios import crossing, write
from tests.support.stores import Mover, forecast_store, sequence_store

SCENES = [[Mover(0, -4, speed=index)] for index in range(4)]
OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5), stride=8)


def stop(done: int, total: int) -> None:
    """Interrupts a run after its first unit."""
    raise KeyboardInterrupt


def assert_opens(url: str) -> None:
    """As a user opens it, and all that is there is found there."""
    with xr.open_zarr(url, chunks=None) as opened, open_store(url) as ours:
        xr.testing.assert_identical(opened.load(), ours.load())


def test_the_packaged_sample_opens() -> None:
    assert_opens(packaged("sample.zarr"))


@pytest.mark.parametrize("root", ["", "memory://consolidated"])
def test_sequence_stores_open_also_when_resumed_or_overwritten(root: str, tmp_path: Path) -> None:
    url = f"{root or tmp_path}/o.zarr"
    write(tmp_path / "0.json", crossing(0, agents=3))
    files = [str(tmp_path / "0.json")]
    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", files, url, OPTIONS, stop)
    prepare("waymo-json", files, url, replace(OPTIONS, resume=True))
    assert_opens(url)
    prepare("waymo-json", files, url, replace(OPTIONS, overwrite=True, history=2))
    assert_opens(url)


@pytest.mark.parametrize("root", ["", "memory://consolidated"])
def test_forecast_stores_open_also_when_resumed_or_overwritten(root: str, tmp_path: Path) -> None:
    url, data = f"{root or tmp_path}/f.zarr", sequence_store(tmp_path / "s.zarr", SCENES)
    request = RolloutRequest(data=data, model="constant-turn", output=url, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        rollout_to_store(request, stop)
    rollout_to_store(replace(request, resume=True))
    assert_opens(url)
    rollout_to_store(replace(request, overwrite=True, horizon=2))
    assert_opens(url)


def test_a_variable_added_later_is_read_though_the_copy_lacks_it(tmp_path: Path) -> None:
    path = forecast_store(tmp_path / "f.zarr", sequence_store(tmp_path / "s.zarr", SCENES))
    more = xr.Dataset({"weight": ("sequence", [1.0] * len(SCENES))})
    more.to_zarr(path, mode="a", zarr_format=3, consolidated=False)
    assert "weight" in open_store(path)
