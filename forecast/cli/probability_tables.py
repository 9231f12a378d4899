"""Scores of occupancy as a probability, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from forecast.cli.console import print_table
from forecast.cli.score_tables import (
    NO_AGENT,
    model_name,
    number,
    number_with_interval,
    print_scope,
    titled_table,
    when,
)
from forecast.evaluation.score_names import TOO_SMALL_TO_SHOW, label_of, unit_of

if TYPE_CHECKING:
    from forecast.evaluation.probability_scores import ClassProbabilities, ProbabilityScores

BY_LEAD = {
    "auc": "AUC",
    "soft_iou": "soft IoU",
    "brier_occupied": "Brier",
    "log_loss_occupied": "log loss",
    "calibration_error": "calibration",
}
MEANINGS = """\
[low, high]: 95 % interval over scenes
AUC: of precision over recall; soft IoU: of probabilities; both as in Waymo's challenge
Brier, log loss: per occupied cell, 0 is best; skill: over the share of occupied cells as forecast
calibration error: mean of |forecast - observed| where the forecast is above 0
flow EPE: mean error per step where the truth moved; flow-grounded: occupancy times the true cells
of the step before, brought here by the flow; all as in Waymo's challenge, but EPE in metres"""


def print_probabilities(scores: ProbabilityScores) -> None:
    """Each score with its interval, a column per class; then some lead by lead."""
    print(f"occupancy of {model_name(scores)}")
    print_scope(scores)
    found = {name: one for name, one in scores.classes.items() if one.counts["occupied"]}
    if not found:
        print(NO_AGENT)
        return
    table = titled_table("", "score", list(found))
    for score in next(iter(found.values())).scores:
        if score in TOO_SMALL_TO_SHOW:
            continue
        cells = (
            number_with_interval(one.scores[score], one.interval[score]) for one in found.values()
        )
        unit = unit_of(score)
        table.add_row(f"{label_of(score)},{unit}" if unit else label_of(score), *cells)
    print_table(table)
    for name, one in found.items():
        print_table(_lead_table(name, one, scores))
    print(MEANINGS)


def _lead_table(name: str, one: ClassProbabilities, scores: ProbabilityScores) -> Table:
    table = titled_table(name, "at", list(BY_LEAD.values()))
    for lead in range(scores.horizon):
        cells = (number(one.by_lead[score][lead]) for score in BY_LEAD)
        table.add_row(when(lead, scores), *cells)
    return table
