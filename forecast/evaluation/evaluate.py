"""What `forecast evaluate` does; none of it imports torch, which is slow to load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forecast.evaluation import breakdown, by_lead, wrong_cells
from forecast.evaluation.breakdown import Row
from forecast.evaluation.by_lead import ScoresByLead
from forecast.evaluation.scores import Scores
from forecast.evaluation.scoring import score_stores, truth_of
from forecast.evaluation.wrong_cells import WrongCells
from forecast.parallel import Progress
from forecast.storage.identity import unchanged


def evaluate(
    forecast: str | Path,
    data: str | Path | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> Scores:
    """Scores a forecast store against the truth; see :func:`score_stores`.

    Args:
        forecast: Forecast store.
        data: The sequence store that holds what happened; None = the one that was forecast.
        progress: Told (sequences done, sequences in all) now and then.
        workers: Processes; 1 works in this one.

    Raises:
        DataError: A store cannot be read, or the two do not belong together.
    """
    forecast = str(forecast)
    data = truth_of(forecast) if data is None else str(data)
    with unchanged(forecast, data):
        return score_stores(forecast, data, progress, workers)


def break_down(
    forecast: str, data: str, questions: Sequence[str], progress: Progress | None = None
) -> list[Row]:
    """Errors on moving agents by group; see ``forecast.evaluation.breakdown.break_down``."""
    chosen = [name for name in breakdown.QUESTIONS if name in questions]
    with unchanged(forecast, data):
        return breakdown.break_down(forecast, data, chosen, progress)


def attribute_cells(forecast: str, data: str, progress: Progress | None = None) -> WrongCells:
    """The wrong cells by agent; see ``forecast.evaluation.wrong_cells.attribute_cells``."""
    with unchanged(forecast, data):
        return wrong_cells.attribute_cells(forecast, data, progress)


def score_by_lead(
    forecast: str, data: str, against: Sequence[str] = (), progress: Progress | None = None
) -> ScoresByLead:
    """Scores lead by lead, and the gain over others; see ``by_lead.score_by_lead``."""
    with unchanged(forecast, data, *against):
        return by_lead.score_by_lead(forecast, data, against, progress)
