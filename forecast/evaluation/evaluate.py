"""What `forecast evaluate` does; none of it imports torch, which is slow to load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from forecast.evaluation import breakdown, by_lead, wrong_cells
from forecast.evaluation.breakdown import Row
from forecast.evaluation.by_lead import ScoresByLead
from forecast.evaluation.scores import Scores
from forecast.evaluation.scoring import Progress, score_stores
from forecast.evaluation.wrong_cells import WrongCells
from forecast.storage.identity import unchanged


def evaluate(
    forecast: str, data: str, progress: Progress | None = None, workers: int = 1
) -> Scores:
    """Scores a forecast store against the truth; see :func:`score_stores`."""
    with unchanged(forecast, data):
        return score_stores(forecast, data, progress, workers)


def break_down(
    forecast: str, data: str, questions: Sequence[str], progress: Progress | None = None
) -> list[Row]:
    """Errors on moving agents by group; see ``forecast.evaluation.breakdown.break_down``."""
    chosen = [name for name in breakdown.QUESTIONS if name in questions]
    with unchanged(forecast, data):
        return breakdown.break_down(forecast, data, chosen, _counted(progress))


def attribute_cells(forecast: str, data: str, progress: Progress | None = None) -> WrongCells:
    """The wrong cells by agent; see ``forecast.evaluation.wrong_cells.attribute_cells``."""
    with unchanged(forecast, data):
        return wrong_cells.attribute_cells(forecast, data, _counted(progress))


def score_by_lead(
    forecast: str, data: str, against: Sequence[str] = (), progress: Progress | None = None
) -> ScoresByLead:
    """Scores lead by lead, and the gain over others; see ``by_lead.score_by_lead``."""
    with unchanged(forecast, data, *against):
        return by_lead.score_by_lead(forecast, data, against, _counted(progress))


def _counted(progress: Progress | None) -> Callable[[Iterable[int]], Iterator[int]]:
    """Tells a progress bar how many of some sequences are done."""

    def counted(sequences: Iterable[int]) -> Iterator[int]:
        indices = list(sequences)
        for done, index in enumerate(indices, start=1):
            yield index
            if progress is not None:
                progress(done, len(indices))

    return counted
