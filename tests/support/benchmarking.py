"""What benchmarks share: the data they read, and how a rate is reported."""

from __future__ import annotations

import json
import os
import resource
import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader, collate
from forecast.types import BEVSequence

T = TypeVar("T")


def store() -> str:
    """The store to measure on: the environment's DATA, or the packaged sample."""
    return os.environ.get("DATA", packaged("sample.zarr"))


def device() -> torch.device:
    """Where to measure: the environment's DEVICE, or the CPU."""
    return torch.device(os.environ.get("DEVICE", "cpu"))


def finished() -> None:
    """Waits for what was asked of a GPU, which answers before it has done anything."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def histories(reader: SequenceReader, size: int, most: int) -> list[BEVSequence]:
    """At most so many batches from all over a store, up to the present."""
    starts = range(0, len(reader) - size + 1, max(size, len(reader) // most))
    frames = reader.meta.history
    batches = (collate([reader[i + k] for k in range(size)]) for i in starts)
    return [batch.crop(0, frames).to(device()) for batch in batches]


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
    turns = iter(others)

    def timed(item: T) -> None:
        work(item)
        finished()

    timed(first)
    benchmark.pedantic(timed, setup=lambda: ((next(turns),), {}), rounds=len(others))
    if benchmark.stats is not None:  # None with --benchmark-disable
        rates = [per / seconds for seconds in benchmark.stats.stats.data]
        report(benchmark, stage, sequences_per_s=min_median_max(rates), rounds=len(rates))


def report(benchmark: BenchmarkFixture, stage: str, **numbers: object) -> None:
    """Prints numbers as a line of JSON and leaves them in pytest-benchmark's own report."""
    numbers["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    numbers["threads"] = torch.get_num_threads()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        numbers["device"] = torch.cuda.get_device_name()
        numbers["peak_device_mb"] = torch.cuda.max_memory_allocated() // 2**20
    benchmark.extra_info.update(numbers)
    print(json.dumps({"stage": stage, **numbers}))


def min_median_max(values: Sequence[float]) -> list[float]:
    """Minimum, median, maximum."""
    return [round(f(values), 3) for f in (min, statistics.median, max)]
