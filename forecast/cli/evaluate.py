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
    from forecast.evaluation.against import Compared, ScoresAgainst
    from forecast.evaluation.counts import Forecast
    from forecast.evaluation.scores import SceneSums, Scope
    from forecast.evaluation.scoring import Counted

MASKS, PROBABILITIES, REALIZATIONS = "", "--probabilities", "--realizations"
"""What is scored: masks where nothing else is asked for."""
OfProbabilities = Annotated[
    bool, typer.Option(PROBABILITIES, help="Score the occupancy as a probability, instead.")
]
OfRealizations = Annotated[
    bool, typer.Option(REALIZATIONS, help="Score several futures of the agents, instead.")
]
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
    probabilities: OfProbabilities = False,
    realizations: OfRealizations = False,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Say whether it is better than another forecast store, or than a baseline by name;"
            " repeatable."
        ),
    ] = None,
    plots: Annotated[
        str | None,
        typer.Option(
            help="A folder for pictures too: reliability, precision and recall, leads, futures."
        ),
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
        "--by": by,
        "--cells": cells,
        "--by-lead": by_lead,
        PROBABILITIES: probabilities,
        REALIZATIONS: realizations,
    }
    given = [name for name, wanted in asked.items() if wanted]
    _refuse_combinations(given, against, plots, overwrite, workers)
    from forecast.evaluation.scoring import truth_of

    data = truth_of(forecast) if data is None else data
    if by or cells or by_lead:
        _take_apart(forecast, data, by, cells, against or (), as_json)
    else:
        stores = forecast, data, against or (), workers
        _score(stores, given[0] if given else MASKS, plots, overwrite, as_json)


def _take_apart(
    forecast: str,
    data: str,
    by: Sequence[Question] | None,
    cells: bool,
    against: Sequence[str],
    as_json: bool,
) -> None:
    """Says where the errors are: by a question, of which cells, or at which lead."""
    from forecast.cli import console, score_tables
    from forecast.evaluation import breakdown, wrong_cells
    from forecast.evaluation import by_lead as curves

    if by:
        with console.progress("taking errors apart") as progress:
            rows = breakdown.break_down(forecast, data, by, progress)
        plain = [row.to_json() for row in rows]
        _show(plain, partial(score_tables.print_breakdown, rows), as_json)
    elif cells:
        with console.progress("attributing cells") as progress:
            wrong = wrong_cells.attribute_cells(forecast, data, progress)
        _show(wrong.to_json(), partial(score_tables.print_wrong_cells, wrong), as_json)
    else:
        with console.progress("scoring") as progress:
            curve = curves.score_by_lead(forecast, data, against, progress, _roll_out)
        _show(curve.to_json(), partial(score_tables.print_by_lead, curve), as_json)


def _score(
    stores: tuple[str, str, Sequence[str], int],
    asked: str,
    plots: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Scores masks, occupancy or futures, by themselves or against others, and draws all three."""
    from forecast.cli import console
    from forecast.evaluation.probability_scores import ProbabilityAccumulator
    from forecast.evaluation.realization_scores import RealizationAccumulator
    from forecast.evaluation.scores import Accumulator
    from forecast.evaluation.scoring import has_realizations
    from forecast.storage.atomic import refuse_replacing
    from forecast.visualization.score_plots import check_folder, write_score_plots

    kinds: dict[str, type[SceneSums]] = {
        MASKS: Accumulator,
        PROBABILITIES: ProbabilityAccumulator,
        REALIZATIONS: RealizationAccumulator,
    }
    forecast, data, against, _ = stores
    shown = [asked]
    if asked == MASKS and not against and has_realizations(forecast):
        shown.append(REALIZATIONS)
    if plots is not None:
        refuse_replacing("--plots", plots, (), (forecast, data, *against))
        check_folder(plots, overwrite)
    wanted = shown if plots is None else list(kinds)
    counted: dict[str, Compared[Any]] = {one: _count(kinds[one], *stores) for one in wanted}
    _show_scores([counted[one].scores() for one in shown], as_json)
    if plots is not None:
        write_score_plots(plots, *counted.values(), overwrite=overwrite)
        console.print_remark(f"pictures: {plots}")


def _count(
    kind: type[Counted], forecast: str, data: str, against: Sequence[str], workers: int
) -> Compared[Counted]:
    from forecast.cli import console
    from forecast.evaluation.against import compare_stores

    with console.progress("scoring") as progress:
        return compare_stores(kind, forecast, data, against, _roll_out, progress, workers)


def _show_scores(shown: Sequence[ScoresAgainst], as_json: bool) -> None:
    """The scores that were asked for, and those of the same forecast's futures after them."""
    from forecast.cli import gain_tables, realization_tables
    from forecast.evaluation.realization_scores import RealizationScores

    found, *more = shown
    futures = [one.scores for one in more if isinstance(one.scores, RealizationScores)]

    def tables() -> None:
        if found.references:
            gain_tables.print_against(found)
        else:
            _print_scores(found.scores)
        for one in futures:
            realization_tables.print_more(one)

    plain = found.to_json() if found.references else found.scores.to_json()
    for one in futures:
        several = {"number": one.realizations, "classes": one.to_json()["classes"]}
        plain |= {"realizations": several}
    _show(plain, tables, as_json)


def _print_scores(scores: Scope) -> None:
    from forecast.cli import probability_tables, realization_tables, score_tables
    from forecast.evaluation.probability_scores import ProbabilityScores
    from forecast.evaluation.realization_scores import RealizationScores
    from forecast.evaluation.scores import Scores

    match scores:
        case ProbabilityScores():
            probability_tables.print_probabilities(scores)
        case RealizationScores():
            realization_tables.print_realizations(scores)
        case Scores():
            score_tables.print_scores(scores)


def _refuse_combinations(
    asked: list[str],
    against: list[str] | None,
    plots: str | None,
    overwrite: bool,
    workers: int,
) -> None:
    """Refuses options that exclude each other."""
    names = " and ".join(asked)
    if len(asked) > 1:
        wanted = "one of --by, --cells, --by-lead, --probabilities and --realizations"
        raise ConfigError(wanted, names, "run them one by one")
    if against and names in ("--by", "--cells"):
        wanted = "--against alone, with --by-lead, --probabilities or --realizations"
        raise ConfigError(wanted, names, f"leave {names} out")
    if plots is not None and names in ("--by", "--cells", "--by-lead"):
        wanted = "--plots alone, with --against, --probabilities or --realizations"
        raise ConfigError(wanted, names, "drop one")
    if plots == "":
        raise ConfigError("a folder for --plots", "no name", "name one")
    if overwrite and plots is None:
        raise ConfigError("--overwrite with --plots", "it alone", "add --plots DIR")
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
