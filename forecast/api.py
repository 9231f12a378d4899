"""The commands as functions, for notebooks and programs; what they call is loaded when called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from data_tools.report import PrepareReport
    from forecast.config.config import Config
    from forecast.training.run import Trained

StorePath = str | Path


def open_sequences(path: StorePath) -> xr.Dataset:
    """Opens a sequence store lazily, e.g. to look at or to plot it.

    Args:
        path: Local path or fsspec URL.

    Raises:
        DataError: It is missing, not zarr, of another schema or lacks a variable.
    """
    from forecast.storage.stores import open_sequence_store

    return open_sequence_store(str(path))[0]


def open_forecast(path: StorePath) -> xr.Dataset:
    """Opens a forecast store lazily.

    Args:
        path: Local path or fsspec URL.

    Raises:
        DataError: It is missing, not zarr, of another schema or lacks a variable.
    """
    from forecast.storage.stores import open_forecast_store

    return open_forecast_store(str(path))


def prepare(
    source: str, inputs: StorePath | Sequence[StorePath], output: StorePath, **options: Any
) -> PrepareReport:
    """Turns recordings into a sequence store, as `forecast prepare` does.

    Args:
        source: Kind of recording, such as "tracks"; `forecast prepare --help` lists them.
        inputs: Files, directories, globs, URLs or ``@list.txt``, as the source understands them.
        output: Where the store goes: local path or fsspec URL.
        **options: Of :class:`data_tools.options.PrepareOptions`, such as ``history=3``.

    Raises:
        ForecastError: An option is out of range, an input cannot be read, or the output cannot be
            written or is there already.
    """
    from data_tools.options import PrepareOptions
    from data_tools.prepare import prepare as run

    return run(source, _texts(inputs), str(output), PrepareOptions(**options))


def train(
    config: Config | StorePath | None,
    data: StorePath | Sequence[StorePath],
    output: StorePath,
    val: StorePath | None = None,
    resume: bool = False,
    set: Sequence[str] = (),
) -> Trained:
    """Trains a forecaster, as `forecast train` does.

    Args:
        config: A configuration, the path of a YAML file, or None for the defaults.
        data: Sequence stores to learn from.
        output: Folder of the run: checkpoints and logs.
        val: Sequence store to validate on.
        resume: Whether to go on where a run stopped.
        set: Changes of a YAML file's settings, such as ``"optimisation.learning_rate=0.0003"``.

    Raises:
        ForecastError: A setting is not admitted, a store cannot be read or does not fit, the
            folder holds a run already, or the training failed.
    """
    from forecast.config.config import Config, load_config
    from forecast.errors import ConfigError
    from forecast.workflows import train as run

    if not isinstance(config, Config):
        config = load_config(None if config is None else str(config), list(set))
    elif set:
        raise ConfigError("`set` with a YAML file", "a Config", "make the Config as it shall be")
    val = None if val is None else str(val)
    return run(config, _texts(data), val, str(output), resume)


def _texts(paths: StorePath | Sequence[StorePath]) -> list[str]:
    return [str(paths)] if isinstance(paths, (str, Path)) else [str(path) for path in paths]
