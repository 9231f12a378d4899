"""`forecast evaluate` on bad input: one line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.refusals import Refused
from tests.support.stores import Mover, forecast_store, sequence_store


def test_evaluate_refuses_a_sequence_store_as_a_forecast(refused: Refused, store: Path) -> None:
    assert "bev-forecast/2" in refused("evaluate", str(store), "--data", str(store))


def test_evaluate_refuses_a_missing_forecast(refused: Refused, store: Path) -> None:
    assert "none.zarr" in refused("evaluate", "none.zarr", "--data", str(store))


def test_evaluate_asks_for_the_truth_where_the_forecast_does_not_name_it(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    unnamed = forecast_store(tmp_path / "unnamed.zarr", str(store))
    assert "--data" in refused("evaluate", unnamed)
    lost = forecast_store(tmp_path / "lost.zarr", str(store), data="lost.zarr")
    assert "lost.zarr" in refused("evaluate", lost)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--by lead --by-lead", "got --by and --by-lead"),
        ("--cells --by-lead", "got --cells and --by-lead"),
        ("--drift", "expected --by-lead; got --drift"),
        ("--cells --workers 2", "--workers or --cells"),
        ("--by lead --against b.zarr", "leave --by out"),
        ("--cells --against constant-turn", "leave --cells out"),
    ],
)
def test_evaluate_refuses_questions_that_exclude_each_other(
    arguments: str, told: str, refused: Refused
) -> None:
    assert told in refused("evaluate", "a.zarr", "--data", "d.zarr", *arguments.split())


def test_evaluate_refuses_to_compare_forecasts_of_others(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    others = sequence_store(tmp_path / "others.zarr", [[Mover(0, 0)]], first=7)
    ours, theirs = (
        forecast_store(tmp_path / f"{n}.zarr", s) for n, s in ((1, str(store)), (2, others))
    )
    line = refused("evaluate", ours, "--data", str(store), "--by-lead", "--against", theirs)
    assert f"others in {theirs}" in line
