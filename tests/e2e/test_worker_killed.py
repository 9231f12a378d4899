"""One worker killed by SIGKILL in the midst of `prepare`: nothing is lost, and nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import distributed
import psutil
import pytest

from data_tools.prepare import PrepareOptions, prepare
from forecast.grid import BEVGrid
from tests.support.scenarios import crossing, write
from tests.support.stores import content

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
SCENES = 24


def kill_one_worker() -> None:
    """Of the processes that this one started, one that works; Dask names them so."""
    mine = psutil.Process().children(recursive=True)
    pid = next(p.pid for p in mine if "multiprocessing.spawn" in " ".join(p.cmdline()))
    os.kill(pid, signal.SIGKILL)


@contextmanager
def own_processes() -> Iterator[PrepareOptions]:
    yield PrepareOptions(grid=GRID, workers=2)


@contextmanager
def cluster() -> Iterator[PrepareOptions]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as made:
        yield PrepareOptions(grid=GRID, scheduler=made.scheduler_address)


@pytest.mark.slow
@pytest.mark.parametrize("done", [3, SCENES + 2], ids=["while reading", "while assembling"])
@pytest.mark.parametrize("started", [own_processes, cluster])
def test_a_killed_worker_costs_time_and_not_one_byte(
    started: Callable[[], Iterator[PrepareOptions]], done: int, tmp_path: Path
) -> None:
    inputs, out, whole = (tmp_path / name for name in ("in", "out.zarr", "whole.zarr"))
    inputs.mkdir()
    for index in range(SCENES):
        write(inputs / f"{index:02d}.json", crossing(index, agents=index))

    def watch(now: int, total: int) -> None:
        if now == done:
            kill_one_worker()

    with started() as options:
        report = prepare("waymo-json", [str(inputs)], str(out), options, watch)
    prepare("waymo-json", [str(inputs)], str(whole), PrepareOptions(grid=GRID))
    assert report.scenes == SCENES
    assert not report.skipped
    assert content(out) == content(whole)
    assert not list(tmp_path.glob("*.partial"))
