"""What commands show on the terminal: results on stdout, progress and remarks on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from data_tools.prepare import PrepareReport
    from forecast.anatomy import Anatomy, Variant
    from forecast.breakdown import Row
    from forecast.drift import Drift, Gain, Point
    from forecast.model.costs import Stage
    from forecast.profiling import StageTime
    from forecast.scores import ClassScores, Scores
    from forecast.trust.checkup import Checkup
    from forecast.trust.clip import Finding
    from forecast.trust.leak import LeakReport
    from forecast.workflows import RolloutSummary

MOST_LEADS = 6  # columns of a table that a terminal has room for
MEASURES = ("parameters", "multiply-adds", "activations")
MOST_FINDINGS = 8  # lines about one check; the rest is counted
MOST_SKIPPED = 20  # lines about inputs left out; the rest is counted


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, moved by calling ``report(done, total)``; none where stderr is no terminal.

    It appears at the first report, so that an error before it stands alone.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    task = bar.add_task(label, total=None)

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()

    try:
        yield report
    finally:
        bar.stop()


def print_remark(text: str) -> None:
    """A line beside the results, on stderr."""
    print(text, file=sys.stderr)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, one pair a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    _print(table)


def print_anatomy(anatomy: Anatomy) -> None:
    """A network's stages; with variants, these side by side, a star where they differ."""
    print(f"{anatomy.kind} of {anatomy.source}, input {_size(anatomy.own.input)}")
    _print(_variant_table(anatomy.variants) if anatomy.variants else _stage_table(anatomy.own))
    print(anatomy.remark)


def _stage_table(variant: Variant) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in ("stage", "shape", *MEASURES):
        table.add_column(header, justify="left" if header in ("stage", "shape") else "right")
    for stage in variant.stages:
        table.add_row(stage.name, _size(stage.shape), *_costs(stage))
    table.add_row("total", "", *_costs(variant.total), style="bold")
    return table


