"""What options of the command line may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one setting; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Scheduler = Annotated[
    str | None, typer.Option(help="A Dask cluster to use instead, e.g. tcp://host:8786.")
]


class InputMode(StrEnum):
    """What the forecaster may read of the history."""

    tracked = "tracked"
    detected = "detected"


class DrawnLayer(StrEnum):
    """What is drawn of a forecast."""

    labels = "labels"
    probability = "probability"
    both = "both"


class Question(StrEnum):
    """By what `forecast evaluate` takes errors apart."""

    class_ = "class"
    lead = "lead"
    speed = "speed"
    manoeuvre = "manoeuvre"
    seen = "seen"
    distance = "distance"
