"""Independent tasks in parallel: in this process, in local ones, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar
from uuid import uuid4
from weakref import finalize

from forecast.errors import DataError, ForecastError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
MapParallel = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much, e.g. sequences."""

_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
# Dask has its workers hand freed memory back at once. Rasters are allocated and freed all the
# time, so that half of a worker's time would go into getting the same pages again.
KEEP_MEMORY = {
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 256 * 2**20,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 256 * 2**20,
}
# Dask looks at itself fifty times a second in each process, which a busy core can do without.
UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
# Whose log is Dask's inner life; what goes wrong there reaches us as an exception.
_LOGGERS = (
    *("distributed", "distributed.client", "distributed.gc"),
    *("tornado", "tornado.application", "asyncio"),
)
_THREADS = tuple(f"{_ENVIRONMENT}.{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS"))


@contextmanager
def map_parallel(workers: int, scheduler: str | None, threads: int = 1) -> Iterator[MapParallel]:
    """A function like ``map``, whose results come in the order in which they are ready.

    Args:
        workers: Local processes; 1 starts none.
        scheduler: Address of a Dask cluster to use instead, or None.
        threads: What each local process may use for its arithmetic, unless the environment
            (``OMP_NUM_THREADS``) says otherwise.

    Raises:
        DataError: The cluster does not answer, or a worker dies again and again.
    """
    if workers == 1 and scheduler is None:
        yield map
        return
    with _unheard(), _client(workers, scheduler, threads) as client:

        def on_client(
            function: Callable[[_Task], _Result], tasks: Iterable[_Task]
        ) -> Iterator[_Result]:
            import distributed

            as_completed: Any = distributed.as_completed
            futures = client.map(partial(_caught, function), list(tasks), pure=False)
            for _, result in as_completed(futures, with_results=True):
                if isinstance(result, ForecastError):
                    raise result
                yield result

        with refusing_worker_deaths():
            yield on_client


def _caught(function: Callable[[_Task], _Result], task: _Task) -> _Result | ForecastError:
    """An error that a user can mend is a result: Dask would print what it raises in a worker."""
    try:
        return function(task)
    except ForecastError as error:
        return error


class Once(Generic[_Result]):
    """A value that each process makes for itself, the first time that it needs it. Picklable.

    A process keeps one such value, that of the latest run; the process that began the run lets go
    of it with this object.

    Args:
        make: Makes the value; picklable.
    """

    _made: dict[str, Any] = {}  # noqa: RUF012 - of the process, not of the object

    def __init__(self, make: Callable[[], _Result]) -> None:
        self._make = make
        self._key = uuid4().hex
        finalize(self, self._made.pop, self._key, None)

    def get(self) -> _Result:
        """The value of this process."""
        if self._key not in self._made:
            self._made.clear()
            self._made[self._key] = self._make()
        result: _Result = self._made[self._key]
        return result


def in_order(results: Iterable[tuple[int, _Result]]) -> Iterator[_Result]:
    """Results numbered from 0 that come in any order, one by one in that of their numbers."""
    waiting: dict[int, _Result] = {}
    expected = 0
    for number, result in results:
        waiting[number] = result
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1


@contextmanager
def _unheard() -> Iterator[None]:
    """Keeps Dask's log off the terminal, unless the user wants to see everything."""
    if os.environ.get("FORECAST_DEBUG"):
        yield
        return
    import distributed  # noqa: F401 - it sets the levels when it is loaded

    levels = {logger: logger.level for logger in map(logging.getLogger, _LOGGERS)}
    before = os.environ.get("DASK_LOGGING")
    try:
        os.environ["DASK_LOGGING"] = repr(dict.fromkeys(_LOGGERS, "critical"))  # of local workers
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        del os.environ["DASK_LOGGING"]
        if before is not None:
            os.environ["DASK_LOGGING"] = before
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def _client(workers: int, scheduler: str | None, threads: int) -> Iterator[Any]:
    import dask
    import distributed

    # distributed has no types.
    local: Any = partial(distributed.LocalCluster, threads_per_worker=1, dashboard_address=":0")
    connect: Any = distributed.Client
    if scheduler is None:
        with dask.config.set(KEEP_MEMORY | UNWATCHED | dict.fromkeys(_THREADS, threads)):
            with interrupting_us_alone():
                started = local(n_workers=workers)
            with started as cluster, connect(cluster) as client:
                yield client
        return
    try:
        client = connect(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise DataError(
            "a Dask scheduler", f"no answer from {scheduler} ({error})", "correct --scheduler"
        ) from error
    with client:
        yield client


@contextmanager
def refusing_worker_deaths() -> Iterator[None]:
    """Turns the error of a task that killed several workers into a one-line DataError.

    Raises:
        DataError: That is what happened.
    """
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise DataError(
            "workers that live",
            "several that died at the same task",
            "give them more memory or use fewer --workers; prepare and rollout can --resume",
        ) from error


@contextmanager
def interrupting_us_alone() -> Iterator[None]:
    """Keeps Ctrl-C from the threads and processes begun meanwhile, and from all that they begin.

    A terminal interrupts the whole group of processes at once. Whoever began them ends them; on
    their own they would say how surprised they are.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Where it is first needed it is started, and lets the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
