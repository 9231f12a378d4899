"""Whose the wrong cells are: every cell counts once, and with the right agent."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from forecast.cli.main import app
from forecast.cli.score_tables import print_wrong_cells
from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.scoring import score_stores
from forecast.evaluation.wrong_cells import Shares, Whose, attribute_cells, count_by_agent
from forecast.grid import BEVGrid
from tests.support.stores import Mover, forecast_store, sequence_store, store_of_classes

ROW = BEVGrid(0.0, 40.0, 0.0, 1.0, 1.0)
STILL, MOVING, GONE, NEW = 1, 2, 3, 4


def row(**places: slice) -> np.ndarray:
    """A frame of one row of cells, with each agent where it is said to be."""
    frame = np.zeros((1, ROW.width), np.int64)
    for name, place in places.items():
        frame[0, place] = {"still": STILL, "moving": MOVING, "gone": GONE, "new": NEW}[name]
    return frame


PRESENT = row(still=slice(0, 4), moving=slice(10, 14), gone=slice(20, 24))
LATER = row(still=slice(0, 4), moving=slice(15, 19), new=slice(30, 34))
TRUTH = Truth(np.stack((PRESENT, LATER)).clip(max=1), np.stack((PRESENT, LATER)))


def counted(frame: np.ndarray, named: bool = True) -> dict[str, int]:
    """What a forecast of one lead gets wrong, in cells."""
    guess = Forecast(frame[None].clip(max=1), frame[None])
    (sums,) = count_by_agent(TRUTH, guess, ROW, 1, named)[0]
    return {whose.name: int(sums[whose]) for whose in Whose if sums[whose]}


def test_every_cell_goes_to_the_agent_that_it_is_of() -> None:
    forecast = row(still=slice(1, 5), moving=slice(12, 16), gone=slice(24, 27))
    assert counted(forecast) == {
        "HIT": 3 + 1,
        "MISSED_STILL": 1,
        "FALSE_STILL": 1,
        "MISSED_MOVING": 3,
        "FALSE_MOVING": 3,
        "MISSED_NEW": 4,
        "FALSE_GONE": 3,
    }


def test_a_missed_cell_without_an_id_is_of_no_agent_that_came_later() -> None:
    semantic = np.stack((PRESENT, row(new=slice(30, 34)))).clip(max=1)
    truth = Truth(semantic, np.stack((PRESENT, row())))  # the later cells have a class alone
    guess = Forecast(row()[None], row()[None])
    (sums,) = count_by_agent(truth, guess, ROW, 1)[0]
    assert sums[Whose.MISSED_UNNAMED] == sums.sum() == 4


def test_of_detected_input_nobody_is_blamed_for_a_false_cell() -> None:
    forecast = row(still=slice(1, 5), gone=slice(24, 27))
    assert counted(forecast, named=False)["FALSE_UNNAMED"] == 1 + 3
    assert counted(forecast, named=False)["MISSED_MOVING"] == 4


@settings(deadline=None)
@given(*(arrays(np.int64, (3, 1, ROW.width), elements=st.integers(0, 5)) for _ in range(2)))
def test_every_cell_of_a_class_is_counted_once(instance: np.ndarray, ids: np.ndarray) -> None:
    kinds = np.array([0, 1, 2, 1, 2, 1])
    guess = Forecast(kinds[ids[1:]], ids[1:])
    sums = count_by_agent(Truth(kinds[instance], instance), guess, ROW, 2)
    for kind in (1, 2):
        true, drawn = kinds[instance[1:]] == kind, guess.semantic == kind
        assert sums[kind - 1].sum() == (true | drawn).sum()
        assert sums[kind - 1, :, Whose.HIT].sum() == (true & drawn).sum()


def parts(one: Shares) -> dict[str, float | None]:
    named = asdict(one).items()
    return {name: part for name, part in named if name.startswith(("iou", "missed", "false"))}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[str, str]:
    """What happened, and a forecast of which half is wrong."""
    scenes = [[Mover(0.0, 0.0, speed=4.0), Mover(8.0, 6.0)], [Mover(-8.0, 0.0, speed=3.0)]]
    other = sequence_store(tmp_path / "other.zarr", [[Mover(1.0, 0.0, speed=5.0)], []])
    return sequence_store(tmp_path / "data.zarr", scenes), other


def test_the_shares_of_stores_add_up_and_their_iou_is_the_score(
    stores: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, other = stores
    forecast = forecast_store(tmp_path / "f.zarr", other, model="mine")
    told: list[tuple[int, int]] = []
    found = attribute_cells(forecast, data, lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    assert [one.lead for one in found.shares] == [None, 1, 2, 3, 4, 5, 6]
    for one in found.shares:
        assert sum(part or 0.0 for part in parts(one).values()) == pytest.approx(1.0)
        assert None not in parts(one).values()
    iou = found.shares[0].iou
    assert iou == pytest.approx(score_stores(forecast, data).classes["vehicle"].iou)
    assert 0 < iou < 1
    print_wrong_cells(found)
    out = capsys.readouterr().out
    assert out.startswith("forecast of mine\n2 sequences, 6 leads, protocol exact")
    assert "unnamed" not in out


def test_what_ids_do_not_tell_is_not_known_rather_than_nothing(
    stores: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, other = stores
    forecast = forecast_store(tmp_path / "f.zarr", other, input="detected")
    whole = attribute_cells(forecast, data).shares[0]
    assert (whole.false_gone, whole.false_moving, whole.false_still) == (None, None, None)
    assert whole.missed_moving is not None
    assert sum(part or 0.0 for part in parts(whole).values()) == pytest.approx(1.0)

    scenes = [[Mover(0.0, 0.0, speed=4.0)], []]
    dense = store_of_classes(tmp_path / "classes.zarr", scenes)
    named = sequence_store(tmp_path / "named.zarr", scenes)
    print_wrong_cells(attribute_cells(forecast_store(tmp_path / "g.zarr", named), dense))
    assert re.search(r"all +1.000( +-){6}", capsys.readouterr().out)


def test_leads_and_sequences_that_one_side_lacks_are_left_out(tmp_path: Path) -> None:
    scenes = [[Mover(0.0, 0.0, speed=4.0)], [Mover(4.0, 4.0)]]
    data = sequence_store(tmp_path / "data.zarr", scenes, horizon=3)
    forecast = forecast_store(
        tmp_path / "f.zarr", sequence_store(tmp_path / "one.zarr", scenes[:1])
    )
    found = attribute_cells(forecast, data)
    assert (found.sequences, found.horizon) == (1, 3)
    assert [one.lead for one in found.shares] == [None, 1, 2, 3]


def test_where_nobody_is_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = sequence_store(tmp_path / "data.zarr", [[]])
    print_wrong_cells(attribute_cells(forecast_store(tmp_path / "f.zarr", data), data))
    assert "nothing to score" in capsys.readouterr().out


def test_the_command_prints_them_as_json(stores: tuple[str, str], tmp_path: Path) -> None:
    data, other = stores
    forecast = forecast_store(tmp_path / "f.zarr", other)
    done = CliRunner().invoke(app, ["evaluate", forecast, "--data", data, "--cells", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == attribute_cells(forecast, data).to_json()


def test_without_data_the_store_that_was_rolled_out_is_the_truth(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    data, other = stores
    forecast = forecast_store(tmp_path / "f.zarr", other, data=data)
    done = CliRunner().invoke(app, ["evaluate", forecast, "--cells", "--json"])
    assert json.loads(done.output) == attribute_cells(forecast, data).to_json()
