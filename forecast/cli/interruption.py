"""What Ctrl-C does: one line, exit code 130, and not a word from processes that work for us."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import typer
from typer.core import TyperGroup

INTERRUPTED = 130  # what shells give a program that Ctrl-C ended


class InterruptibleGroup(TyperGroup):
    """Commands that say what an interrupt leaves to do."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            resumes = command is not None and "resume" in {one.name for one in command.params}
            remedy = "; --resume goes on from what was kept" if resumes else ""
            typer.echo(f"interrupted{remedy}", err=True)
            raise typer.Exit(INTERRUPTED) from error


@contextmanager
def interrupting_us_alone() -> Iterator[None]:
    """Keeps Ctrl-C from the threads and processes begun meanwhile, and from all that they begin.

    A terminal interrupts the whole group of processes at once. Whoever began them ends them; on
    their own they would say how surprised they are.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Where it is first needed it is started, and lets the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def exits_as_interrupts() -> Iterator[None]:
    """Lightning exits with code 1 where it is interrupted: the interrupt itself is raised."""
    try:
        yield
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise exit_.__context__ from None
        raise
