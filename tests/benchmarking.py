"""What benchmarks share: the data they read, and how a rate is told."""

from __future__ import annotations

import json
import os
import resource
import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from forecast.data.reader import SequenceReader, collate
from forecast.types import BEVSequence
from forecast.workflows import packaged

T = TypeVar("T")


def store() -> str:
    """The store to measure on: the environment's DATA, or the packaged sample."""
    return os.environ.get("DATA", packaged("sample.zarr"))


def histories(reader: SequenceReader, size: int, most: int) -> list[BEVSequence]:
    """At most so many batches from all over a store, up to the present."""
    starts = range(0, len(reader) - size + 1, max(size, len(reader) // most))
    frames = reader.meta.history
    return [collate([reader[i + k] for k in range(size)]).crop(0, frames) for i in starts]


def rate(
    benchmark: BenchmarkFixture,
    stage: str,
    work: Callable[[T], object],
    items: Sequence[T],
    per: int,
) -> None:
    """Times ``work`` on one item a round and prints the rate; the first item warms up.

    Args:
        benchmark: pytest-benchmark's, whose table gives the seconds.
        stage: What is measured.
        work: What is done with each item.
        items: At least two.
        per: Sequences in an item.
    """
    first, *others = items
    work(first)
    turns = iter(others)
    benchmark.pedantic(work, setup=lambda: ((next(turns),), {}), rounds=len(others))
    if benchmark.stats is not None:  # None with --benchmark-disable
        rates = [per / seconds for seconds in benchmark.stats.stats.data]
        tell(benchmark, stage, sequences_per_s=spread(rates), rounds=len(rates))


def tell(benchmark: BenchmarkFixture, stage: str, **numbers: object) -> None:
    """Prints numbers as a line of JSON and leaves them in pytest-benchmark's own report."""
    numbers["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    numbers["threads"] = torch.get_num_threads()
    benchmark.extra_info.update(numbers)
    print(json.dumps({"stage": stage, **numbers}))


def spread(values: Sequence[float]) -> list[float]:
    """Minimum, median, maximum."""
    return [round(f(values), 3) for f in (min, statistics.median, max)]
