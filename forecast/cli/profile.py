"""Where the time of a rollout goes: its ``record_function`` blocks, seen by torch's profiler."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile

from forecast.inference.comparison import SCORING
from forecast.parallel import Progress

REST = "the rest"


@dataclass(frozen=True)
class PartTime:
    """What one part took.

    Attributes:
        part: Its name.
        seconds: Spent in it, without the parts inside of it.
        share: Of the whole time.
        calls: How often it ran.
    """

    part: str
    seconds: float
    share: float
    calls: int


@dataclass(frozen=True)
class Block:
    """One run of a block of code.

    Attributes:
        part: Its name.
        start: When it began, in seconds.
        stop: When it ended.
    """

    part: str
    start: float
    stop: float


class PartTimes:
    """Adds up the blocks of a rollout.

    Attributes:
        seconds: By part, in the order in which they were first seen.
        calls: By part.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def add(self, blocks: Iterable[Block]) -> None:
        """Charges every moment to the innermost part; what baselines do is part of scoring.

        Args:
            blocks: Of one thread, in any order; one that begins within another ends within it.
        """
        running: list[Block] = []
        for block in sorted(blocks, key=lambda one: (one.start, -one.stop)):
            while running and running[-1].stop <= block.start:
                running.pop()
            if running and running[-1].part == SCORING:
                continue
            if running:
                self.seconds[running[-1].part] -= block.stop - block.start
            self.seconds[block.part] += block.stop - block.start
            self.calls[block.part] += 1
            running.append(block)

    def table(self, whole: float) -> list[PartTime]:
        """Every part, and what of so many seconds was spent in none."""
        seconds = {**self.seconds, REST: whole - sum(self.seconds.values())}
        return [
            PartTime(part, spent, spent / whole, self.calls[part])
            for part, spent in seconds.items()
        ]


@contextmanager
def profiled(progress: Progress, wanted: bool = True) -> Iterator[tuple[Progress, list[PartTime]]]:
    """Times the rollout of this process meanwhile.

    Args:
        progress: What the rollout would tell after each batch.
        wanted: Whether to; if not, nothing is done and the table stays empty.

    Yields:
        What the rollout is to tell instead, and the table, filled when the block has ended.
    """
    table: list[PartTime] = []
    if not wanted:
        yield progress, table
        return
    times, began, profiler = PartTimes(), time.perf_counter(), _started()

    def told(done: int, of: int) -> None:
        # Every operation is an event: those of one batch fit into memory, those of all may not.
        nonlocal profiler
        times.add(_stopped(profiler))
        profiler = _started()
        progress(done, of)

    try:
        yield told, table
    finally:
        times.add(_stopped(profiler))
    table += times.table(time.perf_counter() - began)


def _started() -> profile:
    profiler = profile(activities=[ProfilerActivity.CPU])
    profiler.start()
    return profiler


def _stopped(profiler: profile) -> list[Block]:
    """The blocks, from the raw events: ``events()`` takes some seventy times as long."""
    profiler.stop()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    return [
        Block(event.name(), event.start_ns() / 1e9, event.end_ns() / 1e9)
        for event in profiler.profiler.kineto_results.events()
        if event.is_user_annotation()
    ]
