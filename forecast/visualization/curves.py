"""Curves: how scores change with a level, one panel for each kind of level."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forecast.storage.atomic import staged_file
from forecast.visualization.colours import ACCENT, FAINT, GROUND, INK, PAPER, Colour, id_colour

PANEL_INCHES = (3.4, 3.2)


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What its levels are.
        unit: Of the levels.
        levels: Ascending.
        lines: Name -> value at each level; None = unknown.
    """

    title: str
    unit: str
    levels: Sequence[float]
    lines: Mapping[str, Sequence[float | None]]


def write_curves(
    path: str, panels: Sequence[Panel], score: str, accent: str, *, overwrite: bool = False
) -> None:
    """Draws panels side by side, with one legend.

    Args:
        path: Of the PNG.
        panels: At least one; all with lines of the same names.
        score: What the values are.
        accent: The line that stands out.
        overwrite: Whether to replace what is there.

    Raises:
        DataError: The path exists or cannot be written.
    """
    from matplotlib.figure import Figure  # takes long to load

    width, height = PANEL_INCHES
    figure = Figure((width * len(panels), height + 0.5), layout="constrained")
    figure.set_facecolor(_shade(PAPER))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        axis.set_facecolor(_shade(GROUND))
        axis.set_title(panel.title, color=_shade(INK))
        axis.set_xlabel(panel.unit, color=_shade(FAINT))
        axis.tick_params(colors=_shade(FAINT))
        axis.grid(color=_shade(FAINT), alpha=0.2)
        for number, (name, line) in enumerate(panel.lines.items(), 1):
            mine = name == accent
            known = [float("nan") if value is None else value for value in line]
            colour = ACCENT if mine else id_colour(number)
            width = 2.5 if mine else 1.2
            axis.plot(
                panel.levels, known, "o-", color=_shade(colour), label=name, lw=width, ms=width + 2
            )
        if place == 0:
            axis.set_ylabel(score, color=_shade(INK))
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        labelcolor=_shade(INK),
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    with staged_file(path, overwrite=overwrite) as file:
        file.write(picture.getvalue())


def _shade(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue
