"""`forecast evaluate` of stores with several futures, and of one alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from forecast.cli import main as cli
from forecast.storage.consolidation import consolidate
from tests.support.futures import add_realizations
from tests.support.refusals import Refused
from tests.support.stores import Mover, forecast_store, sequence_store

SCENES = [
    [Mover(0, -4, speed=6), Mover(-6, 4, label=2)],
    [Mover(3, -3, speed=4), Mover(-6, 4)],
    [Mover(-2, 1, 0.3, speed=5)],
]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The perfect forecast and four realizations around it."""
    folder = tmp_path_factory.mktemp("stores")
    data = sequence_store(folder / "s.zarr", SCENES)
    forecast = forecast_store(folder / "f.zarr", data)
    return "evaluate", add_realizations(forecast, data, 4), "--data", data


def test_scores_of_the_masks_are_followed_by_those_of_the_realizations(
    pair: tuple[str, ...],
) -> None:
    found, alone = (
        json.loads(run(*pair, "--json")),
        json.loads(run(*pair, "--json", *["--realizations"])),
    )
    assert found["classes"]["vehicle"]["iou"] == 1.0
    assert found["realizations"] == {"number": 4, "classes": alone["classes"]}
    assert alone["realizations"] == 4
    shown = run(*pair)
    assert "its 4 realizations" in shown
    vehicle = alone["classes"]["vehicle"]
    row = next(line for line in shown.splitlines() if line.startswith("minFDE, m"))
    assert f"{vehicle['min_fde']:.3f}" in row
    assert f"{vehicle['min_fde_moving']:.3f}" in row
    assert max(map(len, shown.splitlines())) <= 100


def test_scores_are_those_of_the_poses_in_the_stores(pair: tuple[str, ...]) -> None:
    scores = json.loads(run(*pair, "--realizations", "--json"))["classes"]
    poses: Any = zarr.open_group(pair[1], mode="r")["realization_pose"]
    state: Any = zarr.open_group(pair[3], mode="r")["track_state"]
    off = poses[:, :, -1, :, :2] - state[:][:, None, :, -1, :2]
    distance = np.linalg.norm(off, axis=-1).min(axis=1)
    best = distance[np.isfinite(distance)]
    assert scores["all classes"]["min_fde"] == pytest.approx(best.mean(), rel=1e-5)
    assert scores["all classes"]["counts"]["agents"] == len(best) == 5
    vehicle = scores["vehicle"]
    assert vehicle["counts"] == {
        **{"agents": 4, "forecast": 4},
        **{"agents_moving": 3, "forecast_moving": 3},
    }
    assert vehicle["by_number"]["realizations"] == [1, 2, 3, 4]
    assert vehicle["displacement"] == 0.0, "the single forecast is perfect"
    assert vehicle["energy_ratio"] is None
    assert vehicle["energy"] > 0
    low, high = vehicle["interval"]["min_fde_moving"]
    assert low < vehicle["min_fde_moving"] < high
    assert len(vehicle["by_lead"]["found_moving"]) == 6


def test_one_forecast_counts_as_one_realization_and_compares(pair: tuple[str, ...]) -> None:
    command = (*pair, "--realizations", "--against", "constant-velocity")
    found = json.loads(run(*command, "--json"))["against"]["constant-velocity"]
    assert found["scores"]["vehicle"]["min_fde"] < 1e-3, "they all drive straight on"
    assert found["gains"]["vehicle"]["min_fde_moving"]["difference"] > 0
    assert "worse in" in found["summary"]["vehicle"]
    assert found["summary"]["vehicle"] in run(*command)


def test_more_workers_change_no_score(pair: tuple[str, ...]) -> None:
    command = (*pair, "--realizations", "--json")
    assert run(*command, "--workers", "2") == run(*command)


def test_agents_of_detected_input_cannot_be_compared(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES[:1])
    forecast = forecast_store(tmp_path / "f.zarr", data, input="detected")
    command = ("evaluate", add_realizations(forecast, data, 2), "--data", data, "--realizations")
    assert "has ids of its own" in run(*command)
    assert json.loads(run(*command, "--json"))["classes"]["vehicle"]["min_fde"] is None


@pytest.mark.parametrize("weight", [[0.5, 0.4], [1.5, -0.5], [np.nan, 1.0]])
def test_weights_that_are_no_probabilities_are_refused(
    weight: list[float], refused: Refused, tmp_path: Path
) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES[:1])
    forecast = forecast_store(tmp_path / "f.zarr", data)
    add_realizations(forecast, data, 2, weight=np.array(weight))
    assert "realization_weight" in refused("evaluate", forecast, "--data", data)


def test_no_realization_at_all_is_refused(refused: Refused, tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES[:1])
    forecast = forecast_store(tmp_path / "f.zarr", data)
    group = zarr.open_group(forecast, mode="r+", use_consolidated=False)
    dims = ("sequence", "realization", "lead", "track", "pose")
    empty = np.zeros((1, 0, 6, 2, 3), np.float32)
    group.create_array("realization_pose", data=empty, dimension_names=dims)
    consolidate(forecast)
    assert "one realization at least" in refused("evaluate", forecast, "--data", data)
