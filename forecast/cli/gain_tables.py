"""Whether a forecast is better than others, as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from forecast.cli.console import print_table
from forecast.cli.score_tables import (
    NO_AGENT,
    gain_text,
    model_name,
    number,
    print_scope,
    titled_table,
)
from forecast.evaluation.against import verdict
from forecast.evaluation.probability_scores import ProbabilityScores
from forecast.evaluation.realization_scores import RealizationScores
from forecast.evaluation.score_names import TOO_SMALL_TO_SHOW, label_of, unit_of
from forecast.evaluation.scores import Scope, Scores

if TYPE_CHECKING:
    from forecast.evaluation.against import Reference, ScoresAgainst

GAINED = """\
difference: this forecast's score minus the other's [95 % interval over scenes]
better, worse: the whole interval is on one side; distances, losses and errors are better if less
no difference given: not a score of the forecast, or distances of other agents than the other's"""


def print_against(found: ScoresAgainst) -> None:
    """A table and a sentence for each class, of each other forecast."""
    print(f"forecast of {model_name(found.scores)}")
    print_scope(found.scores)
    classes = _values(found.scores)
    if not classes:
        print(NO_AGENT)
        return
    for path, reference in found.references.items():
        for name, own in classes.items():
            _print_gains(name, path, own, reference)
    print(GAINED)
    for reference in found.references.values():
        for name in classes:
            print(reference.summary[name])


def _values(scores: Scope) -> dict[str, dict[str, float | None]]:
    """Class -> score -> value, of the classes that the truth has."""
    if isinstance(scores, Scores):
        return {
            name: {score: getattr(one, score) for score in one.interval}
            for name, one in scores.classes.items()
            if one.counts["cells"]
        }
    if isinstance(scores, RealizationScores):
        return {name: one.scores for name, one in scores.classes.items() if one.counts["agents"]}
    assert isinstance(scores, ProbabilityScores)
    return {name: one.scores for name, one in scores.classes.items() if one.counts["occupied"]}


def _print_gains(
    name: str, path: str, own: Mapping[str, float | None], reference: Reference
) -> None:
    """The table of one class: each score of both, and the difference."""
    given = reference.model if path == reference.model else f"{reference.model} ({path})"
    table = titled_table(f"{name} against {given}", "score", ["this", "other", "difference", ""])
    for score, value in own.items():
        gain, other = reference.gains[name].get(score), reference.scores[name][score]
        if score in TOO_SMALL_TO_SHOW or (value is None and other is None):
            continue
        judged = "" if gain is None else verdict(score, gain)
        unit = unit_of(score)
        table.add_row(
            label_of(score), number(value, unit), number(other, unit), gain_text(gain), judged
        )
    print_table(table)
