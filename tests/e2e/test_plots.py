"""`forecast evaluate --plots`: pictures of the packaged sample, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from forecast.cli import main as cli
from tests.support.refusals import Refused
from tests.support.stores import Mover, forecast_store, sequence_store

FILES = sorted(
    f"{name}.{kind}"
    for name in ("reliability", "precision_recall", "by_lead", "realizations")
    for kind in ("png", "svg")
)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_sample_is_drawn_beside_a_baseline(tmp_path: Path) -> None:
    store, folder = str(tmp_path / "turn.zarr"), tmp_path / "new" / "pictures"
    run("rollout", "--model", "constant-turn", "--output", store, "--gif", "")
    command = ("evaluate", store, "--against", "persistence")
    assert run(*command, "--plots", str(folder)) == run(*command)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for path in folder.glob("*.svg"):
        text = path.read_text()
        for name in ("vehicle", "pedestrian", "constant-turn", "persistence"):
            assert f">{name}</text>" in text
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width > 900, "three classes side by side"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, ...]:
    data = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0, speed=3)]])
    return "evaluate", forecast_store(tmp_path / "f.zarr", data), "--data", data


def test_pictures_are_replaced_only_if_that_is_asked_for(
    pair: tuple[str, ...], refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "by_lead.svg").write_text("mine")
    line = refused(*pair, "--plots", str(tmp_path))
    assert "by_lead.svg, which exists" in line
    assert not (tmp_path / "reliability.png").exists()
    run(*pair, "--probabilities", "--plots", str(tmp_path), "--overwrite")
    assert "<svg" in (tmp_path / "by_lead.svg").read_text()


def test_a_sequence_without_agents_is_drawn_as_nothing(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", [[]])
    forecast = forecast_store(tmp_path / "f.zarr", data)
    run("evaluate", forecast, "--data", data, "--plots", str(tmp_path / "pictures"))
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == FILES


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--plots {file}", "which is no folder"),
        ("--plots p --by lead", "--plots alone"),
        ("--plots p --by-lead", "--plots alone"),
        ("--overwrite", "add --plots"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    arguments: str, told: str, pair: tuple[str, ...], refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert told in refused(*pair, *arguments.format(file=tmp_path / "file").split())
