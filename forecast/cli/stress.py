"""What `forecast doctor --stress` prints and draws."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from forecast.cli import console
from forecast.errors import ConfigError, counted
from forecast.storage.atomic import refuse_existing, refuse_unwritable

if TYPE_CHECKING:
    from forecast.doctor.stress import StressPoint, StressReport

TITLES = {
    "vpq_moving": "VPQ moving, higher is better",
    "ade_moving": "ADE moving in metres, lower is better",
    "iou": "IoU, higher is better",
}
NOTES = """\
*: who is ahead in VPQ moving, the model or the best baseline; ? if that is not sure, as the
interval includes 0 or there is one scene alone
lead: VPQ moving of the model minus that of the best baseline [95 % interval over scenes]
latency: samples of the tracker's own rate that are not there yet"""


def stress(model: str, data: str | None, limit: int, as_json: bool, png: str | None) -> None:
    """Runs the stress test and shows what it found.

    Raises:
        ForecastError: The picture cannot be written, or the test cannot be made.
    """
    if png is not None:
        if not png.lower().endswith(".png"):
            raise ConfigError("a --png that ends in .png", png, "rename it")
        refuse_existing(png)
        refuse_unwritable(png)
    from forecast.doctor.stress import examine_robustness

    with console.progress("forecasting") as progress:
        report = examine_robustness(model, data, limit=limit, progress=progress)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        print_stress(report)
    if png is not None:
        draw_stress(png, report)
        console.print_remark(f"picture: {png}")


def print_stress(report: StressReport) -> None:
    """A table for each score: the levels of every fault, and each forecaster."""
    print(
        f"{report.model} on {counted(report.sequences, 'sequence')} of"
        f" {counted(report.scenes, 'scene')} in {report.data}, class {report.label}"
    )
    for score, title in TITLES.items():
        console.print_table(_table(report, score, title))
    print(NOTES)


def _table(report: StressReport, score: str, title: str) -> Table:
    judged = score == "vpq_moving"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("fault", no_wrap=True)
    for name in ("", *report.forecasters):
        # Names of baselines are long: a line for each of their words.
        table.add_column(name.replace("-", "-\n"), justify="right", no_wrap=True)
    if judged:
        table.add_column("lead", no_wrap=True)
    for fault, points in groupby(report.points, lambda point: point.fault):
        for place, point in enumerate(points):
            first = winner(point, report.model) if judged else None
            cells = [
                _number(value) + (_mark(point, name == first) if judged else "")
                for name, value in point.scores[score].items()
            ]
            lead = [_lead(point)] if judged else []
            level = f"{point.level:g} {point.unit}"
            table.add_row(fault if place == 0 else "", level, *cells, *lead)
    return table


def winner(point: StressPoint, model: str) -> str | None:
    """Who is ahead at one level; None where no one is."""
    if point.ahead is None or point.ahead.difference == 0:
        return None
    return point.rival if point.ahead.below else model


def _mark(point: StressPoint, first: bool) -> str:
    if point.ahead is None or not first:
        return " "
    return "*" if point.ahead.sure else "?"


def _lead(point: StressPoint) -> str:
    if point.ahead is None:
        return "-"
    text = f"{point.ahead.difference:+.3f}"
    if point.ahead.interval is not None:
        low, high = point.ahead.interval
        text += f" [{low:+.3f}, {high:+.3f}]"
    return text


def draw_stress(path: str, report: StressReport) -> None:
    """VPQ moving by level, a panel for each fault."""
    from forecast.visualization.curves import Line, Panel, write_panels

    panels = []
    for fault, group in groupby(report.points, lambda point: point.fault):
        points = list(group)
        levels = [point.level for point in points]
        lines = {
            name: Line(levels, [point.scores["vpq_moving"][name] for point in points])
            for name in report.forecasters
        }
        score = f"VPQ moving of {report.label}"
        panels.append(Panel(fault, points[0].unit, score, lines))
    write_panels([path], [panels], report.model)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
