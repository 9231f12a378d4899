"""Live is the rollout of the same history: the packaged sample, frame by frame, in a world."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_tools.geometry import poses_to_frame
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader
from forecast.inference.request import RolloutRequest
from forecast.live import Forecaster, LiveForecast
from forecast.types import map_tensors
from forecast.workflows import rollout_to_store
from tests.support.live import WORLD, replay, traffic


@pytest.fixture(scope="module")
def reader() -> SequenceReader:
    return SequenceReader(packaged("sample.zarr"))


@pytest.fixture(scope="module")
def forecasts(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, xr.Dataset]:
    """Of the first two sequences of the sample, without rasters (True) and with them."""
    folder: Path = tmp_path_factory.mktemp("rollouts")
    stores = {}
    for fast in (False, True):
        output = str(folder / f"{fast}.zarr")
        rollout_to_store(RolloutRequest(output=output, limit=2, batch_size=1, fast=fast))
        stores[fast] = xr.open_zarr(output)
    return stores


def apart(ours: LiveForecast, theirs: xr.Dataset) -> tuple[np.ndarray, int]:
    """Metres between the poses of both, and cells in which their label maps differ."""
    rows = np.array([int(str(id_).removeprefix("track ")) for id_ in ours.ids])
    pose = theirs["pose"].values
    assert set(np.flatnonzero(np.isfinite(pose[0, :, 0]))) == set(rows)
    off = poses_to_frame(ours.pose, WORLD)[..., :2] - pose[:, rows, :2]
    labels = np.concatenate([[0], rows + 1])[ours.instance]
    return np.linalg.norm(off, axis=-1), int((labels != theirs["instance"].values).sum())


@pytest.mark.parametrize(
    ("fast", "stands"), [(True, False), (False, True)], ids=["moves", "stands"]
)
def test_live_is_the_rollout_of_the_store(
    reader: SequenceReader, forecasts: dict[bool, xr.Dataset], fast: bool, stands: bool
) -> None:
    """Without rasters wherever the ego drives; with them where all of them are on one grid.

    The rollout draws all frames of a history on the grid of its present, which a stack cannot know
    before it is there: it reads every raster on the grid that the ego has then.
    """
    live = replay(Forecaster("packaged", fast=fast, raster_every_s=float("inf")), reader[1], stands)
    off, cells = apart(live.forecast(6), forecasts[fast].isel(sequence=1))
    assert off.size > 50
    assert off.max() < 1e-3
    assert cells == 0


def test_rasters_on_a_moving_grid_are_read_much_the_same(
    reader: SequenceReader, forecasts: dict[bool, xr.Dataset]
) -> None:
    live = replay(Forecaster("packaged", raster_every_s=float("inf")), reader[1])
    off, cells = apart(live.forecast(6), forecasts[False].isel(sequence=1))
    assert np.median(off) < 0.02
    assert off.max() < 0.5
    assert cells < 50


HOUR = int(os.environ.get("FRAMES", "36000"))  # at 10 Hz


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_hour_leaves_nothing_behind() -> None:
    """An hour of traffic at 10 Hz: no more is held than after a minute, and little is remembered.

    Who has been in sight for an hour is forecast as by a forecaster that saw the last 2.4 s, all
    that is remembered in poses; what queries carry from before then changes little.
    """
    long, short = (Forecaster("packaged", fast=True) for _ in range(2))
    held = {}
    for frame in range(HOUR + 1):
        time_s, ego, tracks = traffic(frame)
        long.observe(time_s, ego_pose=ego, tracks=tracks)
        if frame > HOUR - 24:
            short.observe(time_s, ego_pose=ego, tracks=tracks)
        if frame in (600, HOUR):
            assert long._now is not None
            held[frame] = tensor_bytes(long), len(long._now.ids), resident_mib()
    ours, theirs = long.forecast(6), short.forecast(6)
    print({frame: numbers for frame, numbers in held.items()})
    assert held[HOUR][0] <= 1.1 * held[600][0]
    assert held[HOUR][1] <= held[600][1] + 5
    assert held[HOUR][2] < held[600][2] + 64
    assert set(ours.ids) == set(theirs.ids)
    same = [theirs.ids.index(id_) for id_ in ours.ids]
    off = np.linalg.norm((ours.pose - theirs.pose[:, same])[..., :2], axis=-1)
    print(f"after an hour: median {np.median(off):.4f} m, largest {off.max():.4f} m apart")
    assert np.median(off) < 0.06
    assert off.max() < 0.7


def tensor_bytes(live: Forecaster) -> int:
    sizes: list[int] = []
    assert live._now is not None

    def count(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    map_tensors(replace(live._now.state), count)
    return sum(sizes)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
