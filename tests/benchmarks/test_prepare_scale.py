"""`forecast prepare` on more and more scenes: time grows with them, memory does not.

``RECORDINGS=folder`` measures copies of GPUDrive's JSON in there instead of made-up scenarios,
``SCENES=6`` files of it, once, 4 and 16 times.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distributed
import pytest

from forecast.storage.stores import open_sequence_store
from tests.support.commands import Cost, forecast, run
from tests.support.scenarios import crossing, write

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]
SCENES, COPIES = int(os.environ.get("SCENES", "6")), (1, 4, 16)
MOST_MEMORY, MOST_TIME = 1.25, 1.5  # times that of fewer scenes, times the number of scenes


@contextmanager
def one() -> Iterator[tuple[list[str], list[int]]]:
    yield ["--workers=1"], []


@contextmanager
def two() -> Iterator[tuple[list[str], list[int]]]:
    yield ["--workers=2"], []


@contextmanager
def cluster() -> Iterator[tuple[list[str], list[int]]]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as made:
        workers = [nanny.pid for nanny in made.workers.values()]
        yield [f"--scheduler={made.scheduler_address}"], workers


def recordings(folder: Path, copies: int) -> None:
    """Scenes in files of their own, each so many times."""
    folder.mkdir()
    chosen = os.environ.get("RECORDINGS")
    files = sorted(Path(chosen).glob("*.json*"))[:SCENES] if chosen else []
    for number in range(SCENES * copies):
        if files:
            file = files[number % SCENES]
            shutil.copy(file, folder / f"{number:04d}-{file.name}")
        else:
            write(folder / f"{number:04d}.json", crossing(number % SCENES, agents=20))


@pytest.mark.parametrize("how", [one, two, cluster])
def test_time_is_linear_in_the_scenes_and_memory_flat(how, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    costs: dict[int, Cost] = {}
    for copies in COPIES:
        source, out = tmp_path / f"in-{copies}", tmp_path / f"{copies}.zarr"
        recordings(source, copies)
        with how() as (options, workers):
            command = forecast("prepare", "waymo-json", source, "--output", out, *options)
            cost = costs[copies] = run(command, workers)
        sequences = open_sequence_store(str(out))[0].sizes["sequence"]
        numbers = {name: round(value, 1) for name, value in vars(cost).items()}
        rate = round(sequences / cost.seconds, 1)
        about = {"stage": f"prepare, {how.__name__}", "scenes": SCENES * copies}
        print(json.dumps({**about, "sequences": sequences, "per_s": rate, **numbers}))
        shutil.rmtree(out)
    few, more, most = (costs[copies] for copies in COPIES)
    assert most.parent_mib <= MOST_MEMORY * few.parent_mib
    assert most.worker_mib <= MOST_MEMORY * max(few.worker_mib, 1.0)
    assert most.seconds <= MOST_TIME * 4 * more.seconds
    assert most.cpu_s <= MOST_TIME * 4 * more.cpu_s
