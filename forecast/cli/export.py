"""`forecast export`: graphs for other programs. Nothing slow is imported before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from forecast.cli.options import Overwrite
from forecast.errors import ConfigError


def export(
    output: Annotated[str, typer.Option(help="Folder to write.")],
    model: Annotated[
        str, typer.Argument(help="Checkpoint, or `packaged`.", metavar="MODEL")
    ] = "packaged",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx (ONNX Runtime), pt2 (torch.export), aoti (machine code of this CPU, by"
            " AOTInductor), or several, with commas.",
        ),
    ] = "onnx",
    agents: Annotated[
        str, typer.Option(help="Agent slots; graphs are made for each number.")
    ] = "64",
    lane_points: Annotated[
        int, typer.Option(help="Room for lane points, one in a square and direction.")
    ] = 1024,
    data: Annotated[
        str | None,
        typer.Option(
            help="Sequence store whose histories are compared.", show_default="the packaged sample"
        ),
    ] = None,
    histories: Annotated[int, typer.Option(help="How many of them.")] = 10,
    horizon: Annotated[int, typer.Option(help="Steps that are compared.")] = 6,
    overwrite: Overwrite = False,
) -> None:
    """Export a model as graphs with explicit state, compared with the model on real histories."""
    from forecast.export.request import ExportRequest

    request = ExportRequest(
        model=model,
        output=output,
        formats=tuple(part.strip() for part in formats.split(",")),
        slots=_counts(agents),
        points=lane_points,
        data=data,
        histories=histories,
        horizon=horizon,
        overwrite=overwrite,
    )
    from forecast.cli import console
    from forecast.export.write import export as run

    with console.progress("graphs") as progress:
        done = run(request, progress)
    console.print_parity(done)


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            "numbers of agents such as 32,128", repr(text), "correct --agents"
        ) from error
