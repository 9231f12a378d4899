"""`forecast train`: a run from a configuration. Nothing slow is imported before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from forecast.cli.options import Changes, Resume


def train(
    config: Annotated[
        str,
        typer.Option(help="YAML such as configs/small.yaml; `inspect config` lists all settings."),
    ],
    data: Annotated[
        list[str], typer.Option(help="Sequence store to learn from; repeat it for several.")
    ],
    output: Annotated[str, typer.Option(help="Directory of the run: checkpoints and logs.")],
    val: Annotated[str | None, typer.Option(help="Sequence store to validate on.")] = None,
    set_: Changes = None,
    resume: Resume = False,
) -> None:
    """Train a forecaster."""
    from forecast.config.config import load_config
    from forecast.training.checks import check_run

    settings = load_config(config, set_ or [])
    check_run(settings, data, val, output, resume)  # before torch is loaded
    from forecast import workflows

    done = workflows.train(settings, data, val, output, resume)
    if not done.first:
        return
    new = done.steps > done.begun
    what = "trained" if new else f"had been trained already, all of its {done.steps} steps"
    typer.echo(f"{output}: {what}; forecast with `forecast rollout --model {output}`")
