"""Time and peak memory of a piece of code, for tests that print them."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def measured(name: str) -> Iterator[None]:
    """Prints how long a block took and by how much it raised the process's resident memory.

    The high-water mark is put back before the block, which takes Linux with glibc; elsewhere only
    the time is printed.
    """
    cost = Cost()
    yield
    seconds, peak = cost.so_far()
    memory = "" if peak is None else f", peak memory +{peak:.0f} MiB"
    print(f"\n{name}: {seconds:.1f} s{memory}")


class Cost:
    """Counts from where it is made."""

    def __init__(self) -> None:
        self._base = _reset_peak()
        self._start = time.perf_counter()

    def so_far(self) -> tuple[float, float | None]:
        """Seconds, and MiB above the resident memory at the start; None where it is not known."""
        seconds = time.perf_counter() - self._start
        return seconds, None if self._base is None else _resident("VmHWM") - self._base


def _reset_peak() -> float | None:
    gc.collect()
    try:
        # What was freed must be handed back first, or the block reuses it and seems to need less.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _resident("VmRSS")


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
