"""A Dask cluster that is lost in the midst of the work: one line, and `--resume` goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_tools.prepare import PrepareOptions, prepare
from forecast import parallel
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.parallel import Progress
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.clusters import local_cluster
from tests.support.scenarios import crossing, write
from tests.support.stores import Mover, content, sequence_store

OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5), stride=8)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """One worker in this process, and little patience."""
    monkeypatch.setattr(parallel, "PATIENCE_S", 2.0)
    with local_cluster(1) as started:
        yield started


def without_workers(cluster: Any) -> None:
    cluster.scale(0)


def without_scheduler(cluster: Any) -> None:
    cluster.close()


def losing(cluster: Any, lose: Callable[[Any], None]) -> Progress:
    """Loses the cluster when the first unit is done."""

    def report(done: int, total: int) -> None:
        if done == 1:
            lose(cluster)

    return report


LOSSES = [(without_workers, "with workers"), (without_scheduler, "a Dask scheduler that lives")]


@pytest.mark.parametrize(("lose", "told"), LOSSES)
def test_prepare_goes_on_when_the_cluster_is_lost(
    lose: Callable[[Any], None], told: str, cluster: Any, tmp_path: Path
) -> None:
    files = [str(write(tmp_path / f"{i}.json", crossing(i, agents=3))) for i in range(12)]
    out, whole = tmp_path / "out.zarr", tmp_path / "whole.zarr"
    there = replace(OPTIONS, scheduler=cluster.scheduler_address)
    with pytest.raises(DataError, match=f"{told}.*--resume"):
        prepare("waymo-json", files, str(out), there, losing(cluster, lose))
    assert not out.exists()
    prepare("waymo-json", files, str(out), replace(OPTIONS, resume=True))
    prepare("waymo-json", files, str(whole), OPTIONS)
    assert content(out) == content(whole)


@pytest.mark.parametrize(("lose", "told"), LOSSES)
def test_rollout_goes_on_when_the_cluster_is_lost(
    lose: Callable[[Any], None], told: str, cluster: Any, tmp_path: Path
) -> None:
    data = sequence_store(tmp_path / "s.zarr", [[Mover(0, -4, speed=i % 5)] for i in range(12)])
    request = RolloutRequest(
        data=data, model="constant-turn", output=str(tmp_path / "whole.zarr"), batch_size=1
    )
    out = replace(request, output=str(tmp_path / "out.zarr"))
    there = replace(out, scheduler=cluster.scheduler_address)
    with pytest.raises(DataError, match=f"{told}.*--resume"):
        rollout_to_store(there, losing(cluster, lose))
    assert not Path(out.output).exists()
    rollout_to_store(replace(out, resume=True))
    rollout_to_store(request)
    assert content(out.output) == content(request.output)
