"""Scores by lead from the command line: free and with the truth, compared lead by lead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forecast.cli import main as cli
from tests.support.stores import Mover, sequence_store


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, str]:
    """Turning traffic, forecast at constant velocity: freely, and shown the truth on the way."""
    scenes = [
        [Mover(0.0, 0.0, speed=6.0, turn_rate=0.3), Mover(9.0, -8.0)],
        [Mover(-8.0, 2.0, speed=5.0, turn_rate=-0.3)],
    ]
    paths = {name: str(tmp_path / f"{name}.zarr") for name in ("data", "free", "forced")}
    sequence_store(Path(paths["data"]), scenes)
    for name, more in (("free", ()), ("forced", ("--teacher-forced",))):
        command = ("rollout", "--data", paths["data"], "--model", "constant-velocity")
        shown = run(*command, "--output", paths[name], "--gif", "", *more)
        assert ("constant-velocity, teacher-forced" in shown) == (name == "forced")
    return paths


def test_the_gap_to_teacher_forcing_is_none_at_first_and_grows(stores: dict[str, str]) -> None:
    compare = ("evaluate", stores["free"], "--data", stores["data"], "--by-lead")
    shown = run(*compare, "--against", stores["forced"], "--json")
    found = json.loads(shown)
    forced = stores["forced"]
    assert found["references"] == {forced: "constant-velocity, teacher-forced"}
    gaps = [point["gains"][forced]["iou"]["difference"] for point in found["classes"]["vehicle"]]
    assert gaps[0] == 0.0
    assert gaps[-1] < gaps[2] < 0.0
    table = run(*compare, "--against", stores["forced"])
    assert "gain over constant-velocity, teacher-forced" in " ".join(table.split())


def test_stores_say_how_they_were_rolled_out(stores: dict[str, str]) -> None:
    for name, how in (("free", "free-running"), ("forced", "teacher-forced")):
        assert how in run("inspect", "store", stores[name])
    scored = json.loads(run("evaluate", stores["forced"], "--data", stores["data"], "--json"))
    assert scored["model"] == "constant-velocity, teacher-forced"
    assert "teacher-forced" in run("evaluate", stores["forced"], "--data", stores["data"])
