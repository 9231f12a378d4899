"""Thousands of sequences: forecast and scored by one process and by two, both killed on the way.

``SEQUENCES=10000 make benchmark`` makes it ten thousand (a disk of a few hundred MB). Every process
has one thread for its arithmetic, whether it is one or two of them: torch alone would give a single
process all cores, and the comparison would be of threads with processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import pytest

from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support.commands import Cost, forecast, run
from tests.support.killing import kill_when_there
from tests.support.scenarios import crossing, write
from tests.support.stores import content

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]
COUNT = int(os.environ.get("SEQUENCES", "1000"))
LEARNED = min(COUNT, int(os.environ.get("LEARNED", "1000")))  # of these with the packaged model
EACH = 51  # sequences of a scenario, one every tenth of a second
GRID = "-16,16,-12,12,0.5"
BATCH = 8  # sequences of a rollout at a time


@dataclass(frozen=True)
class Made:
    """A forecast store, and what it took."""

    store: Path
    cost: Cost


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of that many sequences."""
    folder = tmp_path_factory.mktemp("many")
    scenes = folder / "scenes"
    scenes.mkdir()
    for number in range(-(-COUNT // EACH)):
        write(scenes / f"{number:05d}.json", crossing(number))
    store = folder / "many.zarr"
    command = ["prepare", "waymo-json", scenes, "--output", store, f"--grid={GRID}", "--phases=5"]
    cost = run(forecast(*command))
    shutil.rmtree(scenes)
    count = open_sequence_store(str(store))[0].sizes["sequence"]
    assert count >= COUNT
    tell("prepare", count, {1: cost})
    return str(store)


@pytest.fixture(scope="module")
def alone(data: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """The forecasts that one process makes with a model, made once."""
    folder = tmp_path_factory.mktemp("alone")

    @cache
    def forecasts(model: str) -> Made:
        out = folder / f"{model}.zarr"
        return Made(out, run(command(data, model, out, 1)))

    return forecasts


@pytest.mark.parametrize("model", ["constant-turn", "packaged"])
def test_two_processes_make_what_one_makes_in_less_time(
    model: str, data: str, alone: Callable[[str], Made], tmp_path: Path
) -> None:
    made, out = alone(model), tmp_path / "two.zarr"
    count = open_forecast_store(str(made.store)).sizes["sequence"]
    assert count == count_of(model)
    tell(f"rollout, {model}", count, {1: made.cost, 2: run(command(data, model, out, 2))})
    assert content(out) == content(made.store)
    scoring = forecast("evaluate", out, "--data", data, "--json")
    scored = {workers: run([*scoring, f"--workers={workers}"]) for workers in (1, 2)}
    tell(f"evaluate, {model}", count, scored)


def test_a_long_rollout_killed_midway_is_resumed_to_the_same_bytes(
    data: str, alone: Callable[[str], Made], tmp_path: Path
) -> None:
    out, partial, half = tmp_path / "out.zarr", tmp_path / "out.zarr.partial", COUNT // BATCH // 2
    killed = command(data, "constant-turn", out, 2)
    kill_when_there(killed, "records/*.json", partial, half, patience_s=COUNT, every_s=0.5)
    cost = run([*killed, "--resume"])
    tell("the rest of a rollout killed at half, constant-turn", COUNT - half * BATCH, {2: cost})
    assert content(out) == content(alone("constant-turn").store)


def test_a_long_evaluation_killed_midway_leaves_no_process_and_the_same_scores(
    data: str, alone: Callable[[str], Made]
) -> None:
    store = alone("constant-turn").store
    scoring = forecast("evaluate", store, "--data", data, "--json")
    before, began = content(store), time.perf_counter()
    scores = subprocess.check_output([*scoring, "--workers=1"])
    quarter = (time.perf_counter() - began) / 8  # of what two workers take
    with subprocess.Popen([*scoring, "--workers=2"], stdout=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        while len(parent.children(recursive=True)) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(quarter)
        workers = parent.children(recursive=True)
        assert process.poll() is None
        process.kill()
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert content(store) == before
    assert subprocess.check_output([*scoring, "--workers=2"]) == scores


def count_of(model: str) -> int:
    """How many sequences are forecast with a model."""
    return LEARNED if model == "packaged" else COUNT


def command(data: str, model: str, out: Path, workers: int) -> list[str]:
    """A rollout of as many sequences as that model does."""
    chosen = [] if model == "packaged" else ["--model", model]
    options = ["--gif=", f"--limit={count_of(model)}", f"--workers={workers}", "--output", out]
    return forecast("rollout", "--data", data, *chosen, *options)


def tell(stage: str, sequences: int, costs: dict[int, Cost]) -> None:
    """Prints a line of JSON a number of workers, and how much sooner the last was done."""
    for workers, cost in costs.items():
        numbers = {name: round(value, 1) for name, value in vars(cost).items()}
        rate = round(sequences / cost.seconds, 1)
        about = {"stage": stage, "sequences": sequences, "workers": workers, "per_s": rate}
        print(json.dumps(about | numbers))
    if len(costs) > 1:
        ratio = round(costs[min(costs)].seconds / costs[max(costs)].seconds, 2)
        print(json.dumps({"stage": stage, "times_faster": ratio}))
