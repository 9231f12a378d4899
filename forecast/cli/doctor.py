"""`forecast doctor`: says what is wrong with an installation, a store or a model."""

from __future__ import annotations

from typing import Annotated

import typer

from forecast.errors import ConfigError, check_counts

FOUND_WRONG = 1  # exit code, when what was examined can be read and is wrong
LEAK_LIMIT = 8
STRESS_LIMIT = 64


def doctor(
    store: Annotated[
        str | None, typer.Argument(help="Sequence store to examine.", show_default=False)
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A second store that must share no scene or place with it.")
    ] = None,
    leak: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A checkpoint, a baseline's name or packaged."),
    ] = None,
    stress: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="The same; scored as what it observes gets worse."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Sequence store for --leak and --stress.", show_default="the packaged sample"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Most sequences.", show_default="8 for --leak, 64 for --stress"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print --stress as JSON.")] = False,
    png: Annotated[str | None, typer.Option(help="Picture of --stress to write.")] = None,
) -> None:
    """Say what this installation has.

    With STORE, say what is wrong with it. With --leak, change the future and see whether a
    model's forecast changes. Both exit with code 1 if something is wrong. With --stress, see
    how far a model and the baselines can be trusted as tracks get worse.
    """
    from forecast.cli import console

    check_counts(limit=limit)
    _refuse_combinations(store, against, leak, stress, data)
    if stress is None and (as_json or png is not None):
        raise ConfigError("--stress for --json and --png", "none", "name a model")
    if stress is not None:
        from forecast.cli.stress import stress as run

        run(stress, data, STRESS_LIMIT if limit is None else limit, as_json, png)
        return
    if leak is not None:
        from forecast.doctor.leak import examine_model

        with console.progress("forecasting") as progress:
            most = LEAK_LIMIT if limit is None else limit
            report = examine_model(leak, data, limit=most, progress=progress)
        console.print_leaks(report)
        if not report.healthy:
            raise typer.Exit(FOUND_WRONG)
        return
    if store is None:
        from forecast.doctor import installation as examination

        console.print_facts(examination.examine())
        return
    from forecast.doctor.checkup import examine_store

    with console.progress("examining") as progress:
        checkup = examine_store(store, against, progress)
    console.print_checkup(checkup)
    if not checkup.healthy:
        raise typer.Exit(FOUND_WRONG)


def _refuse_combinations(
    store: str | None, against: str | None, leak: str | None, stress: str | None, data: str | None
) -> None:
    """Refuses options that exclude each other, or lack what they are about."""
    model = leak if stress is None else stress
    if store is None and (against is not None or (data is not None and model is None)):
        raise ConfigError("a STORE for --against, --leak or --stress for --data", "none", "name it")
    if store is not None and model is not None:
        option = "--leak" if stress is None else "--stress"
        raise ConfigError(f"a STORE or {option}", "both", "use --data for the model's store")
    if leak is not None and stress is not None:
        raise ConfigError("--leak or --stress", "both", "run them one by one")
