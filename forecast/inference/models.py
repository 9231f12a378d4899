"""The forecaster that was asked for: a baseline or a checkpoint, made to fit a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from forecast.checkpoint.checkpoint import Checkpoint, named_checkpoint
from forecast.checkpoint.packaged import PACKAGED
from forecast.data.reader import SequenceReader
from forecast.errors import ConfigError, DataError
from forecast.inference.request import InputMode, check_model
from forecast.loop import StepModel
from forecast.model.baselines import Baseline, Components
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.mirrored import Mirrored
from forecast.model.spec import BASELINES, COMPONENTS
from forecast.types import BEVSequence, StepForecast

Model = StepModel[Any, StepForecast]


def load_model(
    name: str | None,
    reader: SequenceReader,
    device: torch.device,
    input_mode: InputMode = "tracked",
    mirror: bool = False,
) -> tuple[Model, dict[str, Any]]:
    """The model that was asked for, made to fit the store, and what a forecast store says of it.

    Args:
        name: Baseline's name or checkpoint; None = the packaged checkpoint.
        reader: The store.
        device: Where a checkpoint computes.
        input_mode: Whether the history's ids are read.
        mirror: Whether the forecast is averaged with that of the mirrored scene.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The model cannot read this kind of input.
        DataError: The store does not offer what the model was trained on.
    """
    check_model(name, input_mode, mirror)
    classes = len(reader.meta.classes)
    if name == COMPONENTS:
        return Components(classes), {"model": COMPONENTS}
    for baseline in BASELINES:
        if name == baseline:
            return Baseline(baseline, classes), {"model": name}
    name = name or PACKAGED
    checkpoint = named_checkpoint(name)
    _check_fit(checkpoint, reader)
    forecaster = checkpoint.model.to(device)
    about = {
        "model": name,
        "mirrored": mirror,
        "checkpoint_sha256": checkpoint.hash,
        "queries": forecaster.spec.queries,
        "config": checkpoint.training.get("config", {}),
    }
    layers = forecaster.inputs.map_layers
    model = _reading(forecaster, input_mode, mirror)
    return _WithLayers(model, reader.meta.map_layers, layers), about


def _reading(forecaster: Forecaster, input_mode: InputMode, mirror: bool) -> Model:
    """The forecaster, given the input that was asked for."""
    if input_mode == "detected":
        return Detecting(forecaster)
    return Mirrored(forecaster) if mirror else forecaster


class _WithLayers:
    """A model that is given the map layers it knows, by name; layers the store lacks are empty."""

    def __init__(self, model: Model, have: tuple[str, ...], want: tuple[str, ...]) -> None:
        self.model = model
        self.index = [have.index(name) if name in have else -1 for name in want]

    def start(self, history: BEVSequence) -> Any:
        if history.map is not None:
            found = history.map.unbind(1)
            empty = history.map.new_zeros(history.batch, *history.grid.shape)
            layers = [found[index] if index >= 0 else empty for index in self.index]
            history = replace(history, map=torch.stack(layers, 1) if layers else None)
        return self.model.start(history)

    def step(self, state: Any) -> tuple[Any, StepForecast]:
        return self.model.step(state)


def choose_device(name: str) -> torch.device:
    """The device by name; "auto" is CUDA where there is one.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "a device that torch has here, such as cpu", repr(name), "change --device"
        ) from error
    return device


def _check_fit(checkpoint: Checkpoint, reader: SequenceReader) -> None:
    model, meta = checkpoint.model, reader.meta
    for what, wanted, found in (
        ("classes", model.inputs.classes, meta.classes),
        ("history", model.spec.history, meta.history),
        ("dt_s", checkpoint.dt_s, meta.dt_s),
        ("bev channels", model.inputs.bev_channels, reader.bev_channels),
    ):
        if wanted != found:
            raise DataError(
                f"{what} {wanted}, as the model was trained with",
                f"{found} in {reader.path}",
                "prepare the data alike, or use another checkpoint",
            )
