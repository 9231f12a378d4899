"""The command line: each command parses, checks and makes one call.

Whatever is slow to import (torch, xarray, dask, matplotlib) is imported inside the commands, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated

import typer

from forecast import __version__
from forecast.cli.doctor import doctor
from forecast.cli.evaluate import evaluate
from forecast.cli.export import export
from forecast.cli.inspect import inspect_app
from forecast.cli.interruption import InterruptibleGroup
from forecast.cli.prepare import prepare
from forecast.cli.rollout import rollout
from forecast.cli.train import train
from forecast.errors import STORE_CLIENTS, ForecastError

MOST_SHOWN = 1200  # characters of an error
BAD_INPUT = 2  # the exit code of every error that a user can mend

app = typer.Typer(
    name="forecast",
    cls=InterruptibleGroup,
    help="Forecast the future bird's-eye view of traffic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help answers in half the time
)
app.add_typer(inspect_app, name="inspect")


def main() -> None:
    """Runs the program: what a user can mend is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be of no encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ForecastError as error:
        _fail(str(error), error)
    except OSError as error:
        if error.errno not in _FILE_REMEDIES:
            _fail_unexpectedly(error)
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        remedy = _FILE_REMEDIES[error.errno]
        _fail(f"expected files that can be read and written; got: {reason}{where}; {remedy}", error)
    except MemoryError as error:
        reason = str(error) or "too little"
        _fail(f"expected memory for this input; got: {reason}; take a smaller one", error)
    except Exception as error:
        if type(error).__module__.partition(".")[0] in STORE_CLIENTS:
            remedy = "check its URL, endpoint and credentials"
            _fail(f"expected an object store that answers; got: {error}; {remedy}", error)
        _fail_unexpectedly(error)


_FILE_REMEDIES: dict[int | None, str] = {
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some space or write elsewhere",
    errno.EFBIG: "free some space or write elsewhere",
    errno.EACCES: "check the permissions or write elsewhere",
    errno.EPERM: "check the permissions or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.EEXIST: "choose another name or remove what has it",
}


def _fail(line: str, error: BaseException) -> None:
    if os.environ.get("FORECAST_DEBUG"):
        raise error
    line = " ".join(line.split())
    if len(line) > MOST_SHOWN:  # what is quoted of the input may have any length
        line = f"{line[: MOST_SHOWN // 2]} ... {line[-MOST_SHOWN // 2 :]}"
    typer.echo(f"error: {line}", err=True)
    raise SystemExit(BAD_INPUT)


def _fail_unexpectedly(error: Exception) -> None:
    if os.environ.get("FORECAST_DEBUG"):
        raise error
    lines = str(error).splitlines() or [""]
    typer.echo(f"unexpected {type(error).__name__}: {lines[0][:MOST_SHOWN]}", err=True)
    typer.echo("This is a fault of the program: run again with --debug to see where.", err=True)
    raise SystemExit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (as FORECAST_DEBUG=1 does).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Forecast the future bird's-eye view of traffic."""
    if debug:
        os.environ["FORECAST_DEBUG"] = "1"  # the environment reaches worker processes too


for command in (prepare, train, rollout, evaluate, doctor, export):
    app.command()(command)


if __name__ == "__main__":
    main()
