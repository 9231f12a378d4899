"""What options of the command line may be."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from forecast.errors import ConfigError

Resume = Annotated[bool, typer.Option("--resume", help="Go on where a run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there already.")]
Scheduler = Annotated[
    str | None, typer.Option(help="A Dask cluster to use instead, e.g. tcp://host:8786.")
]


class InputMode(StrEnum):
    """What the forecaster may read of the history."""

    tracked = "tracked"
    detected = "detected"


class Question(StrEnum):
    """By what `forecast evaluate` takes errors apart."""

    class_ = "class"
    lead = "lead"
    speed = "speed"
    manoeuvre = "manoeuvre"
    seen = "seen"
    distance = "distance"


def check_counts(**options: int | None) -> None:
    """Refuses counts below one, before anything slow is loaded."""
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is not None and value < 1:
            raise ConfigError(f"{option} of at least 1", str(value), f"change {option}")
