"""Scores of a forecast store, as `forecast evaluate` and Python ask for them; without torch."""

from __future__ import annotations

from pathlib import Path

from forecast.evaluation.scores import Scores
from forecast.evaluation.scoring import score_stores, truth_of
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
