"""Stores made to break the program: what their variables claim, and what lies in the chunks.

As in test_hostile.py: one line and exit code 2, within ten seconds of an idle machine, no output.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from forecast.cli import main as cli
from tests.e2e.test_hostile import (
    ROLLOUT,
    TRAIN,
    claims_terabytes,
    has_chunks_of_nothing,
    has_chunks_of_terabytes,
    rewrite,
)
from tests.support import rasters
from tests.support.refusals import Refused
from tests.support.stores import GRID, Mover, content, forecast_store

pytestmark = pytest.mark.timeout(300)  # of a busy machine

Change = Callable[[dict[str, Any]], None]
CONFIG = (
    "{model: {raster: none, hidden_dim: 32, scene_dim: 32, ffn: 32}, loading: {workers: 0},"
    " curriculum: [{epochs: 1, horizon: 1}]}"
)
PREPARE = ("prepare", "rasters", "a.zarr", "--output", "o.zarr", "--workers", "1")


def is_of_text(document: dict[str, Any]) -> None:
    document |= {"data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8"}]}


def is_of_a_type_that_warns(document: dict[str, Any]) -> None:
    kind = {"name": "null_terminated_bytes", "configuration": {"length_bytes": 4}}
    document |= {"data_type": kind, "fill_value": ""}


def has_an_unknown_codec(document: dict[str, Any]) -> None:
    document["codecs"].append({"name": "pickle"})


def has_an_axis_less(document: dict[str, Any]) -> None:
    document["shape"].pop()


def has_fewer_than_none(document: dict[str, Any]) -> None:
    document["shape"][0] = -1


def names_its_axes_backwards(document: dict[str, Any]) -> None:
    document["dimension_names"] = document["dimension_names"][::-1]


def is_scaled(document: dict[str, Any]) -> None:
    document["attributes"] = {"scale_factor": 2.0}


def has_a_number_for_absent(document: dict[str, Any]) -> None:
    document["attributes"] = {"missing_value": 1.0}


CLAIMS: tuple[Change, ...] = (
    *(claims_terabytes, has_chunks_of_terabytes, has_chunks_of_nothing, is_of_text),
    *(is_of_a_type_that_warns, has_an_unknown_codec, has_an_axis_less, has_fewer_than_none),
)
FLOATS: tuple[Change, ...] = (names_its_axes_backwards, is_scaled, has_a_number_for_absent)


@pytest.fixture
def forecasts(store: Path, tmp_path: Path) -> Path:
    """A forecast store of the sequence store, which it names as its truth."""
    return Path(forecast_store(tmp_path / "f.zarr", str(store), data="store.zarr"))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of rasters."""
    scene = rasters.drive([Mover(0, 2, speed=2)], Mover(0, 0, speed=1))
    return Path(rasters.write_zarr(tmp_path / "a.zarr", rasters.seen(scene, GRID)))


@pytest.mark.parametrize("change", [*CLAIMS, *FLOATS])
def test_variables_of_a_forecast_store_are_checked(
    change: Change, refused: Refused, forecasts: Path, tmp_path: Path
) -> None:
    shutil.copytree(forecasts, tmp_path / "other.zarr")
    for variable in ("occupancy", "uncertainty", "pose"):
        kept = (forecasts / variable / "zarr.json").read_text()
        rewrite(forecasts / variable / "zarr.json", change)
        assert "f.zarr" in refused("inspect", "store", "f.zarr")
        if variable != "pose":
            (forecasts / variable / "zarr.json").write_text(kept)
    assert "f.zarr" in refused("evaluate", "f.zarr", "--probabilities")
    assert "f.zarr" in refused("evaluate", "f.zarr", "--plots", "p", output="p")
    against = ("evaluate", "other.zarr", "--data", "store.zarr", "--against", "f.zarr")
    assert "f.zarr" in refused(*against)


