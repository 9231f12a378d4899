"""`forecast inspect`: says what can be set, what a network is made of and what a store holds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from forecast.cli.options import AsJson, Changes, DrawnLayer, Overwrite
from forecast.errors import ConfigError

inspect_app = typer.Typer(
    no_args_is_help=True, help="Say what a configuration, a model or a store holds."
)


@inspect_app.command("config")
def inspect_config(
    config: Annotated[
        str | None,
        typer.Argument(help="Configuration to complete.", show_default=False),
    ] = None,
    set_: Changes = None,
) -> None:
    """Print every setting of a training run with its type, value and meaning, as YAML.

    Without CONFIG these are the defaults. What it prints is a configuration itself.
    """
    from forecast.config.config import load_config
    from forecast.config.listing import annotated_yaml

    typer.echo(annotated_yaml(load_config(config, set_ or [])), nl=False)


@inspect_app.command("model")
def inspect_model(
    config: Annotated[
        str, typer.Argument(help="Configuration, checkpoint or folder of a run.", metavar="CONFIG")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Size of a frame, e.g. 3x800x1204.",
            show_default="800x1204 for detectors, 200x200 for forecasters",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option("--vary", metavar="KEY=A,B", help="Put variants side by side; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model is made of: each stage's shape, parameters and cost."""
    from forecast.cli import console
    from forecast.inspection import network

    found = network.describe_model(config, size, vary or [])
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        console.print_model_summary(found)


@inspect_app.command("store")
def inspect_store(
    store: Annotated[str, typer.Argument(help="Sequence store or forecast store.")],
    forecast: Annotated[
        str | None, typer.Option(help="Forecast store made from STORE, drawn beside the truth.")
    ] = None,
    sequence: Annotated[
        int | None,
        typer.Option(help="Which to draw.", show_default="0; twelve of them in the page"),
    ] = None,
    png: Annotated[str | None, typer.Option(help="Picture to write.")] = None,
    gif: Annotated[str | None, typer.Option(help="Animation to write.")] = None,
    html: Annotated[
        str | None, typer.Option(help="Page to write: slide through time, switch layers.")
    ] = None,
    layer: Annotated[
        DrawnLayer,
        typer.Option(
            help="What is drawn of the forecast: its label maps, the probability that a cell is"
            " taken, or the label maps over it. The page shows it first and can switch."
        ),
    ] = DrawnLayer.labels,
    overwrite: Overwrite = False,
) -> None:
    """Say what a sequence store or forecast store holds, and draw it."""
    from forecast.cli import console
    from forecast.inspection import store as inspection

    if layer is not DrawnLayer.labels and forecast is None:
        raise ConfigError(f"--forecast for --layer {layer.value}", "none", "name a forecast store")
    if png or gif or html:
        from forecast.visualization import page

        drawing = page.Drawing(
            store, forecast, sequence, png=png, gif=gif, html=html, layer=layer.value
        )
        page.draw_store(drawing, overwrite)
    elif forecast is not None or sequence is not None:
        raise ConfigError("--png, --gif or --html", "none of them", "name a file to draw to")
    console.print_facts(inspection.describe_store(store))
    for written in filter(None, (png, gif, html)):
        typer.echo(f"wrote {written}")
