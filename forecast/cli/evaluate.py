"""`forecast evaluate`: a forecast store scored. Nothing slow is imported before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast.cli.options import AsJson, Overwrite, Question
from forecast.errors import ConfigError, check_counts

if TYPE_CHECKING:
    from forecast.evaluation.counts import Forecast

OLD_BY_LEAD = "--drift"  # what --by-lead was called; refused with the new name


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
    by_lead: Annotated[
        bool, typer.Option("--by-lead", help="Score every lead, and who is still alive, instead.")
    ] = False,
    cells: Annotated[
        bool,
        typer.Option("--cells", help="Say whose the wrong cells are that IoU counts, instead."),
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Score the occupancy as a probability, instead."),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Say whether it is better than another forecast store, or than a baseline by name;"
            " repeatable."
        ),
    ] = None,
    plots: Annotated[
        str | None,
        typer.Option(help="A folder for pictures too: reliability, precision and recall, leads."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    workers: Annotated[int, typer.Option(help="Local processes, for the scores alone.")] = 1,
    old_by_lead: Annotated[bool, typer.Option(OLD_BY_LEAD, hidden=True)] = False,
) -> None:
    """Score a forecast store against the truth."""
    if old_by_lead:
        got = f"{OLD_BY_LEAD}, its name in earlier versions"
        raise ConfigError("--by-lead", got, "write --by-lead")
    check_counts(workers=workers)
    asked = {
        "--by": bool(by),
        "--cells": cells,
        "--by-lead": by_lead,
        "--probabilities": probabilities,
    }
    _refuse_combinations([name for name, given in asked.items() if given], against, plots, workers)
    if overwrite and plots is None:
        raise ConfigError("--overwrite with --plots", "it alone", "add --plots DIR")
    from forecast.cli import console, score_tables
    from forecast.evaluation import breakdown, wrong_cells
    from forecast.evaluation import by_lead as curves
    from forecast.evaluation.scoring import truth_of

    data = truth_of(forecast) if data is None else data
    if by_lead:
        with console.progress("scoring") as progress:
            curve = curves.score_by_lead(forecast, data, against or (), progress, _roll_out)
        _show(curve.to_json(), partial(score_tables.print_by_lead, curve), as_json)
    elif cells:
        with console.progress("attributing cells") as progress:
            wrong = wrong_cells.attribute_cells(forecast, data, progress)
        _show(wrong.to_json(), partial(score_tables.print_wrong_cells, wrong), as_json)
    elif by:
        with console.progress("taking errors apart") as progress:
            rows = breakdown.break_down(forecast, data, by, progress)
        plain = [row.to_json() for row in rows]
        _show(plain, partial(score_tables.print_breakdown, rows), as_json)
    else:
        forecasts = forecast, data, against or ()
        _score(*forecasts, probabilities, as_json, workers, plots, overwrite)


def _score(
    forecast: str,
    data: str,
    against: Sequence[str],
    probabilities: bool,
    as_json: bool,
    workers: int,
    plots: str | None,
    overwrite: bool,
) -> None:
    """Scores the masks or the occupancy, by themselves or against others."""
    from forecast.cli import console, gain_tables, probability_tables, score_tables
    from forecast.evaluation.against import compare_stores
    from forecast.evaluation.probability_scores import ProbabilityAccumulator, ProbabilityScores
    from forecast.evaluation.scores import Accumulator, Scores

    stores = forecast, data, against, _roll_out
    masks = chances = None
    if plots is not None:
        from forecast.visualization.score_plots import check_folder

        check_folder(plots, overwrite)
    if not probabilities or plots is not None:
        with console.progress("scoring") as progress:
            masks = compare_stores(Accumulator, *stores, progress, workers)
    if probabilities or plots is not None:
        with console.progress("scoring occupancy") as progress:
            chances = compare_stores(ProbabilityAccumulator, *stores, progress, workers)
    shown = chances if probabilities else masks
    assert shown is not None
    found = shown.scores()
    scores = found.scores
    if against:
        _show(found.to_json(), partial(gain_tables.print_against, found), as_json)
    elif isinstance(scores, ProbabilityScores):
        table = partial(probability_tables.print_probabilities, scores)
        _show(scores.to_json(), table, as_json)
    elif isinstance(scores, Scores):
        _show(scores.to_json(), partial(score_tables.print_scores, scores), as_json)
    if plots is not None and masks is not None and chances is not None:
        from forecast.visualization.score_plots import write_score_plots

        write_score_plots(plots, masks, chances, overwrite=overwrite)
        console.print_remark(f"pictures: {plots}")


def _refuse_combinations(
    asked: list[str], against: list[str] | None, plots: str | None, workers: int
) -> None:
    """Refuses options that exclude each other."""
    names = " and ".join(asked)
    if len(asked) > 1:
        wanted = "one of --by, --cells, --by-lead and --probabilities"
        raise ConfigError(wanted, names, "run them one by one")
    if against and names in ("--by", "--cells"):
        wanted = "--against alone, with --by-lead or with --probabilities"
        raise ConfigError(wanted, names, f"leave {names} out")
    if plots is not None and names in ("--by", "--cells", "--by-lead"):
        raise ConfigError(
            "--plots alone, with --against or with --probabilities", names, "drop one"
        )
    if workers > 1 and names in ("--by", "--cells", "--by-lead"):
        raise ConfigError(f"--workers or {names}", "both", "drop one of them")


def _roll_out(name: str, data: str, sequences: range, horizon: int) -> Iterator[Forecast]:
    """Forecasts of a baseline; only they need torch."""
    from forecast.inference.baseline_forecasts import baseline_forecasts

    return baseline_forecasts(name, data, sequences, horizon)


def _show(plain: Any, table: Callable[[], None], as_json: bool) -> None:
    """Prints JSON or a table."""
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
    else:
        table()
