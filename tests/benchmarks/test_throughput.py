"""How fast things are: `make benchmark DATA=train.zarr`, printed as JSON, one line per stage."""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from forecast.config import load_config
from forecast.data.reader import SequenceReader, collate
from forecast.model.detecting import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.rollout import rollout
from forecast.training.module import ForecastTraining
from forecast.types import BEVSequence

pytestmark = pytest.mark.benchmark
BATCH = 8
ROUNDS = 7


@pytest.fixture(scope="module")
def reader() -> SequenceReader:
    path = os.environ.get("DATA", str(Path("forecast/packaged/sample.zarr")))
    return SequenceReader(path)


@pytest.fixture(scope="module")
def batches(reader: SequenceReader) -> list[BEVSequence]:
    places = range(0, len(reader), max(1, len(reader) // (BATCH * ROUNDS)))
    drawn = [reader[index] for index in places]
    return [collate(drawn[i : i + BATCH]) for i in range(0, len(drawn) - BATCH + 1, BATCH)]


def report(stage: str, work: Callable[[Any], int], rounds: Iterator[Any]) -> None:
    """Sequences per second of each round but the first: min, median, max; and peak memory."""
    rates = []
    for item in rounds:
        began = time.perf_counter()
        rates.append(work(item) / (time.perf_counter() - began))
    counted = rates[1:] or rates
    line = {
        "stage": stage,
        "sequences_per_s": [
            round(value, 2) for value in (min(counted), statistics.median(counted), max(counted))
        ],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line))


def model(reader: SequenceReader, memory: bool) -> Forecaster:
    inputs = Inputs(reader.meta.classes, reader.meta.map_layers)
    return Forecaster(ForecasterSpec(memory=memory, backbone_layers=3), inputs).eval()


def test_reading(reader: SequenceReader) -> None:
    def read(start: int) -> int:
        return collate([reader[i] for i in range(start, min(start + BATCH, len(reader)))]).batch

    report("data loader, one process", read, iter(range(0, min(len(reader), 80), BATCH)))


@pytest.mark.parametrize("memory", [False, True], ids=["without memory", "with memory"])
def test_a_training_step(reader: SequenceReader, batches: list[BEVSequence], memory: bool) -> None:
    config = load_config(None, [])
    training = ForecastTraining(
        model(reader, memory).train(),
        config.curriculum,
        config.loss,
        config.augmentation,
        config.optimisation,
        steps=100,
        seed=0,
    )
    optimizer = torch.optim.AdamW(training.parameters(), 1e-4)

    def step(batch: BEVSequence) -> int:
        parts = training._losses(batch, 6, torch.Generator(), detected=False)
        optimizer.zero_grad()
        torch.stack(tuple(parts.values())).sum().backward()
        optimizer.step()
        return batch.batch

    report(f"training step, {'with' if memory else 'without'} memory", step, iter(batches))


@pytest.mark.parametrize("kind", ["tracked without memory", "tracked", "detected"])
def test_a_rollout_of_six_steps(
    reader: SequenceReader, batches: list[BEVSequence], kind: str
) -> None:
    forecaster = model(reader, memory=kind != "tracked without memory")
    stepper: Any = Detecting(forecaster) if kind == "detected" else forecaster
    history = reader.meta.history

    def forecast(batch: BEVSequence) -> int:
        with torch.inference_mode():
            for _ in rollout(stepper, batch.crop(0, history), 6):
                pass
        return batch.batch

    report(f"rollout of 6 steps, {kind}, batch {BATCH}", forecast, iter(batches))
