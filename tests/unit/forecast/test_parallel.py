"""Work map_parallel over processes: nothing of Dask's inner life reaches the terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from forecast import __version__, parallel
from forecast.errors import DataError
from forecast.parallel import map_parallel
from tests.support.clusters import local_cluster

# What a busy machine may hear from a worker, and at the end from its nanny.
PROGRAM = """
import logging
from forecast.parallel import map_parallel

def complain(number):
    for name in ("distributed.worker", "distributed.gc"):
        logging.getLogger(name).warning("inner life")
    return number

if __name__ == "__main__":
    with map_parallel(2, None) as run:
        assert sorted(run(complain, range(2))) == [0, 1]
        logging.getLogger("distributed.nanny").warning("inner life")
"""


@pytest.mark.parametrize(("debug", "lines"), [("", 0), ("1", 5)])
def test_the_log_of_dask_is_heard_only_in_debugging(debug: str, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"FORECAST_DEBUG": debug},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("inner life") == lines, done.stderr
    if not debug:
        assert not done.stderr


@pytest.mark.parametrize("own", [None, "{}"])
def test_all_is_as_before_when_the_work_is_done(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DASK_LOGGING", raising=False)
    if own is not None:
        monkeypatch.setenv("DASK_LOGGING", own)
    before = logging.getLogger("distributed").level
    with map_parallel(2, None) as run:
        assert list(run(str, [1])) == ["1"]
    assert logging.getLogger("distributed").level == before
    assert os.environ.get("DASK_LOGGING") == own


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PATIENCE_S", 2.0)


def refusal(address: str, meanwhile: Callable[[], object] = lambda: None) -> str:
    """The one line that long work is refused with, if this happens after its first result."""
    began = time.monotonic()

    def work() -> None:
        with map_parallel(1, address) as run:
            for _ in run(time.sleep, [0.1] * 50):
                meanwhile()

    with pytest.raises(DataError) as caught:
        work()
    assert time.monotonic() - began < 30
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_cluster_that_gets_no_worker_is_refused(impatient: None) -> None:
    with local_cluster(0) as started:
        assert "a Dask cluster with workers; got none for 2 s" in refusal(started.scheduler_address)


def test_a_cluster_that_loses_all_workers_is_not_waited_for_forever(impatient: None) -> None:
    with local_cluster(2) as started:
        lost = refusal(started.scheduler_address, lambda: started.scale(0))
        assert "got none for 2 s (they have died" in lost


def test_a_result_that_is_lost_with_its_worker_is_not_waited_for_forever(impatient: None) -> None:
    with local_cluster(1) as started:

        def lose() -> None:
            time.sleep(8)  # all is done meanwhile, and lies on the worker
            started.scale(0)

        assert "got none for 2 s (they have died" in refusal(started.scheduler_address, lose)


def test_a_task_that_ran_out_of_time_says_so_itself() -> None:
    with (
        local_cluster(1) as started,
        map_parallel(1, started.scheduler_address) as run,
        pytest.raises(TimeoutError, match="of the task"),
    ):
        list(run(late, [0]))


def late(number: int) -> None:
    raise TimeoutError(f"of the task {number}")


def test_a_cluster_that_loses_its_scheduler_is_refused() -> None:
    with local_cluster(1) as started:
        assert "scheduler that lives" in refusal(started.scheduler_address, started.close)


def test_workers_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cluster(1) as started:
        monkeypatch.setattr(parallel, "__version__", "9.9")
        line = refusal(started.scheduler_address)
    assert "forecast 9.9 on the scheduler and all workers" in line
    assert f"got {__version__} on its scheduler" in line


def test_workers_without_the_package_are_refused() -> None:
    program = (
        "import sys; sys.modules['forecast'] = None\n"
        "from distributed.cli.dask_worker import main; main()"
    )
    with local_cluster(0) as started:
        address = started.scheduler_address
        arguments = [address, "--no-nanny", "--no-dashboard"]
        with subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL
        ) as worker:
            try:
                assert "none on its scheduler or a worker (import of forecast" in refusal(address)
            finally:
                worker.kill()
