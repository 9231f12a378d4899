"""One training run: from a configuration and two stores to a folder with a checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from forecast.checkpoint.checkpoint import named_checkpoint, save_checkpoint
from forecast.checkpoint.published_weights import load_backbone
from forecast.config.config import Config
from forecast.data.module import SequenceData
from forecast.errors import CheckpointError, TrainingError
from forecast.model.forecaster import Forecaster
from forecast.model.spec import Inputs
from forecast.storage.sole_writer import sole_writer
from forecast.storage.stores import open_sequence_store
from forecast.training import origin
from forecast.training.checks import RESUME_FILE, check_run
from forecast.training.module import ForecastTraining
from forecast.training.state import Recount, refusing_another_state
from forecast.training.trainer import (
    exits_as_interrupts,
    make_trainer,
    steps_per_epoch,
    without_advice,
    written,
)

# Settings of a network that change what is used of it, but not its weights.
SWITCHES = (
    "carry_queries",
    "learned_gain",
    "carry_features",
    "warp",
    "read_features",
    "refine_masks",
    "newcomers",
)


@dataclass(frozen=True)
class Trained:
    """What a call of :func:`run_training` left behind.

    Attributes:
        weights: Path of the weights.
        steps: Optimizer steps of the whole run.
        begun: How many of them had been taken before this call, in a run that it resumed.
        first: Whether this process is the one that tells of it, of several that trained together.
    """

    weights: Path
    steps: int
    begun: int
    first: bool = True


def run_training(
    config: Config, data: Sequence[str], val: str | None, output: str, resume: bool
) -> Trained:
    """Trains and writes ``output/model.safetensors`` with its JSON, logs and a resume file.

    Args:
        config: What to train and how.
        data: Training sequence stores; their grids may differ, what they show may not, but that
            some may lack the map: theirs is empty.
        val: Validation sequence store, or None.
        output: The run's folder, on a local disk.
        resume: Go on from the folder's last state, exactly; from the start if it has none yet.

    Returns:
        Where the weights are, and how many steps the run has and had before.

    Raises:
        ConfigError: The folder is a URL, or holds a run already and ``resume`` is off, or there is
            no training for what is configured.
        DataError: A store is unreadable or does not fit.
        TrainingError: The loss or its gradient became non-finite. What was learned before is
            written as if training had ended there.
    """
    check_run(config, data, val, output, resume)
    pl.seed_everything(config.seed, verbose=False)
    batches = _batches(config, data, val)
    training = _training(config, batches)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Processes that train together are one program; Lightning tells the others theirs.
        if os.environ.get("LOCAL_RANK", "0") == "0":
            stack.enter_context(sole_writer(str(folder / RESUME_FILE)))
        return _fit(config, training, batches, folder, resume)


def _fit(
    config: Config, training: ForecastTraining, batches: SequenceData, folder: Path, resume: bool
) -> Trained:
    """Trains what is made, and writes what came of it."""
    state = folder / RESUME_FILE if resume and (folder / RESUME_FILE).is_file() else None
    recount = Recount()
    stopped: TrainingError | None = None
    with without_advice(), exits_as_interrupts():
        trainer = make_trainer(config, folder, batches, recount)
        if config.initial is not None and state is None and batches.val is not None:
            _validate_initial(trainer, training, batches, config.initial)
        try:
            with refusing_another_state(state, recount):
                trainer.fit(training, batches, ckpt_path=state, weights_only=True)
        except TrainingError as error:
            stopped = error
    weights = folder / "model.safetensors"
    training.model.use(training.spec)  # whatever its last stage left out
    if trainer.is_global_zero and trainer.global_step:
        about = _about(config, batches, trainer.global_step, stopped)
        save_checkpoint(training.model, weights, batches.train[0].meta.dt_s, about)
    if stopped is not None:
        raise stopped
    return Trained(weights, trainer.global_step, recount.begun, trainer.is_global_zero)


def _validate_initial(
    trainer: pl.Trainer, training: ForecastTraining, batches: SequenceData, name: str
) -> None:
    """Shows what the run begins with: an epoch that is no better has taught nothing."""
    for found in trainer.validate(training, batches, verbose=False):
        if found and trainer.is_global_zero:  # of a store without sequences, nothing
            print(f"{name}: {written(found)}", file=sys.stderr)


def _batches(config: Config, data: Sequence[str], val: str | None) -> SequenceData:
    _, meta = open_sequence_store(data[0])
    frames = max(stage.past(meta.history) for stage in config.curriculum)
    how = config.loading
    return SequenceData(data, val, how.batch_size, how.workers, config.seed, raster_frames=frames)


def _training(config: Config, batches: SequenceData) -> ForecastTraining:
    return ForecastTraining(
        _model(config, batches),
        config.curriculum,
        config.loss,
        config.augmentation,
        config.corruption,
        config.optimisation,
        history=batches.train[0].meta.history,
        dt_s=max(reader.meta.dt_s for reader in batches.train),
        steps=config.epochs * steps_per_epoch(config, batches),
        seed=config.seed,
        tracks=config.tracks,
    )


def _about(
    config: Config, batches: SequenceData, steps: int, stopped: TrainingError | None
) -> dict[str, Any]:
    """What a checkpoint says of its training."""
    about = {
        "config": config.model_dump(mode="json"),
        "data": [reader.meta.source for reader in batches.train],
        "sequences": sum(map(len, batches.train)),
        "steps": steps,
        "command": origin.command(),
        "commit": origin.commit(),
    }
    return about if stopped is None else about | {"stopped": str(stopped)}


def _model(config: Config, batches: SequenceData) -> Forecaster:
    first = batches.train[0]
    inputs = Inputs(first.meta.classes, _map_layers(batches), first.bev_channels)
    if config.initial is None:
        return _untrained(config, inputs)
    named = config.initial
    model = named_checkpoint(named).model
    if not inputs.map_layers:  # where no store has a map it is empty
        inputs = replace(inputs, map_layers=model.inputs.map_layers)
    if model.inputs != inputs:
        raise CheckpointError(
            f"data with what {named} was trained on: {model.inputs}",
            str(inputs),
            "prepare the stores with these classes, map and channels, or leave `initial` out",
        )
    # The same weights: what is used of them is free.
    free = {name: getattr(config.model, name) for name in SWITCHES}
    if model.spec.has_raster_encoder and config.model.has_raster_encoder:
        free["raster"] = config.model.raster
    model.use(replace(model.spec, **free))
    if model.spec != config.model:
        other = {k: v for k, v in asdict(model.spec).items() if v != getattr(config.model, k)}
        raise CheckpointError(
            f"the network of {named}",
            f"another one in the configuration, by {', '.join(other)}",
            f"set {', '.join(f'model.{name}={value}' for name, value in other.items())}",
        )
    return model.train()


def _untrained(config: Config, inputs: Inputs) -> Forecaster:
    model = Forecaster(config.model, inputs)
    if config.backbone_weights is not None:
        assert model.raster_encoder is not None  # checked before
        load_backbone(model.raster_encoder.backbone, Path(config.backbone_weights))
    return model


def _map_layers(batches: SequenceData) -> tuple[str, ...]:
    """Those of the training stores that have a map."""
    return next((reader.map_layers for reader in batches.train if reader.map_layers), ())
