"""CommonRoad scenarios, through the command line to scores and a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from forecast.cli import main as cli
from tests.support.commonroad import (
    LITTLE,
    lanelet,
    obstacle,
    scenario,
    states,
    write,
)
from tests.support.refusals import Refused
from tests.support.stores import Mover

LANES = [
    lanelet(f"{y}", [(-60, y + 2), (60, y + 2)], [(-60, y - 2), (60, y - 2)]) for y in (-4, 0, 4)
]
DEEP = "<lanelet>" * 9999 + "</lanelet>" * 9999
TRAFFIC = (
    *(Mover(-12.0, y, speed=speed) for y, speed in ((-4.0, 4.0), (0.0, 6.0), (4.0, 5.0))),
    *(Mover(14.0, y, speed=5.0) for y in (-4.0, 4.0)),
)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_scenarios_are_prepared_checked_forecast_and_drawn(tmp_path: Path) -> None:
    for version in ("2018b", "2020a"):
        parts = [
            obstacle(f"{i}", states(mover, range(50)), version=version)
            for i, mover in enumerate(TRAFFIC)
        ]
        parked = states(Mover(4.0, 8.0), [0])
        parts.append(obstacle("9", parked, "parkedVehicle", version=version, role="static"))
        write(tmp_path / f"{version}.xml", scenario(*LANES, *parts, version=version))
    store, out, gif = (str(tmp_path / name) for name in ("s.zarr", "f.zarr", "f.gif"))
    grid = "--grid=-20,28,-20,20,0.5"
    said = run("prepare", "commonroad", str(tmp_path), "--output", store, grid, "--workers", "1")
    assert "4 sequences from 2 scenes" in said
    assert "agents parkedVehicle, kept as vehicle: 2" in said
    assert "finding" not in run("doctor", store)
    assert "\npackaged" in run("rollout", "--data", store, "--output", out, "--gif", gif)
    with Image.open(gif) as picture:
        assert picture.n_frames > 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no element"),
        (LITTLE[:500], "XML file"),
        ("<osm/>", "of osm"),
        (LITTLE.replace("2020a", "2017a"), "2018b or 2020a"),
        (LITTLE.replace("4.5", "long"), "could not convert"),
        ("<!DOCTYPE commonRoad [<!ENTITY a 'b'>]>" + LITTLE[39:], "document type"),
        (LITTLE.replace("<lanelet ", f"{DEEP}<lanelet "), "64 deep"),
    ],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_prepare_refuses_what_is_no_scenario(
    content: str, reason: str, refused: Refused, tmp_path: Path
) -> None:
    write(tmp_path / "a.xml", content)
    line = refused(
        "prepare", "commonroad", "a.xml", "--output", "o.zarr", "--workers", "1", output="o.zarr"
    )
    assert "a.xml" in line
    assert reason in line
