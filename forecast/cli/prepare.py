"""`forecast prepare`: recordings to a sequence store. Nothing slow is imported before it runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from data_tools.presets import preset_names
from forecast.cli.options import Overwrite, Resume, Scheduler

Source = Annotated[str, typer.Argument(help="Kind of recording, e.g. waymo-motion.")]
Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files, directories, globs, URLs or @list.txt."),
]
Store = Annotated[str, typer.Option(help="The sequence store to write: a path or fsspec URL.")]
Grid = Annotated[
    str, typer.Option(help="bev-100m, bev-30m or x_min,x_max,y_min,y_max,resolution in metres.")
]
Centre = Annotated[
    str, typer.Option(help="Its centre: ego, agent:ID, x,y[,yaw] or moving (each that moves).")
]
History = Annotated[int, typer.Option(help="Frames up to and including the present.")]
Horizon = Annotated[int, typer.Option(help="Future frames of truth.")]
Seconds = Annotated[float, typer.Option(help="Seconds between frames.")]
Stride = Annotated[int, typer.Option(help="Start a sequence every so many frames.")]
Phases = Annotated[
    int, typer.Option(help="Frames in a step: with 5, also start sequences 0.1 s apart.")
]
Classes = Annotated[str, typer.Option(help="Classes to keep, in order, with commas between.")]
MapClass = Annotated[
    list[str] | None,
    typer.Option(metavar="NATIVE=CLASS", help="Count a label of the source as a class."),
]
Directions = Annotated[
    bool, typer.Option("--directions", help="Draw the way that lanes lead, for other models.")
]
Protocol = Annotated[
    str, typer.Option(help="Label rules: exact, exact-small, fiery, uniad or powerbev.")
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help=f"Columns of tracks: {', '.join(preset_names())}, or the path of a YAML file.",
    ),
]
SourceSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change one setting of the source."),
]
Workers = Annotated[
    int | None, typer.Option(help="Local worker processes.", show_default="one per core")
]


def prepare(
    source: Source,
    inputs: Inputs,
    output: Store,
    grid: Grid = "bev-100m",
    centre: Centre = "ego",
    history: History = 3,
    horizon: Horizon = 6,
    dt: Seconds = 0.5,
    stride: Stride = 1,
    phases: Phases = 1,
    classes: Classes = "vehicle,pedestrian,cyclist",
    map_class: MapClass = None,
    directions: Directions = False,
    protocol: Protocol = "exact",
    set_: SourceSettings = None,
    preset: PresetName = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn recordings into a sequence store.

    docs/sources.md lists the sources and their --set names; docs/data_format.md says what each of
    them reads, such as the columns of tracks and the arrays of rasters.
    """
    from data_tools.options import PrepareOptions, parse_pair
    from data_tools.prepare import prepare as run
    from forecast.cli import console
    from forecast.grid import BEVGrid

    chosen = PrepareOptions(
        grid=BEVGrid.parse(grid),
        centre=centre,
        history=history,
        horizon=horizon,
        dt_s=dt,
        stride=stride,
        phases=phases,
        classes=tuple(name.strip() for name in classes.split(",")),
        map_classes=tuple(parse_pair(text, "--map-class") for text in map_class or []),
        directions=directions,
        protocol=protocol,
        settings=tuple(parse_pair(text, "--set") for text in set_ or []),
        preset=preset,
        workers=os.cpu_count() or 1 if workers is None else workers,
        scheduler=scheduler,
        resume=resume,
        overwrite=overwrite,
    )
    with console.progress("preparing") as progress:
        report = run(source, inputs, output, chosen, progress)
    console.print_prepare_report(report, output)
