"""Rollouts per second with the packaged model: one sequence after the other, and in batches.

``make benchmark DATA=val.zarr`` prints one line of JSON for each and pytest-benchmark's table;
DEVICE=cuda and BATCH=32 measure there, and in batches of so many.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader
from forecast.loop import StepModel, rollout
from forecast.model.detected_input import Detecting
from forecast.types import BEVSequence, StepForecast
from tests.support.benchmarking import (
    device,
    finished,
    histories,
    min_median_max,
    rate,
    report,
    store,
)
from tests.support.measure import Cost
from tests.support.rollouts import agents_of

pytestmark = pytest.mark.benchmark
KINDS = ("tracked", "tracked, with raster", "detected")
STEPS = 6
AGENTS = 64  # most at present, where one sequence is forecast at a time
SINGLE, BATCHES, BATCH = 60, 8, int(os.environ.get("BATCH", "8"))


@pytest.fixture(scope="module")
def reader() -> SequenceReader:
    return SequenceReader(store())


def model(kind: str) -> StepModel[Any, StepForecast]:
    forecaster = load_checkpoint(packaged("model.safetensors")).model.to(device())
    if kind == KINDS[1]:
        forecaster.use(replace(forecaster.spec, raster="always"))
    return Detecting(forecaster) if kind == "detected" else forecaster


def forecast(stepper: StepModel[Any, StepForecast], history: BEVSequence, steps: int) -> None:
    """Every step, masks drawn; none is kept."""
    with torch.inference_mode():
        for _ in rollout(stepper, history, steps):
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_at_a_time(
    benchmark: BenchmarkFixture, reader: SequenceReader, kind: str
) -> None:
    found = histories(reader, 1, SINGLE)
    few = [one for one in found if int(agents_of(one, 10_000).live.sum()) <= AGENTS]
    stepper = model(kind)
    rate(
        benchmark,
        f"rollout of {STEPS} steps, {kind}, batch 1, up to {AGENTS} agents",
        lambda history: forecast(stepper, history, STEPS),
        few,
        per=1,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_in_batches(benchmark: BenchmarkFixture, reader: SequenceReader, kind: str) -> None:
    size = min(BATCH, len(reader) // 2)  # a small store still has two of them
    stepper = model(kind)
    rate(
        benchmark,
        f"rollout of {STEPS} steps, {kind}, batch {size}",
        lambda history: forecast(stepper, history, STEPS),
        histories(reader, size, BATCHES),
        per=size,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [6, 24, 96])
def test_any_horizon(
    benchmark: BenchmarkFixture, reader: SequenceReader, kind: str, steps: int
) -> None:
    """Time is linear in the horizon beyond the start, and memory does not grow with it."""
    stepper, (history, *_) = model(kind), histories(reader, min(BATCH, len(reader)), 1)
    forecast(stepper, history, STEPS)
    peaks: list[float] = []

    def measure() -> None:
        cost = Cost()
        forecast(stepper, history, steps)
        finished()
        peaks.append(cost.so_far()[1] or float("nan"))

    benchmark.pedantic(measure, rounds=3)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.data
        label = f"rollout of {steps} steps, {kind}, batch {history.batch}"
        report(
            benchmark,
            label,
            seconds=min_median_max(seconds),
            peak_mib_above_start=min_median_max(peaks),
        )
