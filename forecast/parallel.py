"""Independent tasks in parallel: in this process, in local ones, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from queue import Empty, Queue
from typing import Any, Generic, TypeVar
from uuid import uuid4
from weakref import finalize

from forecast import __version__
from forecast.errors import DataError, ForecastError, reason_of

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
PATIENCE_S = 60.0
"""How long a cluster may be without workers, or its scheduler not answer."""
_LOOK_S = 1.0  # between looks at a cluster from which nothing comes
_VERSION = "__import__('forecast').__version__"  # sent as text: workers may lack the package
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
            futures = client.map(partial(_caught, function), list(tasks), pure=False)
            for result in _as_completed(client, futures):
                if isinstance(result, ForecastError):
                    raise result
                yield result

        with refusing_deaths():
            yield on_client


def _as_completed(client: Any, futures: Sequence[Any]) -> Iterator[Any]:
    """Results in the order in which they are ready; Dask's own waits forever for lost workers.

    Raises:
        DataError: The cluster has no workers for :data:`PATIENCE_S`.
    """
    done: Queue[Any] = Queue()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        future = _patiently(client, lambda: done.get(timeout=_LOOK_S))
        yield _patiently(client, partial(_returned, future))


def _returned(future: Any) -> Any:
    """What a done task returned; it may be lost with its worker, and has to be made again."""
    try:
        return future.result(timeout=_LOOK_S)
    except TimeoutError as error:
        if future.status == "error":  # its own
            raise
        raise Empty from error


def _patiently(client: Any, look: Callable[[], _Result]) -> _Result:
    """What a look brings that is repeated while it raises :class:`Empty`.

    Raises:
        DataError: The cluster has no workers for :data:`PATIENCE_S`.
    """
    lost = None
    while lost is None or time.monotonic() < lost + PATIENCE_S:
        try:
            return look()
        except Empty:
            lost = None if _has_workers(client) else lost or time.monotonic()
    raise _no_workers("they have died or were stopped")


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.nthreads(callback_timeout=PATIENCE_S))
    except (OSError, RuntimeError, AttributeError) as error:  # whatever a client says that is lost
        raise _no_scheduler(error) from error


def _no_scheduler(error: BaseException) -> DataError:
    return DataError(
        "a Dask scheduler that lives as long as the work",
        f"one that is gone ({reason_of(error)})",
        "start it again, then add --resume if something was done",
    )


def _no_workers(why: str) -> DataError:
    return DataError(
        "a Dask cluster with workers",
        f"none for {PATIENCE_S:g} s ({why})",
        "start workers, then add --resume if something was done",
    )


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
        _check_cluster(client)
        yield client


def _check_cluster(client: Any) -> None:
    """Waits for a first worker, and refuses a cluster that could not read what is sent to it.

    Raises:
        DataError: There is no worker, or someone has not this version of the package.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError as error:
        raise _no_workers("none has come") from error
    try:
        found = {"its scheduler": client.run_on_scheduler(eval, _VERSION)}
        found |= client.run(eval, _VERSION)
    except ImportError as error:
        raise _other_version(f"none on its scheduler or a worker ({error})") from error
    for where, version in found.items():
        if version != __version__:
            raise _other_version(f"{version} on {where}")


def _other_version(found: str) -> DataError:
    wanted = f"forecast {__version__} on the scheduler and all workers of the Dask cluster"
    return DataError(wanted, found, "install this version there")


@contextmanager
def refusing_deaths() -> Iterator[None]:
    """Turns errors about a cluster that dies in the midst of the work into one line.

    Raises:
        DataError: A task killed several workers, or the scheduler is gone.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise DataError(
            "workers that live",
            "several that died at the same task",
            "give them more memory or use fewer --workers; prepare and rollout can --resume",
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise _no_scheduler(error) from error


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
