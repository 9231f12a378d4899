"""Pictures of scores: reliability, precision over recall, scores by lead, and several futures."""

from __future__ import annotations

from collections.abc import Mapping

from forecast.evaluation.against import Compared
from forecast.evaluation.probability_scores import ClassProbabilities, ProbabilityAccumulator
from forecast.evaluation.realization_scores import RealizationAccumulator
from forecast.evaluation.score_names import label_of, unit_of
from forecast.evaluation.scores import Accumulator, SceneSums, scores_by_lead
from forecast.storage.atomic import refuse_existing, refuse_unwritable
from forecast.visualization.curves import Line, Panel, write_panels

PICTURES = ("reliability", "precision_recall", "by_lead", "realizations")
FORMATS = ("png", "svg")
MASKS = ("iou", "vpq_moving")
CHANCES = ("auc", "brier_occupied")
"""Scores by lead, of masks and of the occupancy."""
MISSED, ENERGY = "miss_rate_moving", "energy_moving"
"""Scores of several futures: by their number, and by lead."""


def paths_of(folder: str, picture: str) -> list[str]:
    """The files of a picture."""
    return [f"{folder.rstrip('/')}/{picture}.{kind}" for kind in FORMATS]


def check_folder(folder: str, overwrite: bool) -> None:
    """Refuses a folder in which a picture is already, or none can be made.

    Raises:
        DataError: So it is.
    """
    for path in (path for picture in PICTURES for path in paths_of(folder, picture)):
        refuse_unwritable(path)
        refuse_existing(path, overwrite=overwrite)


def write_score_plots(
    folder: str,
    masks: Compared[Accumulator],
    chances: Compared[ProbabilityAccumulator],
    futures: Compared[RealizationAccumulator],
    *,
    overwrite: bool = False,
) -> None:
    """Draws each of :data:`PICTURES`, a column of panels for each class that the truth has.

    Args:
        folder: Where to; made if it is not there.
        masks: Counted of forecasts, the one in question standing out.
        chances: Counted of the occupancy of the same.
        futures: Counted of their realizations.
        overwrite: Whether to replace pictures that are there.

    Raises:
        DataError: A picture exists or cannot be written.
    """
    own, *_ = chances.named()
    found = {name: one.scores().classes for name, one in chances.named().items()}
    there = [name for name, one in found[own].items() if one.counts["occupied"]]
    shown = there or list(found[own])
    dt_s = masks.pair.meta.dt_s
    rows = {
        "reliability": [[_reliability(name, found) for name in shown]],
        "precision_recall": [[_precision_recall(name, found) for name in shown]],
        "by_lead": [
            [_by_lead(name, score, counted, dt_s) for name in shown]
            for counted, scores in ((masks.named(), MASKS), (chances.named(), CHANCES))
            for score in scores
        ],
        "realizations": [
            [_by_number(name, futures.named()) for name in shown],
            [_by_lead(name, ENERGY, futures.named(), dt_s) for name in shown],
        ],
    }
    for picture in PICTURES:
        write_panels(paths_of(folder, picture), rows[picture], own, overwrite=overwrite)


def _reliability(name: str, found: Mapping[str, Mapping[str, ClassProbabilities]]) -> Panel:
    """Below the diagonal fewer cells are occupied than was forecast."""
    lines = {
        whose: Line(
            [bin_["forecast"] for bin_ in classes[name].reliability],
            [bin_["observed"] for bin_ in classes[name].reliability],
        )
        for whose, classes in found.items()
    }
    return Panel(name, "forecast probability", "share of cells occupied", lines, diagonal=True)


def _precision_recall(name: str, found: Mapping[str, Mapping[str, ClassProbabilities]]) -> Panel:
    curves = {whose: classes[name].precision_recall for whose, classes in found.items()}
    lines = {whose: Line(one["recall"], one["precision"]) for whose, one in curves.items()}
    return Panel(name, "recall of occupied cells, all leads", "precision", lines)


def _by_number(name: str, counted: Mapping[str, RealizationAccumulator]) -> Panel:
    lines = {}
    for whose, sums in counted.items():
        one = sums.scores().classes[name]
        numbers, values = one.by_number["realizations"], one.by_number[MISSED]
        lines[whose] = Line(numbers, values, one.interval_by_number[MISSED])
    return Panel(name, "best of so many realizations", label_of(MISSED), lines)


def _by_lead(name: str, score: str, counted: Mapping[str, SceneSums], dt_s: float) -> Panel:
    lines = {}
    for whose, sums in counted.items():
        values, intervals = scores_by_lead(sums, name)
        times = [(lead + 1) * dt_s for lead in range(sums.horizon)]
        lines[whose] = Line(times, values[score], intervals[score])
    unit = unit_of(score)
    title = f"{label_of(score)},{unit}" if unit else label_of(score)
    return Panel(name, "seconds ahead", title, lines)
