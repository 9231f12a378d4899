"""`forecast evaluate --probabilities`, on the packaged sample and on stores that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from forecast.checkpoint.packaged import packaged
from forecast.cli import main as cli
from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support.refusals import Refused
from tests.support.stores import Mover, forecast_store, sequence_store


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def turning(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The packaged sample, forecast by constant turn rate."""
    path = str(tmp_path_factory.mktemp("stores") / "turn.zarr")
    run("rollout", "--model", "constant-turn", "--output", path, "--gif", "")
    return path


def test_scores_are_those_of_the_cells_themselves(turning: str) -> None:
    found = json.loads(run("evaluate", turning, "--probabilities", "--json"))
    data, meta = open_sequence_store(packaged("sample.zarr"))
    chance = open_forecast_store(turning)["occupancy"].values[:, :, 0].astype(float)
    leads = slice(meta.history, meta.history + chance.shape[1])
    occupied = data["semantic"].values[:, leads] == 1
    vehicle = found["classes"]["vehicle"]
    assert vehicle["counts"] == {"cells": occupied.size, "occupied": int(occupied.sum())}
    squares = (chance - occupied) ** 2
    assert vehicle["brier"] == pytest.approx(squares.mean())
    assert vehicle["brier_occupied"] == pytest.approx(squares.sum() / occupied.sum())
    for lead in range(chance.shape[1]):
        expected = squares[:, lead].sum() / occupied[:, lead].sum()
        assert vehicle["by_lead"]["brier_occupied"][lead] == pytest.approx(expected)
    low, high = vehicle["interval"]["auc"]
    assert low < vehicle["auc"] < high
    assert sum(one["cells"] for one in vehicle["reliability"]) == np.count_nonzero(chance)


def test_the_table_says_the_same(turning: str) -> None:
    vehicle = json.loads(run("evaluate", turning, "--probabilities", "--json"))["classes"][
        "vehicle"
    ]
    shown = run("evaluate", turning, "--probabilities")
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    low, high = vehicle["interval"]["auc"]
    assert any(row.startswith(f"AUC {vehicle['auc']:.3f} [{low:.3f}, {high:.3f}]") for row in rows)
    last = [f"{vehicle['by_lead'][name][-1]:.3f}" for name in ("auc", "soft_iou")]
    assert any(row.startswith(f"+3 s {' '.join(last)}") for row in rows)
    assert max(map(len, shown.splitlines())) <= 100


def test_probabilities_are_compared_with_a_baselines(turning: str) -> None:
    command = ("evaluate", turning, "--probabilities", "--against")
    found = json.loads(run(*command, "persistence", "--json"))["against"]["persistence"]
    assert found["gains"]["vehicle"]["auc"]["difference"] > 0
    assert found["gains"]["vehicle"]["brier_occupied"]["difference"] < 0
    assert "better in AUC" in found["summary"]["vehicle"]
    assert found["summary"]["vehicle"] in run(*command, "persistence")
    same = json.loads(run(*command, "constant-turn", "--json"))["against"]["constant-turn"]
    assert {one["difference"] for one in same["gains"]["vehicle"].values()} == {0.0}


def test_more_workers_change_no_score(tmp_path: Path) -> None:
    scenes = [[Mover(float(index % 5), -4.0, speed=3.0)] for index in range(40)]
    data = sequence_store(tmp_path / "s.zarr", scenes)
    command = ("evaluate", forecast_store(tmp_path / "f.zarr", data), "--data", data)
    alone = run(*command, "--probabilities", "--json")
    assert run(*command, "--probabilities", "--json", "--workers", "2") == alone
    assert json.loads(alone)["classes"]["vehicle"]["auc"] == 1.0


def test_an_occupancy_that_is_no_probability_is_refused(refused: Refused, tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0)]])
    path = forecast_store(tmp_path / "f.zarr", data)
    wrong = xr.open_zarr(path, consolidated=False, chunks=None).load()
    wrong["occupancy"] = wrong["occupancy"] * 2
    wrong.to_zarr(tmp_path / "wrong.zarr", zarr_format=3, consolidated=False)
    line = refused("evaluate", str(tmp_path / "wrong.zarr"), "--data", data, "--probabilities")
    assert "an occupancy from 0 to 1; got 2 in scene" in line


@pytest.mark.parametrize("other", ["--by-lead", "--cells", "--by lead"])
def test_probabilities_are_asked_for_alone(other: str, refused: Refused) -> None:
    line = refused("evaluate", "a.zarr", "--data", "d.zarr", "--probabilities", *other.split())
    assert "one of --by, --cells, --by-lead, --probabilities" in line