@pytest.mark.parametrize("change", [*CLAIMS, *FLOATS])
def test_variables_of_a_sequence_store_are_checked(
    change: Change, refused: Refused, forecasts: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    rewrite(store / "track_state" / "zarr.json", change)
    assert "store.zarr" in refused("inspect", "store", "store.zarr")
    assert "store.zarr" in refused("evaluate", "f.zarr", "--against", "constant-turn")
    assert "store.zarr" in refused("doctor", "store.zarr")
    assert "store.zarr" in refused(*ROLLOUT, "--model", "constant-turn", output="o.zarr")
    assert "store.zarr" in refused(*TRAIN)


@pytest.mark.parametrize("change", CLAIMS)
def test_variables_of_recorded_rasters_are_checked(
    change: Change, refused: Refused, recording: Path
) -> None:
    rewrite(recording / "semantic" / "zarr.json", change)
    assert "a.zarr" in refused(*PREPARE, output="o.zarr")


@pytest.mark.parametrize("pattern", ["zarr.json", "[c0]*"])
def test_a_pipe_in_a_store_is_not_waited_for(
    pattern: str, refused: Refused, forecasts: Path, store: Path, recording: Path
) -> None:
    for path in (forecasts, store, recording):
        file = next(file for file in (path / "semantic").rglob(pattern) if not file.is_dir())
        file.unlink()
        os.mkfifo(file)
    assert "pipe" in refused("inspect", "store", "f.zarr")
    assert "pipe" in refused("evaluate", "f.zarr")
    assert "pipe" in refused("doctor", "store.zarr")
    assert "pipe" in refused(*ROLLOUT, "--model", "constant-turn", output="o.zarr")
    assert "pipe" in refused(*PREPARE, output="o.zarr")


def test_text_that_claims_billions_of_names_is_refused(refused: Refused, store: Path) -> None:
    def is_packed_no_more(document: dict[str, Any]) -> None:
        document["codecs"] = [{"name": "vlen-utf8"}]

    rewrite(store / "scene" / "zarr.json", is_packed_no_more)
    (store / "scene" / "c" / "0").write_bytes(b"\xff\xff\xff\xff" + bytes(8))
    assert "whole chunks in store.zarr" in refused("inspect", "store", "store.zarr")


def write(path: Path, variable: str, value: float, where: Any = ...) -> None:
    """Changes values of a variable of a store."""
    zarr.open_group(path, mode="r+", use_consolidated=False)[variable][where] = value


@pytest.mark.parametrize("variable", ["semantic", "track_class"])
def test_classes_without_a_name_are_refused_in_the_truth(
    variable: str, refused: Refused, forecasts: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    write(store, variable, 4)
    line = refused("evaluate", "f.zarr")
    assert f"0 to 3 in {variable}" in line
    assert "got 4 in store.zarr" in line
    assert "0 to 3" in refused(*ROLLOUT, "--model", "constant-turn", output="o.zarr")
    assert "0 to 3" in refused(*TRAIN)
    if variable == "track_class":
        assert "0 to 3" in refused("evaluate", "f.zarr", "--by", "class")


def test_classes_without_a_name_are_refused_in_a_forecast(
    refused: Refused, forecasts: Path
) -> None:
    write(forecasts, "semantic", 4, np.s_[1, 2, 3, 4])  # one cell would be counted as another class
    for more in ((), ("--probabilities",), ("--by-lead",), ("--cells",), ("--plots", "p")):
        line = refused("evaluate", "f.zarr", *more, output="p")
        assert "got 4 in f.zarr" in line


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_poses_are_refused(
    value: float, refused: Refused, forecasts: Path, store: Path
) -> None:
    write(forecasts, "pose", value, np.s_[1, 2, 0, 0])
    assert "infinite one in f.zarr" in refused("evaluate", "f.zarr")
    assert "infinite one in f.zarr" in refused("evaluate", "f.zarr", "--by", "class")
    write(store, "track_state", value, np.s_[1, 0, 4, 0])
    assert "infinite one in store.zarr" in refused("evaluate", "f.zarr")
    rolled = (*ROLLOUT, "--model", "constant-turn")
    assert "infinite one in store.zarr" in refused(*rolled, output="o.zarr")


def test_no_score_depends_on_the_uncertainty(forecasts: Path, store: Path) -> None:
    """Stores of the first schema lack it: whatever it holds, the scores are the same."""

    def shown(*more: str) -> str:
        arguments = ["evaluate", str(forecasts), "--data", str(store), "--json", *more]
        done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    expected = [shown(), shown("--probabilities")]
    for value in (np.nan, np.inf, -1.0):
        write(forecasts, "uncertainty", value)
        assert [shown(), shown("--probabilities")] == expected
    shutil.rmtree(forecasts / "uncertainty")
    assert [shown(), shown("--probabilities")] == expected


def test_an_uncertainty_of_other_sides_is_refused(refused: Refused, forecasts: Path) -> None:
    def has_three_sides(document: dict[str, Any]) -> None:
        document["shape"][-1] = 3

    rewrite(forecasts / "uncertainty" / "zarr.json", has_three_sides)
    for arguments in (("inspect", "store", "f.zarr"), ("evaluate", "f.zarr")):
        assert "side" in refused(*arguments)


def test_pictures_are_not_drawn_into_a_store(refused: Refused, forecasts: Path) -> None:
    before = content(forecasts)
    for folder in ("f.zarr", "f.zarr/p", "./store.zarr", ""):
        assert "--plots" in refused("evaluate", "f.zarr", "--plots", folder)
    assert content(forecasts) == before
