"""One way to spread independent tasks: in this process, over local ones, or over a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from forecast.errors import DataError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

# Dask has its workers hand freed memory back at once. Rasters are allocated and freed all the
# time, so that half of a worker's time would go into getting the same pages again.
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
KEEP_MEMORY = {
    f"{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_": 256 * 2**20,
    f"{_ENVIRONMENT}.MALLOC_MMAP_THRESHOLD_": 256 * 2**20,
}


@contextmanager
def spread(workers: int, scheduler: str | None) -> Iterator[Spread]:
    """A function like ``map``, whose results come in the order in which they are ready.

    Args:
        workers: Local processes; 1 starts none.
        scheduler: Address of a Dask cluster to use instead, or None.

    Raises:
        DataError: The cluster does not answer, or a worker dies again and again.
    """
    if workers == 1 and scheduler is None:
        yield map
        return
    with _client(workers, scheduler) as client:

        def on_client(
            function: Callable[[_Task], _Result], tasks: Iterable[_Task]
        ) -> Iterator[_Result]:
            import distributed

            as_completed: Any = distributed.as_completed
            futures = client.map(function, list(tasks), pure=False)
            for _, result in as_completed(futures, with_results=True):
                yield result

        with worker_deaths_told():
            yield on_client


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    import dask
    import distributed

    # distributed has no types.
    local: Any = partial(distributed.LocalCluster, threads_per_worker=1, dashboard_address=":0")
    connect: Any = distributed.Client
    if scheduler is None:
        with (
            dask.config.set(KEEP_MEMORY),
            local(n_workers=workers) as cluster,
            connect(cluster) as client,
        ):
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
def worker_deaths_told() -> Iterator[None]:
    """One line in place of what Dask says when a task has killed several workers.

    Raises:
        DataError: That is what happened.
    """
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise DataError(
            "workers that live",
            "several that died at the same scene",
            "give them more memory or use fewer --workers, then repeat with --resume",
        ) from error
