"""A perception network's rasters, through the command line to scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forecast.cli import main as cli
from forecast.grid import BEVGrid
from forecast.storage.stores import open_forecast_store
from tests.support.rasters import drive, seen, write_folder, write_zarr
from tests.support.stores import Mover

TRAFFIC = (Mover(6.0, 3.0, 0.1, 6.0), Mover(2.0, -4.0, 1.6), Mover(14.0, -1.0, 2.9, 4.0, 0.1))
EGO = Mover(0.0, 0.0, 0.1, 4.0, 0.05)
FRAMES = BEVGrid(-40.0, 56.0, -40.0, 40.0, 0.5)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("ids", [True, False])
def test_rasters_are_prepared_forecast_and_scored(tmp_path: Path, ids: bool) -> None:
    frames = seen(drive(TRAFFIC, EGO, frames=10), FRAMES).drop_vars(("bev", "channel"))
    if ids:
        recording = write_zarr(tmp_path / "drive.zarr", frames)
    else:
        recording = write_folder(tmp_path / "drive", frames.drop_vars("instance"), FRAMES)
    store, out = str(tmp_path / "store.zarr"), str(tmp_path / "forecast.zarr")
    grid = "--grid=-20,28,-20,20,0.5"
    run("prepare", "rasters", recording, "--output", store, grid, "--workers", "1")
    assert "warped" in run("inspect", "store", store)
    run("doctor", store)
    table = run("rollout", "--input", "detected", "--data", store, "--output", out, "--gif", "")
    marked = "\nconstant-turn * " in table
    assert marked == ids, "it reads more than the forecast, where there is more"
    assert ("\noracle" in table) == ids, "it is made of ids"
    assert "\ncomponents-cv " in table, "it reads rasters, too"
    assert ("because the truth has no ids" in table) != ids
    assert open_forecast_store(out)["instance"].any()
    scores = json.loads(run("evaluate", out, "--data", store, "--json"))
    vehicles = scores["classes"]["vehicle"]
    assert scores["input"] == "detected"
    assert vehicles["iou"] > 0.3
    assert (vehicles["counts"]["segments"] > 0) == ids
    if ids:
        assert vehicles["vpq"] > 0.2
    else:
        assert vehicles["vpq"] is vehicles["vpq_moving"] is None
        assert re.search(r"VPQ +-\n", run("evaluate", out, "--data", store))
