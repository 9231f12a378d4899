"""Programs stopped in the midst of their work, for tests of what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def kill_when_there(
    arguments: Sequence[str],
    wanted: str,
    folder: Path,
    count: int,
    patience_s: float = 120,
    every_s: float = 0.002,
) -> None:
    """Starts a command in its own process group and kills all of it once files have appeared.

    Args:
        arguments: The command.
        wanted: Pattern of the files.
        folder: Where they appear.
        count: How many of them there have to be.
        patience_s: How long they may take; two minutes at least.
        every_s: Between two looks; to count thousands of files takes a core's time.
    """
    process = _start(arguments)
    _wait(process, lambda: len(list(folder.glob(wanted))) >= count, max(patience_s, 120), every_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def interrupt_when_there(arguments: Sequence[str], wanted: Path) -> tuple[int, str]:
    """Starts a command and interrupts it as Ctrl-C does, with all its processes, at a file.

    Returns:
        Exit code, and what it said on stderr.
    """
    process = _start(arguments)
    _wait(process, wanted.exists, 120, 0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    return process.returncode, said.decode()


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Started in the background of a shell, tests ignore it, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _wait(
    process: subprocess.Popen[bytes], reached: Callable[[], bool], patience_s: float, every_s: float
) -> None:
    deadline = time.monotonic() + patience_s
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(every_s)
