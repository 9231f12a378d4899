"""Small trainings on the CPU, and how one is interrupted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from forecast.config.config import Config
from forecast.config.data import Loading
from forecast.config.training import Optimisation, Stage
from forecast.training.module import ForecastTraining
from tests.support.sequences import SMALL

QUICK = Config(
    model=replace(SMALL, raster="none"),
    curriculum=(Stage(1, 1), Stage(1, 2)),
    optimisation=Optimisation(warmup_steps=2),
    loading=Loading(batch_size=2, workers=0),
    save_every_steps=1,
    accelerator="cpu",
)
"""Blind to the raster, which is what takes the time."""

STAGED = Config(
    model=SMALL,
    curriculum=(Stage(1, 1), Stage(1, 1, detected=0.5)),
    optimisation=Optimisation(warmup_steps=2, dropout=0.2),
    loading=Loading(batch_size=2, workers=0),
    save_every_steps=1,
    accelerator="cpu",
)
"""Reads the raster; finds agents in about half of the batches of its second stage."""


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ends the process's training abruptly after some step."""
    original = ForecastTraining.training_step

    def training_step(self: ForecastTraining, batch: Any, index: int) -> Tensor:
        if self.global_step == step:
            raise KeyboardInterrupt
        return original(self, batch, index)

    monkeypatch.setattr(ForecastTraining, "training_step", training_step)
