"""The command line: each command parses, checks and makes one call.

Whatever is slow to import (torch, xarray, dask, matplotlib) is imported inside the commands, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from forecast import __version__
from forecast.cli.doctor import doctor
from forecast.cli.inspect import inspect_app
from forecast.cli.interruption import InterruptibleGroup
from forecast.cli.options import Question, Resume, check_counts
from forecast.cli.prepare import prepare
from forecast.cli.rollout import rollout
from forecast.errors import ConfigError, ForecastError

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
app.command()(doctor)


def main() -> None:
    """Runs the program: what a user can mend is one line and exit code 2."""
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
    except Exception as error:
        if type(error).__module__.partition(".")[0] in _STORE_CLIENTS:
            remedy = "check its URL, endpoint and credentials"
            _fail(f"expected an object store that answers; got: {error}; {remedy}", error)
        _fail_unexpectedly(error)


_STORE_CLIENTS = ("aiohttp", "azure", "botocore", "google")  # behind fsspec; no OSErrors theirs
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
    typer.echo("error: " + " ".join(line.split()), err=True)
    raise SystemExit(BAD_INPUT)


def _fail_unexpectedly(error: Exception) -> None:
    if os.environ.get("FORECAST_DEBUG"):
        raise error
    lines = str(error).splitlines() or [""]
    typer.echo(f"unexpected {type(error).__name__}: {lines[0]}", err=True)
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


app.command()(prepare)


@app.command()
def train(
    config: Annotated[
        str,
        typer.Option(help="YAML such as configs/small.yaml; `inspect config` lists all settings."),
    ],
    data: Annotated[
        list[str], typer.Option(help="Sequence store to learn from; repeat it for several.")
    ],
    output: Annotated[str, typer.Option(help="Directory of the run: checkpoints and logs.")],
    val: Annotated[str | None, typer.Option(help="Sequence store to validate on.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change one setting; repeatable."),
    ] = None,
    resume: Resume = False,
) -> None:
    """Train a forecaster."""
    from forecast.config.config import load_config
    from forecast.training.checks import check_run

    settings = load_config(config, set_ or [])
    check_run(settings, data, val, output, resume)  # before torch is loaded
    from forecast import workflows

    done = workflows.train(settings, data, val, output, resume)
    new = done.steps > done.begun
    what = "trained" if new else f"had been trained already, all of its {done.steps} steps"
    typer.echo(f"{output}: {what}; forecast with `forecast rollout --model {output}`")


app.command()(rollout)


@app.command()
def evaluate(
    forecast: Annotated[str, typer.Argument(help="Forecast store.")],
    data: Annotated[
        str | None,
        typer.Option(help="Sequence store with the truth.", show_default="that of the rollout"),
    ] = None,
    by: Annotated[
        list[Question] | None,
        typer.Option(help="Take the errors on moving agents apart instead; repeatable."),
    ] = None,
    drift: Annotated[
        bool, typer.Option("--drift", help="Score every lead, and who is still alive, instead.")
    ] = False,
    cells: Annotated[
        bool,
        typer.Option("--cells", help="Say whose the wrong cells are that IoU counts, instead."),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help="With --drift: a forecast store to be above; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    workers: Annotated[int, typer.Option(help="Local processes, for the scores alone.")] = 1,
) -> None:
    """Score a forecast store against the truth."""
    check_counts(workers=workers)
    asked = {"--by": bool(by), "--cells": cells, "--drift": drift}
    names = " and ".join(name for name, given in asked.items() if given)
    if sum(asked.values()) > 1:
        raise ConfigError("one of --by, --cells and --drift", names, "run them one by one")
    if against and not drift:
        remedy = f"leave {names} out and add --drift" if names else "add --drift"
        raise ConfigError("--against with --drift", names or "it alone", remedy)
    if workers > 1 and names:
        raise ConfigError(f"--workers or {names}", "both", "drop one of them")
    from forecast.cli import console, score_tables
    from forecast.evaluation import evaluate as assessment
    from forecast.evaluation.scoring import truth_of

    data = truth_of(forecast) if data is None else data
    if drift:
        with console.progress("scoring") as progress:
            curve = assessment.measure_drift(forecast, data, against or (), progress)
        _show(curve.to_json(), partial(score_tables.print_drift, curve), as_json)
    elif cells:
        with console.progress("attributing cells") as progress:
            wrong = assessment.attribute_cells(forecast, data, progress)
        _show(wrong.to_json(), partial(score_tables.print_wrong_cells, wrong), as_json)
    elif by:
        with console.progress("taking errors apart") as progress:
            rows = assessment.break_down(forecast, data, by, progress)
        plain = [row.to_json() for row in rows]
        _show(plain, partial(score_tables.print_breakdown, rows), as_json)
    else:
        with console.progress("scoring") as progress:
            scores = assessment.evaluate(forecast, data, progress, workers)
        _show(scores.to_json(), partial(score_tables.print_scores, scores), as_json)


def _show(plain: Any, table: Callable[[], None], as_json: bool) -> None:
    """Prints JSON or a table."""
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
    else:
        table()


if __name__ == "__main__":
    main()
