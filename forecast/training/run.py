"""One training run: from a configuration and two stores to a folder with a checkpoint."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from torch import Tensor

from forecast.checkpoint import save_checkpoint
from forecast.config import Config
from forecast.data.module import SequenceData
from forecast.errors import CheckpointError, TrainingError
from forecast.forecasters import named_checkpoint
from forecast.model.forecaster import Forecaster
from forecast.model.spec import Inputs
from forecast.training.checks import RESUME_FILE, check_run
from forecast.training.module import LOG_EVERY_STEPS, ForecastTraining
from forecast.training.state import KeepState, Recount, SameSettings, StateFile
from forecast.training.watch import Watch
from forecast.weights import load_backbone

# What Lightning tells its programmers, not our users.
LIGHTNING_ADVICE = (
    ".*does not have many workers",
    ".*your dataloader is not resumable",  # ours is: data/module.py
    ".*exists and is not empty",
    ".*LeafSpec",
    ".*Total length of .* across ranks is zero",
    ".*smaller than the logging interval",
    ".*`weights_only`",
    ".*find_unused_parameters=True was specified",
    ".*lr_scheduler.step",
)


def run_training(
    config: Config, data: Sequence[str], val: str | None, output: str, resume: bool
) -> Path:
    """Trains and writes ``output/model.safetensors`` with its JSON, logs and a resume file.

    Args:
        config: What to train and how.
        data: Training sequence stores; their grids may differ, what they show may not, but that
            some may lack the map: theirs is empty.
        val: Validation sequence store, or None.
        output: The run's folder, on a local disk.
        resume: Go on from the folder's last state, exactly; from the start if it has none yet.

    Returns:
        Path of the weights.

    Raises:
        ConfigError: The folder is a URL, or holds a run already and ``resume`` is off, or there is
            no training for what is configured.
        DataError: A store is unreadable or does not fit.
        TrainingError: The loss or its gradient became non-finite. What was learned before is
            written as if training had ended there.
    """
    check_run(config, data, val, output, resume)
    folder = Path(output)
    state = folder / RESUME_FILE if resume and (folder / RESUME_FILE).is_file() else None
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    pl.seed_everything(config.seed, verbose=False)
    batches = SequenceData(
        data,
        val,
        config.loading.batch_size,
        config.loading.workers,
        config.seed,
        raster_frames=max(stage.past(config.model.history) for stage in config.curriculum),
    )
    training = ForecastTraining(
        _model(config, batches),
        config.curriculum,
        config.loss,
        config.augmentation,
        config.optimisation,
        steps=config.epochs * _steps_per_epoch(batches, config),
        seed=config.seed,
        tracks=config.tracks,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        for advice in LIGHTNING_ADVICE:
            warnings.filterwarnings("ignore", advice)
        trainer = _trainer(config, folder, batches)
        stopped: TrainingError | None = None
        try:
            # Lightning's own file holds optimizer and loop state as a pickle: this run's own.
            trainer.fit(training, batches, ckpt_path=state, weights_only=False)
        except TrainingError as error:
            stopped = error
    weights = folder / "model.safetensors"
    # A run resumed after its last step has been in no stage since.
    training.model.read_memory = training.stage.memory
    if trainer.is_global_zero and trainer.global_step:
        about = _about(config, batches, trainer.global_step, stopped)
        save_checkpoint(training.model, weights, batches.train[0].meta.dt_s, about)
    if stopped is not None:
        raise stopped
    return weights


def _about(
    config: Config, batches: SequenceData, steps: int, stopped: TrainingError | None
) -> dict[str, Any]:
    """What a checkpoint says of its training."""
    about = {
        "config": config.model_dump(mode="json"),
        "data": [reader.meta.source for reader in batches.train],
        "sequences": sum(map(len, batches.train)),
        "steps": steps,
    }
    return about if stopped is None else about | {"stopped": str(stopped)}


def _model(config: Config, batches: SequenceData) -> Forecaster:
    first = batches.train[0]
    inputs = Inputs(first.meta.classes, _map_layers(batches), first.bev_channels)
    if config.initial is None:
        return _untrained(config, inputs)
    named = config.initial
    model = named_checkpoint(named).model
    if not inputs.map_layers:  # a map that nobody has is empty
        inputs = replace(inputs, map_layers=model.inputs.map_layers)
    if model.inputs != inputs:
        raise CheckpointError(
            f"data with what {named} was trained on: {model.inputs}",
            str(inputs),
            "prepare the stores with these classes, map and channels, or leave `initial` out",
        )
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
        assert model.encode is not None  # checked before
        load_backbone(model.encode.backbone, Path(config.backbone_weights))
    return model


class _ProgressBar(RichProgressBar):
    """On stderr, with epochs counted from 1; where that is no terminal, a line for each epoch."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})
        if not Console(stderr=True).is_terminal:
            self.disable()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.is_disabled and trainer.is_global_zero:
            found = self.get_metrics(trainer, pl_module).items()
            metrics = ", ".join(f"{name} {float(value):.3g}" for name, value in found)
            print(f"{self._epoch(trainer.current_epoch)}: {metrics}", file=sys.stderr)

    def _get_train_description(self, current_epoch: int) -> str:
        # Both bars begin at the same column.
        return self._epoch(current_epoch).ljust(len(self.validation_description))

    def _epoch(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1} of {self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """Without the loggers' version, which is no number."""
        metrics: dict[str, Any] = super().get_metrics(trainer, module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


class _Averaging(WeightAveraging):
    """The averaged weights, also of a run that was resumed after its last step."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning leaves out the end of training where nothing is left to train.
        self.on_train_end(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # In validation they are in place already.
        if trainer.training and self._average_model is not None:
            self.on_train_end(trainer, pl_module)


def _trainer(config: Config, folder: Path, batches: SequenceData) -> pl.Trainer:
    name = RESUME_FILE.removesuffix(".ckpt")
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(folder, name, enable_version_counter=False, **{when: count})  # type: ignore[arg-type]
        for when, count in (("every_n_train_steps", config.save_every_steps), ("every_n_epochs", 1))
    ]
    callbacks += [_ProgressBar(), Watch(batches), KeepState(folder / RESUME_FILE)]
    callbacks += [SameSettings(config), Recount()]
    if config.ema_decay:
        callbacks.append(_Averaging(multi_avg_fn=_moving_average(config.ema_decay)))
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        # Stages that do not read the raster leave its encoder without gradients.
        strategy="ddp_find_unused_parameters_true" if config.devices > 1 else "auto",
        precision=config.precision,
        max_epochs=config.epochs,
        limit_train_batches=config.steps_per_epoch or 1.0,
        gradient_clip_val=config.optimisation.clip_norm,
        callbacks=callbacks,
        plugins=[StateFile()],
        logger=[
            CSVLogger(folder, name="", version=_unused(folder, "csv")),
            TensorBoardLogger(folder, name="", version="tensorboard"),
        ],
        log_every_n_steps=LOG_EVERY_STEPS,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )


def _unused(folder: Path, name: str) -> str:
    """``name``, or ``name-2`` and so on: the logger would delete what an interrupted run wrote."""
    names = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
    return next(found for found in names if not (folder / found).exists())


def _moving_average(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average that forgets the first, untrained weights quickly."""

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, weight in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(weight, share)  # in place: what is read is all that it costs
            else:  # how many batches a normalisation has seen
                mean.copy_(weight)

    return average


def _steps_per_epoch(batches: SequenceData, config: Config) -> int:
    steps = len(batches.order(config.devices))
    return min(steps, config.steps_per_epoch or steps)


def _map_layers(batches: SequenceData) -> tuple[str, ...]:
    """Those of the training stores that have a map."""
    return next((reader.map_layers for reader in batches.train if reader.map_layers), ())
