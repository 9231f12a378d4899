"""Curves in panels: how scores change with a level or a lead, and how probabilities come true."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forecast.storage.atomic import staged_file
from forecast.visualization.colours import FAINT, GROUND, INK, PAPER, Colour

PANEL_INCHES = (3.4, 3.2)
# Okabe and Ito's colours, which the colour-blind tell apart too; their black is no colour on dark
# ground. Lines differ by their marks as well.
OWN = (230, 159, 0)
OTHERS = (
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
MARKS = "sD^vPX"
MOST_MARKS = 24


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        x: Ascending or not.
        y: A value for each; None = unknown.
        interval: Low and high of each value, where they are known.
    """

    x: Sequence[float | None]
    y: Sequence[float | None]
    interval: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Above it.
        x: What the horizontal axis is.
        y: What the vertical one is.
        lines: By name.
        diagonal: Whether there is a line from 0, 0 to 1, 1, on which both axes are equal.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Line]
    diagonal: bool = False


def write_panels(
    paths: Sequence[str],
    rows: Sequence[Sequence[Panel]],
    accent: str,
    *,
    overwrite: bool = False,
) -> None:
    """Draws rows of panels with one legend; panels of a row share their vertical axis.

    Args:
        paths: Of the pictures, each of the format that its name ends in: ``.png`` or ``.svg``.
        rows: As many panels in each, at least one; all with lines of the same names.
        accent: The line that stands out.
        overwrite: Whether to replace what is there.

    Raises:
        DataError: A path exists or cannot be written.
    """
    from matplotlib import rc_context  # takes long to load
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    size = width * len(rows[0]), height * len(rows) + 0.5
    figure = Figure(size, layout="constrained", facecolor=_shade(PAPER))
    axes = figure.subplots(len(rows), len(rows[0]), sharey="row", squeeze=False)
    for row, panels in zip(axes, rows, strict=True):
        for place, (axis, panel) in enumerate(zip(row, panels, strict=True)):
            _draw(axis, panel, accent, with_y=place == 0)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=min(len(names), 2 * len(rows[0])),
        frameon=False,
        labelcolor=_shade(INK),
    )
    # Text of an SVG stays text, and the same numbers make the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "forecast"}):
        for path in paths:
            kind = path.rpartition(".")[2].lower()
            picture, dated = io.BytesIO(), {"Date": None} if kind == "svg" else None
            figure.savefig(picture, format=kind, dpi=110, metadata=dated)
            with staged_file(path, overwrite=overwrite) as file:
                file.write(picture.getvalue())


def _draw(axis: Any, panel: Panel, accent: str, with_y: bool) -> None:
    axis.set_facecolor(_shade(GROUND))
    axis.set_title(panel.title, color=_shade(INK))
    axis.set_xlabel(panel.x, color=_shade(FAINT))
    if with_y:
        axis.set_ylabel(panel.y, color=_shade(INK))
    axis.tick_params(colors=_shade(FAINT))
    axis.grid(color=_shade(FAINT), alpha=0.2)
    if panel.diagonal:
        axis.plot([0, 1], [0, 1], "--", color=_shade(FAINT), lw=1)
    others = [name for name in panel.lines if name != accent]
    for name, line in panel.lines.items():
        mine = name == accent
        number = 0 if mine else others.index(name) % len(OTHERS)
        colour, mark = (OWN, "o") if mine else (OTHERS[number], MARKS[number])
        width = 2.5 if mine else 1.2
        # Marks of a long line would hide it.
        every = max(len(line.x) // MOST_MARKS, 1)
        style = {
            "markevery": every,
            "color": _shade(colour),
            "label": name,
            "lw": width,
            "ms": width + 2,
        }
        axis.plot(_known(line.x), _known(line.y), f"{mark}-", zorder=3 if mine else 2, **style)
        if line.interval:
            low, high = (_known([end and end[k] for end in line.interval]) for k in (0, 1))
            axis.fill_between(_known(line.x), low, high, color=_shade(colour), alpha=0.2, lw=0)


def _known(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _shade(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue
