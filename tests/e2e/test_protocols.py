"""Label protocols through the command line: one forecast scored against four truths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_tools.labels.protocols import PROTOCOLS
from forecast.cli import main as cli
from forecast.errors import ConfigError
from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support.scenarios import crossing, write


def run(*arguments: str) -> str:
    """What a command prints; its error is raised."""
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_one_forecast_scored_against_the_truths_of_all_protocols(tmp_path: Path) -> None:
    recording = write(tmp_path / "a.json", crossing(3, agents=9))
    stores = {name: str(tmp_path / f"{name}.zarr") for name in PROTOCOLS}
    for name, store in stores.items():
        options = ("--stride", "4", "--workers", "1", "--protocol", name)
        run("prepare", "waymo-json", recording, "--output", store, *options)
        assert open_sequence_store(store)[1].protocol == PROTOCOLS[name].to_attrs()
        assert f"{name} ({PROTOCOLS[name].hash})" in run("inspect", "store", store)
    made = str(tmp_path / "forecast.zarr")
    model = ("--model", "constant-turn", "--gif", "")
    run("rollout", "--data", stores["exact"], *model, "--output", made)
    exact = PROTOCOLS["exact"]
    assert open_forecast_store(made).attrs["protocol"] == exact.to_attrs()
    assert exact.hash in run("inspect", "store", made)

    found = {}
    for name, store in stores.items():
        scores = json.loads(run("evaluate", made, "--data", store, "--json"))
        assert scores["protocol"] == PROTOCOLS[name].to_attrs()
        assert scores["forecast_protocol"] == exact.to_attrs()
        found[name] = scores["classes"]["vehicle"]
        shown = run("evaluate", made, "--data", store)
        assert f"leads, protocol {name} ({PROTOCOLS[name].hash})" in shown
        told = f"the forecast is of a store of another protocol, exact ({exact.hash})"
        assert (told in shown) == (name != "exact")
        rows = json.loads(run("evaluate", made, "--data", store, "--by", "class", "--json"))
        assert {row["protocol"] for row in rows} == {f"{name} ({PROTOCOLS[name].hash})"}
    assert f"protocol fiery ({PROTOCOLS['fiery'].hash})" in run(
        "evaluate", made, "--data", stores["fiery"], "--by", "class"
    )
    # Other masks, the same tracks; no vehicle is so small that exact-small gives it a cell more.
    assert found.pop("exact-small") == found["exact"]
    assert len({one["iou"] for one in found.values()}) == len(found)
    assert all(one["iou"] < found["exact"]["iou"] for n, one in found.items() if n != "exact")


def test_a_protocol_that_there_is_not_is_refused(tmp_path: Path) -> None:
    output = ("--output", str(tmp_path / "a.zarr"))
    with pytest.raises(ConfigError, match="exact, exact-small, fiery, uniad, powerbev; got 'bev'"):
        run("prepare", "sumo", "7", *output, "--protocol", "bev")
