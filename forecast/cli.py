"""The command line: each command parses, checks and makes one call.

Whatever is slow to import (torch, xarray, dask, matplotlib) is imported inside the commands, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Annotated

import typer

from forecast import __version__
from forecast.cli_doctor import doctor
from forecast.cli_inspect import inspect_app
from forecast.errors import ConfigError, ForecastError
from forecast.options import InputMode, Question, check_counts

BAD_INPUT = 2  # the exit code of every error that a user can mend

app = typer.Typer(
    name="forecast",
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


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="Kind of recording, e.g. waymo-motion.")],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Files, directories, globs, URLs or @list.txt."),
    ],
    output: Annotated[str, typer.Option(help="The sequence store to write: a path or fsspec URL.")],
    grid: Annotated[
        str, typer.Option(help="bev-100m, bev-30m or x_min,x_max,y_min,y_max,resolution in metres.")
    ] = "bev-100m",
    centre: Annotated[
        str, typer.Option(help="Its centre: ego, agent:ID, x,y[,yaw] or moving (each that moves).")
    ] = "ego",
    history: Annotated[int, typer.Option(help="Frames up to and including the present.")] = 3,
    horizon: Annotated[int, typer.Option(help="Future frames of truth.")] = 6,
    dt: Annotated[float, typer.Option(help="Seconds between frames.")] = 0.5,
    stride: Annotated[int, typer.Option(help="Start a sequence every so many frames.")] = 1,
    phases: Annotated[
        int, typer.Option(help="Frames in a step: with 5, also start sequences 0.1 s apart.")
    ] = 1,
    classes: Annotated[
        str, typer.Option(help="Classes to keep, in order, with commas between.")
    ] = "vehicle,pedestrian,cyclist",
    map_class: Annotated[
        list[str] | None,
        typer.Option(metavar="NATIVE=CLASS", help="Count a label of the source as a class."),
    ] = None,
    directions: Annotated[
        bool, typer.Option("--directions", help="Draw the way that lanes lead, for other models.")
    ] = False,
    protocol: Annotated[
        str, typer.Option(help="Label rules: exact, fiery, uniad or powerbev.")
    ] = "exact",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change one setting of the source."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Local worker processes.", show_default="one per core")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask cluster to use instead, e.g. tcp://host:8786.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there already.")
    ] = False,
) -> None:
    """Turn recordings into a sequence store."""
    from data_tools.options import PrepareOptions, parse_pair
    from data_tools.prepare import prepare as run
    from forecast import console
    from forecast.grid import BEVGrid

    chosen = PrepareOptions(
        grid=BEVGrid.parse(grid),
        centre=centre,
        history=history,
        horizon=horizon,
        dt_s=dt,
        stride=stride,
        phases=phases,
        classes=tuple(name.strip() for name in classes.split(",")),
        map_classes=tuple(parse_pair(text, "--map-class") for text in map_class or []),
        directions=directions,
        protocol=protocol,
        settings=tuple(parse_pair(text, "--set") for text in set_ or []),
        workers=os.cpu_count() or 1 if workers is None else workers,
        scheduler=scheduler,
        resume=resume,
        overwrite=overwrite,
    )
    with console.progress("preparing") as progress:
        report = run(source, inputs, output, chosen, progress, console.print_remark)
    console.print_prepare_report(report, output)


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
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
) -> None:
    """Train a forecaster."""
    from forecast.config import load_config
    from forecast.training.checks import check_run

    settings = load_config(config, set_ or [])
    check_run(settings, data, val, output, resume)  # before torch is loaded
    from forecast import workflows

    done = workflows.train(settings, data, val, output, resume)
    new = done.steps > done.begun
    what = "trained" if new else f"had been trained already, all of its {done.steps} steps"
    typer.echo(f"{output}: {what}; forecast with `forecast rollout --model {output}`")


@app.command()
def rollout(
    horizon: Annotated[int, typer.Option(help="Steps to forecast.")] = 6,
    data: Annotated[
        str | None, typer.Option(help="Sequence store.", show_default="the packaged sample")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A checkpoint, persistence, constant-velocity, constant-turn,"
            " constant-acceleration or components-cv.",
            show_default="the packaged checkpoint",
        ),
    ] = None,
    output: Annotated[str, typer.Option(help="Forecast store to write.")] = "forecast.zarr",
    gif: Annotated[
        str,
        typer.Option(
            help="Animation to write: three sequences in real time, truth left, forecast right,"
            " a colour per id; '' for none."
        ),
    ] = "forecast.gif",
    input_mode: Annotated[
        InputMode, typer.Option("--input", help="Whether the history comes with tracked ids.")
    ] = InputMode.tracked,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Ask the mirrored scene too: nearer, twice the time.")
    ] = False,
    teacher_forced: Annotated[
        bool,
        typer.Option(
            "--teacher-forced",
            help="Start every lead from the true frames before it. This reads the future, to"
            " measure drift (`evaluate --drift`).",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many sequences.")] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences at a time.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there already.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Local processes.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask cluster to use instead, e.g. tcp://host:8786.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time went, stage by stage.")
    ] = False,
) -> None:
    """Forecast every sequence of a store, and score it where the truth is known."""
    check_counts(horizon=horizon, limit=limit, batch_size=batch_size, workers=workers)
    if profile and (workers > 1 or scheduler is not None):
        raise ConfigError("--profile of one process", "several", "leave out the others")
    from forecast.request import RolloutRequest

    request = RolloutRequest(
        data=data,
        model=model,
        output=output,
        gif=gif or None,
        horizon=horizon,
        input_mode=input_mode.value,
        mirror=mirror,
        teacher_forced=teacher_forced,
        limit=limit,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        resume=resume,
    )
    request.check()  # before torch is loaded
    from forecast import console, profiling, score_tables, workflows

    with console.progress("sequences") as progress, profiling.watched(profile) as stages:
        summary = workflows.rollout_to_store(request, progress, console.print_remark)
    console.print_rollout_summary(summary)
    if summary.scores:
        score_tables.print_comparison(summary.scores)
    console.print_stage_times(stages)


@app.command()
def evaluate(
    forecast: Annotated[str, typer.Argument(help="Forecast store.")],
    data: Annotated[str, typer.Option(help="Sequence store with the truth.")],
    by: Annotated[
        list[Question] | None,
        typer.Option(help="Take the errors on moving agents apart instead; repeatable."),
    ] = None,
    drift: Annotated[
        bool, typer.Option("--drift", help="Score every lead, and who is still alive, instead.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help="With --drift: a forecast store to be above; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    workers: Annotated[int, typer.Option(help="Local processes, without --by and --drift.")] = 1,
) -> None:
    """Score a forecast store against the truth."""
    check_counts(workers=workers)
    if by and drift:
        raise ConfigError("--by or --drift", "both", "drop one of them")
    if against and not drift:
        raise ConfigError("--against with --drift", "it alone", "add --drift")
    if workers > 1 and (by or drift):
        raise ConfigError("--workers, or --by or --drift", "both", "drop one of them")
    from forecast import assessment, console, score_tables

    if drift:
        with console.progress("scoring") as progress:
            found = assessment.measure_drift(forecast, data, against or (), progress)
        if as_json:
            typer.echo(json.dumps(found.to_json(), indent=2))
        else:
            score_tables.print_drift(found)
        return
    if by:
        with console.progress("taking errors apart") as progress:
            rows = assessment.break_down(forecast, data, by, progress)
        if as_json:
            typer.echo(json.dumps([row.to_json() for row in rows], indent=2))
        else:
            score_tables.print_breakdown(rows)
        return
    with console.progress("scoring") as progress:
        scores = assessment.evaluate(forecast, data, progress, workers)
    if as_json:
        typer.echo(json.dumps(scores.to_json(), indent=2))
    else:
        score_tables.print_scores(scores)


if __name__ == "__main__":
    main()
