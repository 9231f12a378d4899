"""Scores of several futures of the same agents, as tables."""

from __future__ import annotations

from collections.abc import Sequence
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
from forecast.errors import counted
from forecast.evaluation.realization_scores import CURVES, MOVING
from forecast.evaluation.score_names import label_of, unit_of

if TYPE_CHECKING:
    from forecast.evaluation.realization_scores import ClassRealizations, RealizationScores

BY_LEAD = {
    "min_fde": "minFDE",
    "miss_rate": "miss",
    "miss_rate_2_m": "miss 2 m",
    "found": "found",
    "energy": "energy",
    "displacement": "displaced",
    "collisions": "collisions",
}
MEANINGS = """\
[low, high]: 95 % interval over scenes; of agents that are there at present, at the last lead
min: of the best realization of each agent; joint: of the one that is best for all agents at once
miss rate: outside of Waymo's rectangle; at 2 m: farther away, as Argoverse 2 has it
found: box overlaps the true one by IoU > 0.5; collisions: realizations in which boxes overlap
energy score: fair if realizations are independent, up to a tenth too low of those of `rollout`
displacement: of the single forecast; both over all leads; energy joint: of agents in all of them
distance of masks: generalized energy distance of 1 - VPQ; with `rollout --realization-masks`"""
OWN_IDS = "detected input has ids of its own: its agents cannot be compared with the true ones"


def print_realizations(scores: RealizationScores) -> None:
    """Scores of each class with their intervals; of the first one's moving agents some by lead."""
    whose = counted(scores.realizations, "realization")
    print(f"{whose} of {model_name(scores)}")
    print_scope(scores)
    _print_classes(scores)


def print_more(scores: RealizationScores) -> None:
    """The same after other scores of the forecast, which have said what was scored."""
    print(f"\nits {counted(scores.realizations, 'realization')}")
    _print_classes(scores)


def _print_classes(scores: RealizationScores) -> None:
    found = {
        name: one
        for name, one in scores.classes.items()
        if one.counts["agents"] or one.scores["mask_distance"] is not None
    }
    if scores.input == "detected":
        print(OWN_IDS)
    elif not found:
        print(NO_AGENT)
    if not found:
        return
    for name, one in found.items():
        print_table(_score_table(name, one))
    moving = [name for name, one in found.items() if one.counts["agents" + MOVING]]
    for name in moving[:1]:
        print_table(_lead_table(name, found[name], scores))
        if scores.realizations > 1:
            print_table(_number_table(name, found[name]))
    if moving[1:]:
        print(f"by lead and number, {', '.join(moving[1:])}: with --json")
    print(MEANINGS)


def _score_table(name: str, one: ClassRealizations) -> Table:
    table = titled_table(name, "score", ["all agents", "moving"])
    for score in one.scores:
        both = score, score + MOVING
        # Masks may be missing, and of detected input they are all that is known.
        known = any(one.scores.get(key) is not None for key in both)
        if not score.endswith(MOVING) and known:
            cells = (number_with_interval(one.scores[key], one.interval[key]) for key in both)
            unit = unit_of(score)
            table.add_row(f"{label_of(score)},{unit}" if unit else label_of(score), *cells)
    return table


def _lead_table(name: str, one: ClassRealizations, scores: RealizationScores) -> Table:
    table = titled_table(f"{name}, moving", "at", list(BY_LEAD.values()))
    for lead in range(scores.horizon):
        cells = (number(one.by_lead[score + MOVING][lead]) for score in BY_LEAD)
        table.add_row(when(lead, scores), *cells)
    return table


def _number_table(name: str, one: ClassRealizations) -> Table:
    table = titled_table(f"{name}, moving", "best of", [label_of(score) for score in CURVES])
    for place, many in enumerate(one.by_number["realizations"]):
        table.add_row(str(many), *_at(one, place, [score + MOVING for score in CURVES]))
    return table


def _at(one: ClassRealizations, place: int, scores: Sequence[str]) -> list[str]:
    return [
        number_with_interval(one.by_number[score][place], one.interval_by_number[score][place])
        for score in scores
    ]
