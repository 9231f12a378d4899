"""`forecast evaluate --against`: is a forecast better than another, and how sure is that?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from forecast.checkpoint.packaged import packaged
from forecast.cli import main as cli
from forecast.evaluation.agreement import DIGEST
from tests.support.refusals import Refused
from tests.support.stores import Mover, forecast_store, sequence_store, store_of_classes

SAMPLE = packaged("sample.zarr")
SCENES = [[Mover(0, -4, speed=6), Mover(-6, 4)], [Mover(3, -3, speed=4)]]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def rolled_out(folder: Path, model: str, *more: str) -> str:
    path = str(folder / f"{model}.zarr")
    run("rollout", "--model", model, "--output", path, "--gif", "", *more)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The packaged sample, forecast by two baselines."""
    folder = tmp_path_factory.mktemp("stores")
    return {name: rolled_out(folder, name) for name in ("constant-turn", "constant-acceleration")}


def compared(stores: dict[str, str], *against: str) -> Any:
    options = [part for name in against for part in ("--against", name)]
    return json.loads(run("evaluate", stores["constant-acceleration"], *options, "--json"))


def test_a_baseline_by_name_is_what_its_store_is(stores: dict[str, str]) -> None:
    store = stores["constant-turn"]
    found = compared(stores, store, "constant-turn")
    assert list(found["against"]) == [store, "constant-turn"]
    assert found["against"][store] == found["against"]["constant-turn"]


def test_gains_are_the_differences_of_the_scores_of_both(stores: dict[str, str]) -> None:
    found = compared(stores, "constant-turn")
    alone = json.loads(run("evaluate", stores["constant-turn"], "--json"))["classes"]
    other = found["against"]["constant-turn"]
    assert other["model"] == "constant-turn"
    vehicle = found["classes"]["vehicle"]
    for score, gain in other["gains"]["vehicle"].items():
        assert other["scores"]["vehicle"][score] == alone["vehicle"][score]
        assert gain["difference"] == pytest.approx(vehicle[score] - alone["vehicle"][score])
        assert gain["interval"][0] <= gain["difference"] <= gain["interval"][1]
    assert set(other["gains"]["vehicle"]) == set(vehicle["interval"])


def test_the_table_and_its_sentence_say_the_same(stores: dict[str, str]) -> None:
    other = compared(stores, "constant-turn")["against"]["constant-turn"]
    shown = run("evaluate", stores["constant-acceleration"], "--against", "constant-turn")
    assert other["summary"]["vehicle"] in shown.splitlines()
    assert "better in VPQ moving by 0.1" in other["summary"]["vehicle"]
    (row,) = [line for line in shown.splitlines() if line.startswith("VPQ moving")][:1]
    assert row.split()[-1] == "better"
    gain = other["gains"]["vehicle"]["vpq_moving"]
    assert f"{gain['difference']:+.3f}" in row


def test_a_forecast_is_not_better_than_itself(stores: dict[str, str]) -> None:
    store = stores["constant-acceleration"]
    found = compared(stores, store)["against"][store]
    assert {gain["difference"] for gain in found["gains"]["vehicle"].values()} == {0.0}
    assert "better" not in found["summary"]["vehicle"]
    assert "no difference beyond the interval" in found["summary"]["vehicle"]


def test_baselines_stand_beside_scores_by_lead_too(stores: dict[str, str]) -> None:
    command = ("evaluate", stores["constant-acceleration"], "--by-lead", "--json")
    names = stores["constant-turn"], "constant-turn"
    found = json.loads(run(*command, "--against", names[0], "--against", names[1]))
    assert found["references"] == dict.fromkeys(names, "constant-turn")
    for point in found["classes"]["vehicle"]:
        assert point["gains"][names[0]] == point["gains"][names[1]]


def test_linked_components_read_other_input_and_have_no_displacement(
    stores: dict[str, str],
) -> None:
    other = compared(stores, "components-cv")["against"]["components-cv"]
    assert other["model"] == "components-cv, detected input"
    assert other["scores"]["vehicle"]["ade"] is None
    assert other["gains"]["vehicle"].keys() == {"iou", "vpq", "vpq_moving", "sq", "rq"}


