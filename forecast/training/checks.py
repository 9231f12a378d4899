"""Checks of a training run before anything slow is loaded: settings, folder, stores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from forecast.checkpoint.metadata import is_checkpoint
from forecast.checkpoint.packaged import PACKAGED
from forecast.config.config import Config, refuse_detector
from forecast.errors import CheckpointError, ConfigError, DataError
from forecast.schema import SequenceMeta, protocol_text
from forecast.storage.atomic import refuse_unwritable
from forecast.storage.stores import open_sequence_store

RESUME_FILE = "last.ckpt"


def check_run(
    config: Config, data: Sequence[str], val: str | None, output: str, resume: bool
) -> None:
    """Refuses what can be checked quickly and without torch.

    Args:
        config: What to train and how.
        data: Training sequence stores.
        val: Validation sequence store, or None.
        output: The run's folder.
        resume: Whether to go on with what is there.

    Raises:
        ConfigError: The folder is a URL, or holds a run already and ``resume`` is off, or there is
            no training for what is configured.
        CheckpointError: What to start from is not there.
        DataError: A store is unreadable or does not fit.
    """
    refuse_detector(config)
    _check_folder(output, resume)
    _check_curriculum(config)
    _check_start(config)
    train = [_Store(path, *open_sequence_store(path)) for path in data]
    every = train if val is None else [*train, _Store(val, *open_sequence_store(val))]
    for store in every:
        _check_fit(store, config)
    for store in train:
        if not store.data.sizes["sequence"]:
            raise DataError("at least one sequence", f"none in {store.path}", "prepare more data")
    layers = next((store.meta.map_layers for store in train if store.meta.map_layers), ())
    for store in every:
        _check_alike(every[0], layers, store)


class _Store(NamedTuple):
    """A sequence store that is open, with its path for messages."""

    path: str
    data: xr.Dataset
    meta: SequenceMeta


def _check_folder(output: str, resume: bool) -> None:
    if "://" in output:
        raise ConfigError(
            "a folder on a local disk for --output", output, "train there, then copy the folder"
        )
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError("a folder for --output", f"the file {folder}", "choose another name")
    refuse_unwritable(str(folder / RESUME_FILE))
    if not resume and any((folder / name).exists() for name in (RESUME_FILE, "model.safetensors")):
        raise ConfigError(
            "a new folder for --output",
            f"{folder}, which holds a run",
            "add --resume to go on with it, or choose another folder",
        )


def _check_curriculum(config: Config) -> None:
    if config.model.raster == "none" and any(stage.detected for stage in config.curriculum):
        raise ConfigError(
            "model.raster: detection or always where stages hide the ids",
            "model.raster: none and a stage with detected above 0",
            "set model.raster, or detected: 0 in the curriculum",
        )
    if config.curriculum[-1].frame_stride != 1:
        raise ConfigError(
            "a last stage with frame_stride 1, whose step is the store's",
            f"frame_stride {config.curriculum[-1].frame_stride}",
            "end the curriculum with a stage of frame_stride 1",
        )


def _check_start(config: Config) -> None:
    """The weights to start from exist, as far as their paths tell."""
    if config.initial is not None and config.backbone_weights is not None:
        raise ConfigError("initial or backbone_weights", "both", "leave one of them out")
    weights = config.backbone_weights
    if weights is not None and config.model.raster == "none":
        raise ConfigError(
            "backbone_weights for a model that reads the raster",
            "model.raster: none",
            "leave out backbone_weights or set model.raster: always",
        )
    if weights is not None and not Path(weights).is_file():
        raise ConfigError("a file for backbone_weights", repr(weights), "correct it")
    if config.initial not in (None, PACKAGED) and not is_checkpoint(Path(str(config.initial))):
        raise CheckpointError(
            f"a *.safetensors file, a run's folder or {PACKAGED} for `initial`",
            repr(config.initial),
            "correct it",
        )


def _check_fit(store: _Store, config: Config) -> None:
    """The store has the frames and tracks that the curriculum learns from."""
    history, meta = store.meta.history, store.meta
    # Frames beyond the store's present; a frame_stride moves a stage's own present further on.
    longest = max(stage.frames(history) for stage in config.curriculum) - history
    if meta.horizon < longest:
        raise DataError(
            f"a horizon of at least {longest}",
            f"{meta.horizon} in {store.path}",
            "prepare the store anew, or change the curriculum's horizons and frame_strides",
        )
    variables = set(map(str, store.data.variables))
    if not {"track_state", "track_class"} <= variables:
        raise DataError(
            "a store with track_state and track_class to learn motion from",
            f"{', '.join(sorted(variables))} in {store.path}",
            "prepare it from a source with tracks",
        )


def _check_alike(first: _Store, layers: tuple[str, ...], other: _Store) -> None:
    """Two stores show the same; one of them may have no map."""
    for what, wanted, found in (
        ("classes", first.meta.classes, other.meta.classes),
        ("map layers (or no map)", layers, other.meta.map_layers or layers),
        ("bev channels", *(one.data.sizes.get("channel", 0) for one in (first, other))),
        ("history", first.meta.history, other.meta.history),
        ("protocol", protocol_text(first.meta.protocol), protocol_text(other.meta.protocol)),
    ):
        if wanted != found:
            raise DataError(
                f"{what} {wanted or 'none'} in all stores",
                f"{found or 'none'} in {other.path}",
                "prepare them with the same options",
            )
