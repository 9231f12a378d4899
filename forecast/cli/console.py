"""What commands show on the terminal: results on stdout, progress and remarks on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from forecast.errors import counted

if TYPE_CHECKING:
    from data_tools.prepare import PrepareReport
    from forecast.cli.profile import PartTime
    from forecast.doctor.checkup import Checkup
    from forecast.doctor.clip import Finding
    from forecast.doctor.leak import LeakReport
    from forecast.export.write import Exported
    from forecast.inspection.costs import LayerCost
    from forecast.inspection.network import ModelSummary, Variant
    from forecast.workflows import RolloutSummary

MEASURES = ("parameters", "multiply-adds", "activations")
MOST_FINDINGS = 8  # lines about one check; the rest is counted
MOST_SKIPPED = 20  # lines about scenes left out; the rest is counted


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
    print_table(table)


def print_parity(done: Exported) -> None:
    """Where an export is, and how far its graphs are from the model."""
    print(f"exported to {done.output}; largest differences over {done.histories} histories:")
    table = Table(box=None, pad_edge=False)
    rows = [
        (kind, slots, found) for kind, own in done.parity.items() for slots, found in own.items()
    ]
    for header in ("format", "agents", *rows[0][2]):
        table.add_column(header, justify="right" if header != "format" else "left")
    for kind, slots, found in rows:
        table.add_row(kind, slots, *(f"{value:.1e}" for value in found.values()))
    print_table(table)


def print_model_summary(summary: ModelSummary) -> None:
    """A network's stages; with variants, these side by side, a star where they differ."""
    print(f"{summary.kind} of {summary.source}, input {_size(summary.own.input)}")
    print_table(_variant_table(summary.variants) if summary.variants else _stage_table(summary.own))
    print(summary.remark)


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


def _costs(stage: LayerCost | None) -> tuple[str, ...]:
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
    """What `forecast prepare` made, what it left out and why, and what can be done about it.

    Whole scenes that are left out are a warning, which a redirected stdout does not hide.
    """
    rate, lost = report.sequences / max(report.seconds, 1e-9), len(report.skipped)
    scenes = counted(report.scenes + lost, "scene")
    print(
        f"{output}: {counted(report.sequences, 'sequence')}"
        f" from {f'{report.scenes} of {scenes}' if lost else scenes}"
        f" in {report.seconds:.1f} s ({rate:.1f} sequences/s)"
    )
    for reason, count in report.notes.items():
        hint = report.hints.get(reason)
        print(f"  {reason}: {count}" + (f"; {hint}" if hint else ""))
    for warning in report.warnings:
        print_remark(f"warning: {warning}")
    if report.absent:
        others = f"; left out are {', '.join(report.left_out)}" if report.left_out else ""
        print_remark(f"warning: there is no agent of class {', '.join(report.absent)}{others}")
    if lost:
        print_remark(f"warning: {lost} {'scene is' if lost == 1 else 'scenes are'} left out:")
    for name, reason in report.skipped[:MOST_SKIPPED]:
        print_remark(f"  {name}: {reason}")
    if (more := lost - MOST_SKIPPED) > 0:
        print_remark(f"  and {more} more")


def print_checkup(checkup: Checkup) -> None:
    """Each check of a store, and the findings of those that found something."""
    print(f"{checkup.store}: {counted(checkup.sequences, 'sequence')} examined")
    for name, findings in checkup.findings.items():
        if findings:
            print(f"  {name}: {counted(len(findings), 'finding')}")
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
        print(f"  {mode} input: {verdict} {joint} {counted(report.sequences, 'sequence')}")
        _print_findings(findings)


def _print_findings(findings: Sequence[Finding]) -> None:
    for finding in findings[:MOST_FINDINGS]:
        print(f"    {finding}")
    if (more := len(findings) - MOST_FINDINGS) > 0:
        print(f"    and {more} more")


def print_rollout_summary(summary: RolloutSummary) -> None:
    """Where the forecast is and how long it took."""
    rate = summary.sequences / max(summary.seconds, 1e-9)
    print(
        f"{counted(summary.sequences, 'sequence')} in {summary.seconds:.1f} s of work"
        f" ({rate:.1f} per second)"
    )
    print(f"forecast: {summary.output}")
    if summary.gif is not None:
        print(f"picture:  {summary.gif}")
    if summary.mcap is not None:
        print(f"messages: {summary.mcap}")


def print_part_times(parts: Sequence[PartTime]) -> None:
    """Where the time went, if that was asked for."""
    if not parts:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("part", no_wrap=True)
    for header in ("seconds", "share", "calls"):
        table.add_column(header, justify="right")
    for one in parts:
        table.add_row(one.part, f"{one.seconds:.3f}", f"{one.share:.1%}", str(one.calls or ""))
    table.add_row("total", f"{sum(one.seconds for one in parts):.3f}", style="bold")
    print_table(table)


def print_table(table: Table) -> None:
    """A table as wide as the terminal."""
    # A pipe has no width of its own: tables must not be folded into it.
    # What is shown comes from files too: [red] is a name there, and no colour.
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(table)
