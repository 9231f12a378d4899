"""Programs killed in the midst of their work, for tests of what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
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
    process = subprocess.Popen(
        arguments, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + max(patience_s, 120)
    while len(list(folder.glob(wanted))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(every_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
