"""Where a checkpoint comes from: the command that trained it, and the commit of this program."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2]


def command() -> str | None:
    """The command line that is running; None where Python called instead."""
    program, *words = sys.argv
    path = Path(program)
    ours = path.name == "forecast" or path.parts[-2:] == ("forecast", "__main__.py")
    return shlex.join(["forecast", *words]) if ours else None


def commit(folder: Path = PROGRAM) -> str | None:
    """The commit of a checkout, with ``+`` behind it where files differ; None where there is none.

    Args:
        folder: The checkout's top; a folder somewhere below one, such as that of an environment
            that a program is installed in, is no checkout.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != folder.resolve():
        return None
    head, changed = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
    return head and head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