def _variant_table(variants: Sequence[Variant]) -> Table:
    """A line for each shape, and for each cost that is not the same everywhere."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for variant in variants:
        changes = ", ".join(f"{key}={value}" for key, value in variant.changes.items())
        table.add_column(changes, justify="right")
    stages = [{stage.name: stage for stage in variant.stages} for variant in variants]
    names = list(dict.fromkeys(name for one in stages for name in one))
    for name in names:
        found = [one.get(name) for one in stages]
        _compare(table, name, ["" if one is None else _size(one.shape) for one in found])
        costs = zip(*(_costs(one) for one in found), strict=True)
        for measure, values in zip(MEASURES, costs, strict=True):
            if len(set(values)) > 1:
                _compare(table, f"  {measure}", values)
    costs = zip(*(_costs(variant.total) for variant in variants), strict=True)
    for measure, values in zip(MEASURES, costs, strict=True):
        _compare(table, f"total {measure}", values)
    return table


def _compare(table: Table, label: str, values: Sequence[str]) -> None:
    differ = len(set(values)) > 1
    table.add_row(label + (" *" if differ else ""), *values, style="bold" if differ else None)


def _costs(stage: Stage | None) -> tuple[str, ...]:
    """Parameters, multiply-adds and activations; blank where there are none."""
    if stage is None:
        return ("",) * len(MEASURES)
    return (
        _scaled(stage.parameters, 1000, ("G", "M", "k")),
        _scaled(stage.multiply_adds, 1000, ("G", "M", "k")),
        _scaled(stage.activation_bytes, 1024, ("GiB", "MiB", "KiB")),
    )


def _scaled(number: int, step: int, units: tuple[str, str, str]) -> str:
    """Three digits and the largest unit that fits; blank for zero."""
    for power, unit in zip((3, 2, 1), units, strict=True):
        if number >= step**power:
            return f"{number / step**power:#.3g} {unit}".replace(". ", " ")
    return str(number or "")


def _size(shape: Sequence[int] | None) -> str:
    return "None" if shape is None else " x ".join(map(str, shape))


def print_prepare_report(report: PrepareReport, output: str) -> None:
    """What `forecast prepare` made, what it left out and why, and what can be done about it."""
    rate = report.sequences / max(report.seconds, 1e-9)
    print(
        f"{output}: {report.sequences} sequences from {report.scenes} scenes"
        f" in {report.seconds:.1f} s ({rate:.1f} sequences/s)"
    )
    for reason, count in report.notes.items():
        hint = report.hints.get(reason)
        print(f"  {reason}: {count}" + (f"; {hint}" if hint else ""))
    if report.skipped:
        print(f"skipped {len(report.skipped)} inputs:")
    for name, reason in report.skipped[:MOST_SKIPPED]:
        print(f"  {name}: {reason}")
    if (more := len(report.skipped) - MOST_SKIPPED) > 0:
        print(f"  and {more} more")


def print_checkup(checkup: Checkup) -> None:
    """Each check of a store, and the findings of those that found something."""
    print(f"{checkup.store}: {checkup.sequences} sequences examined")
    for name, findings in checkup.findings.items():
        if findings:
            print(f"  {name}: {len(findings)} {'finding' if len(findings) == 1 else 'findings'}")
        else:
            reason = checkup.skipped.get(name)
            print(f"  {name}: " + (f"not examined, {reason}" if reason else "fine"))
        _print_findings(findings)
    print("nothing wrong was found" if checkup.healthy else "something is wrong with this store")


def print_leaks(report: LeakReport) -> None:
    """What a model gives away of what it should not know, by input mode."""
    print(
        f"{report.model}: forecasts repeated with the future, and labels it may not read, changed"
    )
    for mode, findings in report.findings.items():
        verdict = "no leak" if not findings else f"leaks in {len(findings)}"
        joint = "in" if not findings else "of"
        print(f"  {mode} input: {verdict} {joint} {report.sequences} sequences")
        _print_findings(findings)


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings[:MOST_FINDINGS]:
        print(f"    {finding}")
    if (more := len(findings) - MOST_FINDINGS) > 0:
        print(f"    and {more} more")


def print_rollout_summary(summary: RolloutSummary) -> None:
    """Where the forecast is, how long it took, and how it compares with the baselines."""
    rate = summary.sequences / max(summary.seconds, 1e-9)
    print(
        f"{summary.sequences} sequences in {summary.seconds:.1f} s of work ({rate:.1f} per second)"
    )
    print(f"forecast: {summary.output}")
    if summary.gif is not None:
        print(f"picture:  {summary.gif}")
    if summary.scores:
        print_comparison(summary.scores)


def print_stage_times(stages: Sequence[StageTime]) -> None:
    """Where the time went, if that was asked for."""
    if not stages:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for header in ("seconds", "share", "calls"):
        table.add_column(header, justify="right")
    for one in stages:
        table.add_row(one.stage, f"{one.seconds:.3f}", f"{one.share:.1%}", str(one.calls or ""))
    table.add_row("total", f"{sum(one.seconds for one in stages):.3f}", style="bold")
    _print(table)


def print_scores(scores: Scores) -> None:
    """One forecaster: each score with its interval, a column per class."""
    if scores.model:
        print(f"forecast of {scores.model}")
    print_scope(scores)
    found = {name: one for name, one in scores.classes.items() if one.counts["cells"]}
    table = Table(box=None, pad_edge=False)
    table.add_column("score")
    for name in found:
        table.add_column(name, justify="right", no_wrap=True)
    for score in next(iter(scores.classes.values())).interval:
        table.add_row(_label(score), *(_with_interval(one, score) for one in found.values()))
    for lead in range(scores.horizon):
        cells = (_number(one.iou_by_lead[lead]) for one in found.values())
        table.add_row(f"IoU at lead {lead + 1}", *cells)
    _print(table)


def print_breakdown(rows: Sequence[Row]) -> None:
    """Errors on moving agents, a table for each question."""
    for protocol in dict.fromkeys(row.protocol for row in rows):
        print(f"moving agents, protocol {protocol}")
    for question in dict.fromkeys(row.question for row in rows):
        table = Table(box=None, pad_edge=False)
        table.add_column(question, no_wrap=True)
        for header in ("agents x leads", "forecast", "along", "aside", "displacement", "found"):
            table.add_column(header, justify="right")
        for row in rows:
            if row.question == question:
                metres = (_number(x, " m") for x in (row.along, row.aside, row.displacement))
                counts = str(row.entries), str(row.forecast)
                table.add_row(row.group, *counts, *metres, _number(row.found))
        _print(table)


def print_drift(drift: Drift) -> None:
    """The curve of the first class that has truth, and its gain over each reference."""
    print_scope(drift.scores)
    found = [name for name, one in drift.scores.classes.items() if one.counts["cells"]]
    for name in found[:1]:
        curve = drift.curves[name]
        print(f"{name}: {drift.scores.model}")
        _print(_curve_table(curve))
        for path, model in drift.references.items():
            print(f"{name}: gain over {model} ({path})")
            _print(_gain_table(path, curve))
    if found[1:]:
        print(f"{', '.join(found[1:])}: with --json")


def _curve_table(curve: Sequence[Point]) -> Table:
    headers = ["IoU", "VPQ", "VPQ moving", "agents", "drawn", "matched", "Brier"]
    table = _titled_table("", "lead", headers)
    for point in curve:
        scores = (_number(score) for score in (point.iou, point.vpq, point.vpq_moving))
        fates = (_number(share) for share in (point.drawn, point.matched, point.brier))
        table.add_row(str(point.lead), *scores, str(point.agents), *fates)
    return table


def _gain_table(path: str, curve: Sequence[Point]) -> Table:
    """The last column names the scores that are below, with ? where the interval includes 0."""
    from forecast.drift import GAINS

    table = _titled_table("", "lead", [*map(_label, GAINS), "below in"])
    for point in curve:
        gains = point.gains[path]
        below = [
            _label(score) + ("" if gain.sure else "?")
            for score, gain in gains.items()
            if gain.below
        ]
        cells = (_gain_text(gains.get(score)) for score in GAINS)
        table.add_row(str(point.lead), *cells, ", ".join(below))
    return table


def _gain_text(gain: Gain | None) -> str:
    if gain is None or gain.interval is None:
        return "-" if gain is None else f"{gain.difference:+.3f}"
    return f"{gain.difference:+.3f} [{gain.interval[0]:+.3f}, {gain.interval[1]:+.3f}]"


def print_comparison(scores: Mapping[str, Scores]) -> None:
    """Several forecasters of the same sequences: two tables per class, a line per forecaster."""
    any_scores = next(iter(scores.values()))
    print_scope(any_scores)
    for name, one in any_scores.classes.items():
        if one.counts["cells"]:
            rows = {forecaster: every.classes[name] for forecaster, every in scores.items()}
            _print(_summary_table(name, rows))
            _print(_lead_table(rows, any_scores))


def print_scope(scores: Scores) -> None:
    """What was scored, and by which labels.

    A line more where the forecast has more leads than the truth, or was made from other labels.
    """
    from forecast.schema import protocol_text

    drawn, made_from = protocol_text(scores.protocol), protocol_text(scores.forecast_protocol)
    scope = f"{scores.sequences} sequences from {scores.scenes} scenes, {scores.horizon} leads"
    print(f"{scope}, protocol {drawn}" if scores.protocol else scope)
    if (leads := scores.forecast_horizon or 0) > scores.horizon:
        print(
            f"{leads} leads forecast, {scores.horizon} have truth;"
            f" prepare with --horizon {leads} to score all"
        )
    if scores.forecast_protocol and made_from != drawn:
        print(f"the forecast is of a store of another protocol, {made_from}")


def _summary_table(name: str, rows: Mapping[str, ClassScores]) -> Table:
    """Scores over all leads; skill is of VPQ moving, from constant turn (0) to the ceiling (1)."""
    from forecast.scores import skill

    reference, best = (
        rows[row].vpq_moving if row in rows else None for row in ("constant-turn", "ceiling")
    )
    headers = ["IoU", "VPQ", "VPQ moving", "ADE moving", "skill"]
    table = _titled_table(name, "forecaster", headers)
    for forecaster, one in rows.items():
        table.add_row(
            forecaster,
            _number(one.iou),
            _number(one.vpq),
            _with_interval(one, "vpq_moving"),
            _number(one.ade_moving, " m"),
            _number(skill(one.vpq_moving, reference, best)),
        )
    return table


def _lead_table(rows: Mapping[str, ClassScores], scores: Scores) -> Table:
    last = scores.horizon - 1
    leads = np.unique(np.linspace(0, last, min(last + 1, MOST_LEADS)).round().astype(int)).tolist()
    times = [
        f"lead {lead + 1}" if scores.dt_s is None else f"+{(lead + 1) * scores.dt_s:g} s"
        for lead in leads
    ]
    table = _titled_table("", "IoU at", times)
    for forecaster, one in rows.items():
        table.add_row(forecaster, *(_number(one.iou_by_lead[lead]) for lead in leads))
    return table


def _titled_table(title: str, first: str, headers: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _with_interval(scores: ClassScores, name: str) -> str:
    text = _number(getattr(scores, name))
    interval = scores.interval[name]
    return text if interval is None else f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.3f}{unit}"


def _label(score: str) -> str:
    metres = ", m" if score.startswith(("ade", "fde")) else ""
    quality, _, which = score.partition("_")
    name = {"iou": "IoU"}.get(quality, quality.upper())
    return f"{name} {which}".strip() + metres


def _print(table: Table) -> None:
    # A pipe has no width of its own: tables must not be folded into it.
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)
