"""The trainer of a run: what it saves, shows and watches beside the steps themselves."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar, WeightAveraging
from rich.console import Console
from torch import Tensor

from forecast.config.config import Config
from forecast.data.module import SequenceData
from forecast.training.checks import RESUME_FILE
from forecast.training.logs import loggers
from forecast.training.module import LOG_EVERY_STEPS
from forecast.training.query_spread import QuerySpread
from forecast.training.state import KeepState, Recount, SameSettings, StateFile
from forecast.training.watch import Watch

# Lightning's advice to programmers, which our users do not need.
LIGHTNING_ADVICE = (
    ".*does not have many workers",
    ".*your dataloader is not resumable",  # ours is: data/module.py
    ".*exists and is not empty",
    ".*LeafSpec",
    ".*Total length of .* across ranks is zero",
    ".*`weights_only`",
    ".*find_unused_parameters=True was specified",
    ".*lr_scheduler.step",
    ".*The dirpath has changed",  # of a folder that was moved
)


def written(metrics: Mapping[str, Any]) -> str:
    """Metrics in a line."""
    return ", ".join(f"{name} {float(value):.3g}" for name, value in metrics.items())


@contextmanager
def without_advice() -> Iterator[None]:
    """Hides Lightning's advice to programmers."""
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for advice in LIGHTNING_ADVICE:
            warnings.filterwarnings("ignore", advice)
        yield


def steps_per_epoch(config: Config, batches: SequenceData) -> int:
    """Optimizer steps of an epoch."""
    steps = len(batches.order(config.devices))
    return min(steps, config.steps_per_epoch or steps)


def make_trainer(
    config: Config, folder: Path, batches: SequenceData, recount: Recount
) -> pl.Trainer:
    """The trainer of a run.

    Args:
        config: What to train and how.
        folder: The run's own, for its state and logs.
        batches: What it is trained on.
        recount: Counts what a resumed run has done.
    """
    name = RESUME_FILE.removesuffix(".ckpt")
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(folder, name, enable_version_counter=False, **{when: count})  # type: ignore[arg-type]
        for when, count in (("every_n_train_steps", config.save_every_steps), ("every_n_epochs", 1))
    ]
    callbacks += [_ProgressBar(), Watch(batches), QuerySpread(), KeepState(folder / RESUME_FILE)]
    callbacks += [SameSettings(config), recount]
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
        logger=loggers(folder),
        # An epoch shorter than that logs its last step.
        log_every_n_steps=min(LOG_EVERY_STEPS, steps_per_epoch(config, batches)),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
    )


class _ProgressBar(RichProgressBar):
    """On stderr, with epochs counted from 1; where that is no terminal, a line for each epoch."""

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})
        if not Console(stderr=True).is_terminal:
            self.disable()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.is_disabled and trainer.is_global_zero:
            metrics = self.get_metrics(trainer, pl_module)
            print(f"{self._epoch(trainer.current_epoch)}: {written(metrics)}", file=sys.stderr)

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
    """Averages weights, also in a run that was resumed after its last step."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning skips on_train_end where nothing is left to train.
        self.on_train_end(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # In validation the averaged weights are in place already.
        if trainer.training and self._average_model is not None:
            self.on_train_end(trainer, pl_module)


def _moving_average(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average that forgets the first, untrained weights quickly."""

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, weight in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(weight, share)  # in place: no copy is made
            else:  # how many batches a normalisation has seen
                mean.copy_(weight)

    return average


@contextmanager
def exits_as_interrupts() -> Iterator[None]:
    """Lightning exits with code 1 where it is interrupted: the interrupt itself is raised."""
    try:
        yield
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise exit_.__context__ from None
        raise
