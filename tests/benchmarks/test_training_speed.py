"""A step of Lightning's loop against the bare network, and what of it is waiting for data.

``make benchmark DATA=train.zarr`` prints one line of JSON for each. The loop is that of `forecast
train`; the bare network does forward, backward and the optimizer's step on the very same batches,
kept in memory. They take turns, so that a busy machine is as busy for each; pytest-benchmark's own
seconds are those of a whole turn, Lightning's beginning and end included. DEVICE=cuda, BATCH=32 and
WORKERS=4 measure there, in batches of so many that so many processes read.
"""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from pytorch_lightning.profilers import SimpleProfiler
from torch import Generator

from forecast.config.config import load_config
from forecast.data.reader import SequenceReader, collate
from forecast.training import run
from forecast.training.module import ForecastTraining
from forecast.training.step_kind import StepKind
from forecast.types import BEVSequence
from tests.support.benchmarking import device, finished, min_median_max, rate, report, store

pytestmark = pytest.mark.benchmark
BATCH, STEPS, WARM, TURNS = int(os.environ.get("BATCH", "8")), 16, 4, 3
FETCH = "[_TrainingEpochLoop].train_dataloader_next"


class Loop(pl.Callback):
    """Stops the time of Lightning's steps, and keeps the batches that they were given."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.batches: list[BEVSequence] = []
        self.waits: list[float] = []
        self.module: ForecastTraining | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ForecastTraining)
        self.begun.append(time.perf_counter())
        self.batches.append(batch)
        self.module = pl_module

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.profiler, SimpleProfiler)
        self.waits = trainer.profiler.recorded_durations[FETCH]

    @property
    def steps(self) -> list[float]:
        """From the beginning of one step to that of the next, waiting for data included."""
        return [after - before for before, after in zip(self.begun, self.begun[1:], strict=False)]


def loop(folder: Path, monkeypatch: pytest.MonkeyPatch, raster: str) -> Loop:
    """A short training run as `forecast train` makes it."""
    watch, make = Loop(), run.make_trainer

    def trainer(*arguments: Any) -> pl.Trainer:
        made = make(*arguments)
        made.callbacks.append(watch)  # type: ignore[attr-defined]
        made.profiler = SimpleProfiler()  # type: ignore[attr-defined]
        return made

    workers = os.environ.get("WORKERS", "1")
    settings = [
        "curriculum=[{epochs: 1, horizon: 6}]",
        f"model={{backbone_layers: 3, raster: {raster}}}",
        f"steps_per_epoch={STEPS}",
        f"loading={{batch_size: {BATCH}, workers: {workers}}}",
        f"accelerator={'gpu' if device().type == 'cuda' else device().type}",
    ]
    copies = -(-STEPS // max(1, len(SequenceReader(store())) // BATCH))
    with monkeypatch.context() as patched:
        patched.setattr(run, "make_trainer", trainer)
        run.run_training(load_config(None, settings), [store()] * copies, None, str(folder), False)
    return watch


def bare(module: ForecastTraining, batches: list[BEVSequence]) -> list[float]:
    """Seconds of forward, backward and the optimizer's step on each batch."""
    module = copy.deepcopy(module).to(batches[0].ego_pose.device).train()
    optimizer = torch.optim.AdamW(module.parameters(), 1e-4)
    seconds = []
    for batch in batches:
        finished()
        began = time.perf_counter()
        parts = module._losses(batch, StepKind(6), Generator())
        optimizer.zero_grad()
        torch.stack(tuple(parts.values())).sum().backward()
        optimizer.step()
        finished()
        seconds.append(time.perf_counter() - began)
    return seconds


def test_reading(benchmark: BenchmarkFixture) -> None:
    reader = SequenceReader(store())
    size = min(BATCH, len(reader) // 2)
    starts = range(0, min(len(reader) - size + 1, 10 * size), size)

    def read(start: int) -> BEVSequence:
        return collate([reader[start + index] for index in range(size)])

    rate(benchmark, "data loader, one process", read, starts, per=size)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("raster", ["detection", "always"])
def test_a_training_step(
    benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raster: str
) -> None:
    steps: list[float] = []
    pure: list[float] = []
    waits: list[float] = []

    def turn(number: int) -> None:
        watch = loop(tmp_path / str(number), monkeypatch, raster)
        assert watch.module is not None
        steps.extend(watch.steps[WARM:])
        # Before each but the first of these steps, and before the one that ends the last of them.
        waits.extend(watch.waits[WARM + 1 : STEPS])
        pure.extend(bare(watch.module, watch.batches)[WARM : STEPS - 1])

    numbers = iter(range(TURNS + 1))
    benchmark.pedantic(turn, setup=lambda: ((next(numbers),), {}), rounds=TURNS)
    report(
        benchmark,
        f"training step, raster: {raster}, batch {BATCH}",
        sequences_per_s=min_median_max([BATCH / seconds for seconds in steps]),
        seconds_in_the_loop=min_median_max(steps),
        seconds_of_the_bare_network=min_median_max(pure),
        bare_network_share=round(sum(pure) / sum(steps), 3),
        waiting_for_data_share=round(sum(waits) / sum(steps), 4),
    )
