"""What Ctrl-C does: one line, exit code 130, and not a word from processes that work for us."""

from __future__ import annotations

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
