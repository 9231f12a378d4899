"""Thousands of sequences: forecast and scored by one process and by two, and killed on the way.

``SEQUENCES=10000 make benchmark`` makes it ten thousand (a disk of a few hundred MB). Every process
has one thread for its arithmetic, whether it is one or two of them: torch alone would give a single
process all cores, and the comparison would be of threads with processes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from forecast.schema import open_forecast_store, open_sequence_store
from tests.commands import Cost, forecast, run
from tests.killing import kill_when_there
from tests.scenarios import crossing, write
from tests.support import content

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]
COUNT = int(os.environ.get("SEQUENCES", "1000"))
LEARNED = min(COUNT, int(os.environ.get("LEARNED", "1000")))  # of these with the packaged model
EACH = 51  # sequences of a scenario, one every tenth of a second
GRID = "-16,16,-12,12,0.5"
WORKERS = (1, 2)


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


@pytest.mark.parametrize("model", ["constant-turn", "packaged"])
def test_two_processes_do_what_one_does_in_less_time(model: str, data: str, tmp_path: Path) -> None:
    learned = model == "packaged"
    count = LEARNED if learned else COUNT
    stores = {workers: tmp_path / f"{workers}.zarr" for workers in WORKERS}
    rolled, scored = {}, {}
    for workers, out in stores.items():
        rolled[workers] = run(command(data, model, out, workers))
    for workers, out in stores.items():
        scoring = forecast("evaluate", out, "--data", data, f"--workers={workers}", "--json")
        scored[workers] = run(scoring)
    tell(f"rollout, {model}", count, rolled)
    tell(f"evaluate, {model}", count, scored)
    first, second = (content(out) for out in stores.values())
    assert first == second
    assert open_forecast_store(str(stores[1])).sizes["sequence"] == count


def test_a_long_rollout_killed_midway_is_resumed_to_the_same_bytes(
    data: str, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.zarr", tmp_path / "out.zarr"
    run(command(data, "constant-turn", whole, 1))
    batches = -(-COUNT // 8)
    killed = command(data, "constant-turn", out, 2)
    kill_when_there(killed, "records/*.json", tmp_path / "out.zarr.partial", batches // 2)
    cost = run([*killed, "--resume"])
    tell("the rest of a rollout killed at half, constant-turn", COUNT // 2, {2: cost})
    assert content(out) == content(whole)


def command(data: str, model: str, out: Path, workers: int) -> list[str]:
    """A rollout of as many sequences as that model does."""
    chosen = [] if model == "packaged" else ["--model", model]
    count = LEARNED if model == "packaged" else COUNT
    options = ["--gif=", f"--limit={count}", f"--workers={workers}", "--output", out]
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