def other_horizon(folder: Path) -> str:
    return rolled_out(folder, "constant-turn", "--horizon", "4")


def fewer_sequences(folder: Path) -> str:
    return rolled_out(folder, "constant-turn", "--limit", "3")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (other_horizon, "6 leads"),
        (fewer_sequences, "10 sequences"),
        (lambda folder: str(folder / "none.zarr"), "none.zarr"),
        (lambda folder: SAMPLE, "bev-forecast/2"),
        (lambda folder: "constant-speed", "constant-speed"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    make: Any, told: str, stores: dict[str, str], refused: Refused, tmp_path: Path
) -> None:
    other = make(tmp_path)
    assert told in refused("evaluate", stores["constant-turn"], "--against", other)


@pytest.mark.parametrize("change", ["centre", "history", "scenes"])
def test_forecasts_of_another_history_are_refused(
    change: str, refused: Refused, tmp_path: Path
) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    own = forecast_store(tmp_path / "own.zarr", data, **{DIGEST: {"ego_pose": "a"}})
    if change == "centre":
        other = forecast_store(tmp_path / "other.zarr", data, **{DIGEST: {"ego_pose": "b"}})
        told = "another in"
    elif change == "history":
        longer = sequence_store(tmp_path / "longer.zarr", SCENES, history=4)
        other = forecast_store(tmp_path / "other.zarr", longer)
        told = "3 frames of history"
    else:
        others = sequence_store(tmp_path / "others.zarr", SCENES, first=7)
        other = forecast_store(tmp_path / "other.zarr", others)
        told = "the sequences of"
    assert told in refused("evaluate", own, "--data", data, "--against", other)


def test_errors_of_a_store_of_ones_own_are_a_baseline_of_probabilities(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", SCENES)
    straight = [[Mover(-4.0, 0.3 * i, speed=3.0), Mover(3.0, i, speed=6.0)] for i in range(6)]
    errors = sequence_store(tmp_path / "errors.zarr", straight)
    path, name = str(tmp_path / "f.zarr"), f"resampled-errors:{errors}"
    run("rollout", "--data", data, "--model", "constant-turn", "--output", path, "--gif", "")
    found = json.loads(run("evaluate", path, "--probabilities", "--against", name, "--json"))
    other = found["against"][name]
    assert other["model"] == name
    # It knows that nobody errs, where a soft edge is unsure of every border.
    assert other["scores"]["vehicle"]["brier_occupied"] < 0.12
    assert other["gains"]["vehicle"]["brier_occupied"]["difference"] > 0.01


def test_baselines_that_read_ids_are_refused_where_there_are_none(
    refused: Refused, tmp_path: Path
) -> None:
    data = store_of_classes(tmp_path / "s.zarr", SCENES)
    path = str(tmp_path / "f.zarr")
    model = ("--model", "components-cv", "--input", "detected")
    run("rollout", "--data", data, *model, "--output", path, "--gif", "")
    assert "compare with components-cv" in refused("evaluate", path, "--against", "constant-turn")
    other = json.loads(run("evaluate", path, "--against", "components-cv", "--json"))["against"]
    assert other["components-cv"]["gains"]["vehicle"]["iou"]["difference"] == 0.0


def test_one_scene_tells_a_difference_but_not_how_sure_it_is(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES[:1])
    path = forecast_store(tmp_path / "f.zarr", data)
    worse = xr.open_zarr(path, consolidated=False, chunks=None).load()
    worse["instance"] = xr.zeros_like(worse["instance"])
    worse["semantic"] = xr.zeros_like(worse["semantic"])
    worse.to_zarr(tmp_path / "worse.zarr", zarr_format=3, consolidated=False)
    command = ("evaluate", path, "--data", data, "--against", str(tmp_path / "worse.zarr"))
    other = json.loads(run(*command, "--json"))["against"][str(tmp_path / "worse.zarr")]
    assert other["gains"]["vehicle"]["iou"] == {"difference": 1.0, "interval": None}
    assert "not known, for want of an interval, in VPQ moving, IoU" in other["summary"]["vehicle"]
    assert np.isfinite(other["gains"]["vehicle"]["vpq"]["difference"])
