"""Scores as tables, each with notes on its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from forecast.cli.console import print_table
from forecast.errors import counted

if TYPE_CHECKING:
    from forecast.evaluation.breakdown import Row
    from forecast.evaluation.by_lead import Point, ScoresByLead
    from forecast.evaluation.scores import ClassScores, Gain, Interval, Scope, Scores
    from forecast.evaluation.wrong_cells import WrongCells

MOST_LEADS = 6  # columns of a table that a terminal has room for


SCORES = """\
[low, high]: 95 % interval over scenes
VPQ moving, ADE moving: of agents that get more than 2 m away"""
COMPARED = """\
skill: of VPQ moving, 0 = constant turn rate, 1 = oracle, - if closer than 0.05
oracle: perfect motion of all agents that the history shows on the grid"""
PARTS = (
    "iou",
    *("missed_new", "missed_moving", "missed_still"),
    *("false_gone", "false_moving", "false_still"),
)
UNNAMED_PARTS = ("missed_unnamed", "false_unnamed")
BREAKDOWN = ["agents x leads", "forecast", "along", "ahead", "aside", "displacement", "found"]
MARK = " *"
READS_IDS = "* reads ids and boxes of the history, which are hidden in detected input"
WITHOUT_IDS = "-: not known, because the truth has no ids"
LEFT_OUT = "baselines that read ids are left out, and so is the oracle"
BROKEN_DOWN = """\
forecast: how many of them have a forecast pose (-: of detected input)
along, aside: mean distance from the truth along its heading and across it
ahead: mean of along with its sign, negative = behind the truth
displacement: mean distance; found: share of masks with IoU above 0.5"""
WRONG_CELLS = """\
shares of the cells that are in the forecast or the truth; a line adds up to 1
missed, false: true cells that are not forecast, forecast cells that are not true
new: of agents not in view at the present; gone: not in the truth of that lead
moving: of agents in both that get more than 2 m away; still: of the others"""
NO_AGENT = "no agent of any class in these leads: nothing to score"
NOTHING_MOVES = "no agent in view at the present moves: nothing to take apart"
OWN_IDS = "-: not known, and all false cells are unnamed: detected input has ids of its own"
UNNAMED = "unnamed: missed without an id; false, of an id not in view at the present"
WITHOUT_FATES = "-: not known, as detected input has ids of its own"
CURVE = """\
agents: true ids visible at present that still have cells at that lead
drawn, matched: share of them drawn under their id; with a mask of IoU above 0.5
Brier: mean squared error of the forecast existence, 0 is best"""
GAINED = """\
score minus theirs [95 % interval over scenes]
below in: scores that are lower, with ? where the interval includes 0"""


def print_scores(scores: Scores) -> None:
    """One forecaster: each score with its interval, a column per class."""
    if scores.model:
        print(f"forecast of {model_name(scores)}")
    print_scope(scores)
    if not any(one.counts["cells"] for one in scores.classes.values()):
        print(NO_AGENT)
        return
    found = {name: one for name, one in scores.classes.items() if one.counts["cells"]}
    table = titled_table("", "score", list(found))
    for score in next(iter(scores.classes.values())).interval:
        table.add_row(_label(score), *(_with_interval(one, score) for one in found.values()))
    for lead in range(scores.horizon):
        cells = (number(one.iou_by_lead[lead]) for one in found.values())
        table.add_row(f"IoU at {when(lead, scores)}", *cells)
    print_table(table)
    print(SCORES)
    _print_agents_without_cell(scores)
    if scores.lack_ids:
        print(WITHOUT_IDS)


def print_breakdown(rows: Sequence[Row]) -> None:
    """Errors on moving agents, a table for each question."""
    pooled = any(row.question != "class" for row in rows)
    whose = " of all classes together (--by class: apart)" if pooled else ""
    for protocol in dict.fromkeys(row.protocol for row in rows):
        print(f"moving agents{whose}, protocol {protocol}")
    for question in dict.fromkeys(row.question for row in rows):
        table = Table(box=None, pad_edge=False)
        table.add_column(question, no_wrap=True)
        for header in BREAKDOWN:
            table.add_column(header, justify="right")
        for row in rows:
            if row.question == question:
                errors = (row.along, row.ahead, row.aside, row.displacement)
                metres = (number(x, " m") for x in errors)
                counts = str(row.entries), "-" if row.forecast is None else str(row.forecast)
                table.add_row(row.group, *counts, *metres, number(row.found))
        print_table(table)
    print(BROKEN_DOWN if rows else NOTHING_MOVES)


def print_wrong_cells(found: WrongCells) -> None:
    """The wrong cells by agent, a table for each class."""
    print(f"forecast of {model_name(found)}")
    sizes = counted(found.sequences, "sequence"), counted(found.horizon, "lead")
    print(f"{', '.join(sizes)}, protocol {found.protocol}")
    unnamed = [part for part in UNNAMED_PARTS if any(getattr(one, part) for one in found.shares)]
    parts = [*PARTS, *unnamed]
    for name in dict.fromkeys(one.class_name for one in found.shares):
        table = titled_table(name, "lead", [_part_label(part) for part in parts])
        for one in found.shares:
            if one.class_name == name:
                lead = "all" if one.lead is None else str(one.lead)
                table.add_row(lead, *(number(getattr(one, part)) for part in parts))
        print_table(table)
    print(WRONG_CELLS if found.shares else NO_AGENT)
    if unnamed:
        print(OWN_IDS if found.input == "detected" else UNNAMED)


def _part_label(part: str) -> str:
    """Two lines: missed or false, then which agents."""
    if part == "iou":
        return "IoU"
    wrong, _, whose = part.partition("_")
    return f"{wrong}\n{whose}"


def print_by_lead(found: ScoresByLead) -> None:
    """The curve of the first class that has truth, and its gain over each reference."""
    print_scope(found.scores)
    scored = [name for name, one in found.scores.classes.items() if one.counts["cells"]]
    if not scored:
        print(NO_AGENT)
    for name in scored[:1]:
        curve = found.curves[name]
        print(f"{name}: {model_name(found.scores)}")
        print_table(_curve_table(curve))
        print(CURVE)
        if found.scores.input == "detected":
            print(WITHOUT_FATES)
        if found.scores.lack_ids:
            print(WITHOUT_IDS)
        for path, model in found.references.items():
            print(f"{name}: gain over {model} ({path})")
            print_table(_gain_table(path, curve))
        if found.references:
            print(GAINED)
    if scored[1:]:
        print(f"{', '.join(scored[1:])}: with --json")


def _curve_table(curve: Sequence[Point]) -> Table:
    headers = ["IoU", "VPQ", "VPQ moving", "agents", "drawn", "matched", "Brier"]
    table = titled_table("", "lead", headers)
    for point in curve:
        scores = (number(score) for score in (point.iou, point.vpq, point.vpq_moving))
        fates = (number(share) for share in (point.drawn, point.matched, point.brier))
        table.add_row(str(point.lead), *scores, str(point.agents), *fates)
    return table


def _gain_table(path: str, curve: Sequence[Point]) -> Table:
    """The last column names the scores that are below, with ? where the interval includes 0."""
    from forecast.evaluation.by_lead import GAINS

    table = titled_table("", "lead", [*map(_label, GAINS), "below in"])
    for point in curve:
        gains = point.gains[path]
        below = [
            _label(score) + ("" if gain.sure else "?")
            for score, gain in gains.items()
            if gain.below
        ]
        cells = (gain_text(gains.get(score)) for score in GAINS)
        table.add_row(str(point.lead), *cells, ", ".join(below))
    return table


def gain_text(gain: Gain | None) -> str:
    """A difference with its interval, or a dash where there is none."""
    if gain is None or gain.interval is None:
        return "-" if gain is None else f"{gain.difference:+.3f}"
    return f"{gain.difference:+.3f} [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]"


def print_comparison(scores: Mapping[str, Scores]) -> None:
    """Several forecasters of the same sequences: two tables per class, a line per forecaster."""
    any_scores = next(iter(scores.values()))
    scores = _marked(scores, any_scores.input)
    print_scope(any_scores)
    if not any(one.counts["cells"] for one in any_scores.classes.values()):
        print(NO_AGENT)
        return
    for name, one in any_scores.classes.items():
        if one.counts["cells"]:
            rows = {forecaster: every.classes[name] for forecaster, every in scores.items()}
            print_table(_summary_table(name, rows))
            print_table(_lead_table(rows, any_scores))
    if any_scores.lack_ids:
        print(WITHOUT_IDS)
        if any_scores.input == "detected":
            print(LEFT_OUT)
        return
    print(SCORES)
    print(COMPARED)
    _print_agents_without_cell(scores.get("oracle", any_scores))
    if any(forecaster.endswith(MARK) for forecaster in scores):
        print(READS_IDS)


def _print_agents_without_cell(scores: Scores) -> None:
    """Which share of each class is too small for the grid, or hidden, at present."""
    shares = [
        f"{one.counts['agents_without_cell'] / one.counts['agents']:.1%} of {name}"
        for name, one in scores.classes.items()
        if one.counts["agents_without_cell"]
    ]
    if shares:
        print(f"no cell at present, but forecast and scored: {', '.join(shares)}")


def model_name(scores: Scope | WrongCells) -> str:
    """The model, and whether ids and boxes were hidden from it."""
    return f"{scores.model}, detected input" if scores.input == "detected" else scores.model


def _marked(scores: Mapping[str, Scores], read: str) -> dict[str, Scores]:
    """Marks baselines that read ids and boxes where the forecast ``read`` detected input."""
    more = read == "detected"
    return {
        name + MARK if more and one.input == "tracked" else name: one
        for name, one in scores.items()
    }


def print_scope(scores: Scope) -> None:
    """What was scored, and by which labels.

    A line more where the forecast has more leads than the truth, or was made from other labels.
    """
    from forecast.schema import protocol_text

    drawn, made_from = protocol_text(scores.protocol), protocol_text(scores.forecast_protocol)
    sizes = counted(scores.sequences, "sequence"), counted(scores.scenes, "scene")
    scope = f"{' from '.join(sizes)}, {counted(scores.horizon, 'lead')}"
    print(f"{scope}, protocol {drawn}" if scores.protocol else scope)
    if (leads := scores.forecast_horizon or 0) > scores.horizon:
        print(
            f"{leads} leads forecast, {scores.horizon} have truth;"
            f" prepare with --horizon {leads} to score all"
        )
    if scores.forecast_protocol and made_from != drawn:
        print(f"the forecast is of a store of another protocol, {made_from}")


def _summary_table(name: str, rows: Mapping[str, ClassScores]) -> Table:
    """Scores over all leads; skill is of VPQ moving, from constant turn (0) to the oracle (1)."""
    from forecast.evaluation.scores import skill

    plain = {forecaster.removesuffix(MARK): one.vpq_moving for forecaster, one in rows.items()}
    reference, best = plain.get("constant-turn"), plain.get("oracle")
    headers = ["IoU", "VPQ", "VPQ moving", "ADE moving", "skill"]
    table = titled_table(name, "forecaster", headers)
    for forecaster, one in rows.items():
        table.add_row(
            forecaster,
            number(one.iou),
            number(one.vpq),
            _with_interval(one, "vpq_moving"),
            number(one.ade_moving, " m"),
            number(skill(one.vpq_moving, reference, best)),
        )
    return table


def _lead_table(rows: Mapping[str, ClassScores], scores: Scores) -> Table:
    last = scores.horizon - 1
    leads = np.unique(np.linspace(0, last, min(last + 1, MOST_LEADS)).round().astype(int)).tolist()
    table = titled_table("", "IoU at", [when(lead, scores) for lead in leads])
    for forecaster, one in rows.items():
        table.add_row(forecaster, *(number(one.iou_by_lead[lead]) for lead in leads))
    return table


def when(lead: int, scores: Scope) -> str:
    """A lead by its time."""
    return f"lead {lead + 1}" if scores.dt_s is None else f"+{(lead + 1) * scores.dt_s:g} s"


def titled_table(title: str, first: str, headers: list[str]) -> Table:
    """A table with names on the left and numbers on the right."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _with_interval(scores: ClassScores, name: str) -> str:
    return number_with_interval(getattr(scores, name), scores.interval[name])


def number_with_interval(value: float | None, interval: Interval) -> str:
    """A number with its interval, as far as they are known."""
    text = number(value)
    return text if interval is None else f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]"


def number(value: float | None, unit: str = "") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.3f}{unit}"


def _label(score: str) -> str:
    from forecast.evaluation.score_names import label_of, unit_of

    unit = unit_of(score)
    return f"{label_of(score)},{unit}" if unit else label_of(score)
