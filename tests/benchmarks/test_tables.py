"""`forecast prepare tracks` on large tables beside a city's map, and against an older version.

``BASE=folder RECORDINGS=tables`` measures tables of your own with this version and with the one
checked out in ``BASE``, in turns; without them only the made-up city is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.benchmarking import min_median_max
from tests.support.commands import Cost, forecast, run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(0)]
LANES = int(os.environ.get("LANES", "50000"))
SCENES = int(os.environ.get("SCENES", "200"))  # and ten times as many
ROUNDS = int(os.environ.get("ROUNDS", "3"))
AGENTS, TIMES = 10, np.arange(50) * 0.1
BLOCK_M = 100.0
MOST_TIME, MOST_MEMORY_MIB = 1.5, 120.0  # times ten, and more than a tenth of the rows takes


def city(path: Path) -> float:
    """Streets of a chessboard, both ways, in lanes a block long; returns its side in metres."""
    blocks = int(np.sqrt(LANES / 4))
    features = []
    along = np.linspace(0.0, BLOCK_M, 6)
    for x, y in np.argwhere(np.ones((blocks, blocks))) * BLOCK_M:
        for shift, way in ((1.75, 1), (-1.75, -1)):
            east = np.stack([x + along, np.full(6, y - shift)], axis=1)[::way]
            north = np.stack([np.full(6, x + shift), y + along], axis=1)[::way]
            features += [_lane(east), _lane(north)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return blocks * BLOCK_M


def _lane(points: np.ndarray) -> dict[str, object]:
    line = {"type": "LineString", "coordinates": points.tolist()}
    return {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": line}


def table(path: Path, scenes: int, side_m: float) -> int:
    """Scenes all over the city, of agents that drive east; returns the number of rows."""
    generator = np.random.default_rng(0)
    shape = scenes, AGENTS, len(TIMES)
    centre = generator.uniform(0.0, side_m, (2, scenes, 1, 1))
    x, y = centre + generator.uniform(-40.0, 40.0, (2, scenes, AGENTS, 1))
    x = x + generator.uniform(0.0, 15.0, (scenes, AGENTS, 1)) * TIMES
    scene, agent, _ = np.indices(shape)
    rows = pd.DataFrame(
        {
            "scene": np.char.add("s", scene.ravel().astype(str)),
            "time_s": np.broadcast_to(TIMES, shape).ravel(),
            "track_id": agent.ravel(),
            "class": "vehicle",
            "x_m": x.ravel(),
            "y_m": np.broadcast_to(y, shape).ravel(),
            "yaw_rad": 0.0,
            "length_m": 4.5,
            "width_m": 1.9,
        }
    )
    rows.to_parquet(path)
    return len(rows)


def prepared(inputs: Path | str, output: Path) -> Cost:
    """The cost of preparing tables with one process."""
    cost = run(forecast("prepare", "tracks", inputs, "--output", output, "--workers=1"))
    shutil.rmtree(output)
    return cost


# The seconds of CPU that it takes once all is imported.
TIMED = """
import os, sys, time
import data_tools
assert data_tools.__file__.startswith(os.environ["PYTHONPATH"]), data_tools.__file__
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
source("tracks")
began = time.process_time()
report = prepare("tracks", [sys.argv[1]], sys.argv[2], PrepareOptions(workers=1))
print((time.process_time() - began) / report.scenes)
"""


def cpu_s_a_scene(recordings: str, output: Path, tree: str) -> float:
    """What a scene costs in the version that is checked out in a folder, without the start."""
    command = [sys.executable, "-c", TIMED, recordings, str(output)]
    variables = os.environ | {"PYTHONPATH": tree, "OMP_NUM_THREADS": "1"}
    # Python looks in the working folder first, which must be of neither version.
    said = subprocess.run(
        command, env=variables, cwd=output.parent, check=True, capture_output=True, text=True
    )
    shutil.rmtree(output)
    return float(said.stdout)


def test_time_is_linear_in_the_rows_and_memory_nearly_flat(tmp_path: Path) -> None:
    costs: list[Cost] = []
    for scenes in (SCENES, 10 * SCENES):
        path = tmp_path / f"{scenes}.parquet"
        rows = table(path, scenes, city(tmp_path / f"{scenes}.parquet.geojson"))
        costs.append(cost := prepared(path, tmp_path / "out.zarr"))
        numbers = {name: round(value, 1) for name, value in vars(cost).items()}
        per = round(1e3 * cost.cpu_s / rows, 4)
        print(json.dumps({"rows": rows, "scenes": scenes, "cpu_s_per_1000_rows": per, **numbers}))
    few, many = costs
    assert many.cpu_s <= MOST_TIME * 10 * few.cpu_s
    assert many.parent_mib <= few.parent_mib + MOST_MEMORY_MIB


@pytest.mark.skipif("BASE" not in os.environ, reason="needs BASE, an older version, to compare")
def test_against_an_older_version(tmp_path: Path) -> None:
    recordings, base = (str(Path(os.environ[name]).resolve()) for name in ("RECORDINGS", "BASE"))
    here = str(Path(__file__).parents[2])
    cpu: dict[str, list[float]] = {base: [], here: []}
    for number in range(ROUNDS):
        for tree in (base, here)[:: 1 if number % 2 else -1]:
            cpu[tree].append(cpu_s_a_scene(recordings, tmp_path / "out.zarr", tree))
        print(json.dumps({"round": number, "before": cpu[base][-1], "now": cpu[here][-1]}))
    ratio = min_median_max([old / new for old, new in zip(cpu[base], cpu[here], strict=True)])
    seconds = {"before": min_median_max(cpu[base]), "now": min_median_max(cpu[here])}
    print(json.dumps({"cpu_s_a_scene": seconds, "times_faster": ratio, "rounds": ROUNDS}))
