"""The kind of a training step: the same in all processes, and no part of their noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Generator

from forecast.config.data import Augmentation, Corruption
from forecast.config.training import LossWeights, Optimisation, Stage
from forecast.data.corruption import observed
from forecast.training.module import ForecastTraining
from forecast.training.step_kind import StepKind
from forecast.types import BEVSequence
from tests.support.sequences import TRAFFIC, forecaster, sequences


class Recorded(ForecastTraining):
    """Training whose process and step are told, and which only records what it would do."""

    global_rank = global_step = 0
    trainer = SimpleNamespace(log_every_n_steps=1_000)

    def log(self, *_: Any, **__: Any) -> None:
        pass

    def _losses(self, batch: BEVSequence, kind: StepKind, generator: Generator) -> Any:
        assert batch.sample_time is not None
        assert batch.track_state is not None
        self.first_y = float(batch.track_state[0, 0, -1, 1])
        self.drawn = kind, batch.sample_time.shape[1], float(torch.rand((), generator=generator))
        return {"none": torch.zeros((), requires_grad=True)}


def test_processes_draw_the_same_kind_of_step_but_noise_of_their_own() -> None:
    """Each waits for the slowest: none may roll out five times as many steps as the others."""
    how = Augmentation(0.5, 0.0, 0.0, other_rate=0.5, masks_only=0.5, other_step=0.5)
    kinds, samples, mirrored = set(), set(), set()
    task = Recorded(
        forecaster(trained=False),
        (Stage(1, 4, detected=0.3),),
        LossWeights(),
        how,
        Corruption.fixed(),
        Optimisation(),
        history=7,
        dt_s=0.5,
        steps=1,
        seed=0,
    )
    batch = observed(sequences(TRAFFIC, history=7), 7)
    for task.global_step in range(60):
        drawn = []
        for task.global_rank in (1, 0):
            task.training_step(batch, 0)
            drawn.append(task.drawn)
        assert drawn[0][:2] == drawn[1][:2]
        assert drawn[0][2] != drawn[1][2]
        kinds.add(task.drawn[0])
        samples.add(task.drawn[1])
        mirrored.add((task.drawn[0].detected, task.first_y))
    assert len(kinds) > 6
    assert len(samples) > 4
    assert len(mirrored) == 4, "the first process's noise does not go with the kind either"
