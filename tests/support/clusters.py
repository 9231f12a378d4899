"""A Dask cluster in the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import distributed


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """A cluster of threads, which the program reaches as any other."""
    made: Any = distributed.LocalCluster
    with made(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        dashboard_address=":0",
    ) as started:
        yield started
