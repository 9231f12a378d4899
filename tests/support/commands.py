"""The commands as users run them, each in a process of its own, with what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


def forecast(*arguments: object) -> list[str]:
    """A command line of this interpreter's ``forecast``."""
    start = "from forecast.cli.main import main; main()"
    return [sys.executable, "-c", start, *map(str, arguments)]


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: From its start to its end.
        cpu_s: Work of the command and of the processes that it waited for.
        parent_mib: Most memory of the command itself.
        worker_mib: Most memory of any of its processes, or of those named.
    """

    seconds: float
    cpu_s: float
    parent_mib: float
    worker_mib: float


def run(command: Sequence[str], others: Sequence[int] = ()) -> Cost:
    """Runs a command to its end, on one thread of arithmetic a process.

    Args:
        command: With its arguments.
        others: Ids of processes that work for it but are not its own.

    Raises:
        AssertionError: It failed; what it printed is shown.
    """
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=os.environ | one_thread,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = _Watch(process.pid, others)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    assert process.returncode == 0, said
    return Cost(seconds, usage.ru_utime + usage.ru_stime, watch.parent_mib, watch.worker_mib)


class _Watch(threading.Thread):
    """Notes the most memory of a process and of those that work for it, while they live."""

    def __init__(self, pid: int, others: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.parent_mib = self.worker_mib = 0.0
        self._pid, self._others = pid, others
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.1):
            try:
                parent = psutil.Process(self._pid)
                children = [child.pid for child in parent.children(recursive=True)]
                self.parent_mib = max(self.parent_mib, _resident_mib(self._pid))
                workers = map(_resident_mib, [*children, *self._others])
                self.worker_mib = max(self.worker_mib, *workers, 0.0)
            except psutil.NoSuchProcess:
                continue

    def stop(self) -> None:
        self._over.set()
        self.join()


def _resident_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20
