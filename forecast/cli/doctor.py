"""`forecast doctor`: says what is wrong with an installation, a store or a model."""

from __future__ import annotations

from typing import Annotated

import typer

from forecast.errors import ConfigError, check_counts

FOUND_WRONG = 1  # exit code, when what was examined can be read and is wrong


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
    data: Annotated[
        str | None,
        typer.Option(help="Sequence store for --leak.", show_default="the packaged sample"),
    ] = None,
    limit: Annotated[int, typer.Option(help="Most sequences for --leak.")] = 8,
) -> None:
    """Say what this installation has.

    With STORE, say what is wrong with it. With --leak, change the future and see whether a
    model's forecast changes. Both exit with code 1 if something is wrong.
    """
    from forecast.cli import console

    check_counts(limit=limit)
    if store is None and (against is not None or (data is not None and leak is None)):
        raise ConfigError("a STORE for --against, --leak for --data", "none", "name it")
    if store is not None and leak is not None:
        raise ConfigError("a STORE or --leak", "both", "use --data for the model's store")
    if leak is not None:
        from forecast.doctor.leak import examine_model

        with console.progress("forecasting") as progress:
            report = examine_model(leak, data, limit=limit, progress=progress)
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
