"""`forecast rollout`: a store forecast and scored. Nothing slow is imported before it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from forecast.cli.options import InputMode, Overwrite, Resume, Scheduler
from forecast.errors import ConfigError, counted

if TYPE_CHECKING:
    from forecast.workflows import RolloutSummary

Horizon = Annotated[int, typer.Option(help="Steps to forecast.")]
Data = Annotated[
    str | None, typer.Option(help="Sequence store.", show_default="the packaged sample")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint, persistence, constant-velocity, constant-turn,"
        " constant-acceleration, kalman, components-cv, resampled-errors (those that come along,"
        " or resampled-errors:STORE).",
        show_default="the packaged checkpoint",
    ),
]
ForecastStore = Annotated[str, typer.Option(help="Forecast store to write.")]
Gif = Annotated[
    str,
    typer.Option(
        help="Animation to write: three sequences in real time, truth left, forecast right,"
        " a colour per id, or per class where nothing has an id; '' for none."
    ),
]
Mcap = Annotated[
    str | None,
    typer.Option(
        help="ROS 2 bag to write too: predicted objects and occupancy grids (docs/ros.md).",
        show_default="none",
    ),
]
Input = Annotated[
    InputMode, typer.Option("--input", help="Whether the history comes with tracked ids.")
]
Mirror = Annotated[
    bool, typer.Option("--mirror", help="Ask the mirrored scene too: nearer, twice the time.")
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Boxes only: rasters are not read, masks not refined. About three times as fast; what"
        " it costs is in docs/benchmarks.md.",
    ),
]
TeacherForced = Annotated[
    bool,
    typer.Option(
        "--teacher-forced",
        help="Start every lead from the true frames before it. This reads the future, to tell"
        " which errors come from earlier leads (`evaluate --by-lead`).",
    ),
]
Realizations = Annotated[
    int | None,
    typer.Option(
        help="Write so many possible futures too: joint, equally likely (docs/forecast_format.md).",
        show_default="none",
    ),
]
Seed = Annotated[int, typer.Option(help="Of the random numbers of --realizations.")]
RealizationMasks = Annotated[
    bool, typer.Option("--realization-masks", help="Draw the masks of every realization too.")
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many sequences.")]
BatchSize = Annotated[int, typer.Option(help="Sequences at a time.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]
Workers = Annotated[int, typer.Option(help="Local processes.")]
Profile = Annotated[bool, typer.Option("--profile", help="Say where the time went, part by part.")]


def rollout(
    horizon: Horizon = 6,
    data: Data = None,
    model: Model = None,
    output: ForecastStore = "forecast.zarr",
    gif: Gif = "forecast.gif",
    mcap: Mcap = None,
    input_mode: Input = InputMode.tracked,
    mirror: Mirror = False,
    fast: Fast = False,
    teacher_forced: TeacherForced = False,
    realizations: Realizations = None,
    seed: Seed = 0,
    realization_masks: RealizationMasks = False,
    limit: Limit = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    overwrite: Overwrite = False,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    resume: Resume = False,
    profile: Profile = False,
) -> None:
    """Forecast every sequence of a store, and score it where the truth is known."""
    if profile and (workers > 1 or scheduler is not None):
        raise ConfigError("--profile of one process", "several", "leave out the others")
    from forecast.inference.request import RolloutRequest

    request = RolloutRequest(  # checked here, before torch is loaded
        data=data,
        model=model,
        output=output,
        gif=gif or None,
        mcap=mcap,
        horizon=horizon,
        input_mode=input_mode.value,
        mirror=mirror,
        fast=fast,
        teacher_forced=teacher_forced,
        realizations=realizations,
        seed=seed,
        realization_masks=realization_masks,
        limit=limit,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        resume=resume,
    )
    if profile:
        # Torch reads these when it is loaded: what is asked of a GPU is waited for, by whoever
        # asked, and the profiler keeps its own log to itself.
        os.environ |= {"CUDA_LAUNCH_BLOCKING": "1", "KINETO_LOG_LEVEL": "6"}
    from forecast import workflows
    from forecast.cli import console
    from forecast.cli.profile import profiled

    with console.progress("sequences") as progress, profiled(progress, profile) as (told, parts):
        summary = workflows.rollout_to_store(request, told)
    _print(summary)
    console.print_part_times(parts)


def _print(summary: RolloutSummary) -> None:
    from forecast.cli import console, score_tables

    console.print_rollout_summary(summary)
    if crowded := sum(count > 0 for count in summary.left_out):
        console.print_remark(
            f"warning: {counted(crowded, 'sequence')} with more agents than the model has room for:"
            f" {sum(summary.left_out)} in all, the farthest from the ego, are not forecast"
        )
    if summary.one_moment:
        console.print_remark(
            "warning: the history is a single moment: agents are forecast as if they stood"
        )
    if summary.scores:
        score_tables.print_comparison(summary.scores)
