"""Errors taken apart: who is in which group, and which way the errors point."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.cli.options import Question
from forecast.errors import DataError
from forecast.evaluation.breakdown import QUESTIONS, SPEEDS_M_S, UNKNOWN, break_down, errors_of
from forecast.schema import SequenceMeta
from tests.support.stores import (
    Mover,
    forecast_store,
    perfect_steps,
    sequence_dataset,
    sequence_store,
)

TRAFFIC = [
    Mover(0.0, 0.0, speed=4.0),
    Mover(-8.0, 6.0, math.pi / 2, speed=3.0, turn_rate=0.3),
    Mover(10.0, -6.0),
]


def shifted(
    along: float, aside: float, history: int = 3
) -> tuple[xr.Dataset, xr.Dataset, SequenceMeta]:
    """One sequence, and a forecast that is wrong by as much for everybody."""
    data = sequence_dataset([TRAFFIC], history=history)
    meta = SequenceMeta.from_attrs(data.attrs, "memory")
    steps = list(perfect_steps(data, meta, 0))
    state = data["track_state"].values[0, :, meta.history :]
    yaw = state[..., 2]
    pose = state[..., :3].copy()
    pose[..., 0] += along * np.cos(yaw) - aside * np.sin(yaw)
    pose[..., 1] += along * np.sin(yaw) + aside * np.cos(yaw)
    guess = xr.Dataset(
        {
            "pose": (("lead", "track", "pose"), pose.transpose(1, 0, 2)),
            "instance": (("lead", "y", "x"), np.stack([s.instance[0].numpy() for s in steps])),
        }
    )
    return data.isel(sequence=0), guess, meta


@settings(deadline=None)
@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_errors_point_along_and_aside_of_the_true_heading(along: float, aside: float) -> None:
    errors = errors_of(*shifted(along, aside))
    np.testing.assert_allclose(errors.along, along, atol=1e-4)
    np.testing.assert_allclose(errors.aside, aside, atol=1e-4)
    assert errors.found.all(), "its masks are those of the truth"


def test_only_moving_agents_count_and_each_is_in_its_group() -> None:
    errors = errors_of(*shifted(0.0, 0.0))
    assert len(errors.along) == 2 * 6, "the third stands"
    assert set(errors.group["manoeuvre"]) == {"keeps its speed", "turns left"}
    assert set(errors.group["class"]) == {"vehicle"}
    assert errors.group["lead"].tolist() == [1, 2, 3, 4, 5, 6] * 2
    assert set(errors.group["seen"]) == {3}


def test_every_question_covers_every_entry_once(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", [TRAFFIC, TRAFFIC[:1]])
    told: list[tuple[int, int]] = []
    forecast = forecast_store(tmp_path / "f.zarr", data)
    rows = break_down(forecast, data, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    for question in QUESTIONS:
        assert sum(row.entries for row in rows if row.question == question) == 18, question
    assert all(row.displacement == pytest.approx(0.0, abs=1e-3) for row in rows)


def test_who_is_first_seen_at_the_present_is_not_taken_for_standing() -> None:
    data, guess, meta = shifted(0.0, 0.0)
    data["track_state"].values[0, : meta.history - 1] = np.nan
    group = errors_of(data, guess, meta).group
    assert set(group["manoeuvre"]) == {"appears", "turns left"}
    assert set(group["speed"][:6]) == {UNKNOWN}
    assert UNKNOWN not in group["speed"][6:]


def driven(steps_m: list[float], missed: slice = slice(0)) -> str:
    """What an agent that drives along y does, by the metres of its steps before and after now.

    Args:
        steps_m: Two before the present, six after it.
        missed: Leads, from 0, at which it is not seen.
    """
    data, guess, meta = shifted(0.0, 0.0)
    state = data["track_state"].values
    state[1:] = np.nan
    state[0, :, 0], state[0, :, 2] = 0.0, math.pi / 2
    state[0, :, 1] = np.cumsum([0.0, *steps_m]) - sum(steps_m[: meta.history - 1])
    state[0, meta.history :][missed] = np.nan
    (manoeuvre,) = set(errors_of(data, guess, meta).group["manoeuvre"])
    return str(manoeuvre)


@pytest.mark.parametrize(
    ("before_m", "after_m", "manoeuvre"),
    [
        (2.0, 2.0, "keeps its speed"),
        (0.1, 2.0, "starts"),
        (2.0, 0.1, "stops"),
        (2.0, 3.1, "accelerates"),
        (3.1, 2.0, "brakes"),
    ],
)
def test_a_manoeuvre_is_the_last_step_seen_against_that_before_the_present(
    before_m: float, after_m: float, manoeuvre: str
) -> None:
    # The steps between, and the first one, do not count.
    assert driven([9.0, before_m, 1.0, 1.0, 1.0, 1.0, 1.0, after_m]) == manoeuvre


@pytest.mark.parametrize("missed", [slice(4, 5), slice(3, 5), slice(5), slice(1, 6, 2)])
def test_a_missed_frame_is_no_stop(missed: slice) -> None:
    assert driven([2.0] * 8, missed) == "keeps its speed"


def test_a_stop_behind_a_missed_frame_is_one() -> None:
    assert driven([2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.1, 0.1], slice(4, 5)) == "stops"


def test_speed_is_that_of_the_step_before_the_present() -> None:
    data, guess, meta = shifted(0.0, 0.0)
    x = data["track_state"].values[0, :, 0]
    x[0] -= 5.0  # faster before
    x[meta.history :] += 5.0  # faster after
    group = errors_of(data, guess, meta).group
    assert set(group["speed"][:6]) == {SPEEDS_M_S.index(2.0)}, "4 m/s"


def test_with_one_frame_of_history_no_speed_is_known() -> None:
    errors = errors_of(*shifted(0.0, 0.0, history=1))
    assert set(errors.group["speed"]) == {UNKNOWN}
    assert set(errors.group["manoeuvre"]) == {"appears", "turns left"}
    assert set(errors.group["seen"]) == {1}


def test_who_is_not_there_at_the_present_counts_nowhere() -> None:
    data, guess, meta = shifted(0.0, 0.0)
    everyone = len(errors_of(data, guess, meta).along)
    now = data["instance"].values[meta.history - 1]
    now[now == 1] = 0  # no cell shows it, but its track does
    assert len(errors_of(data, guess, meta).along) == everyone
    data["track_state"].values[0, meta.history - 1, 0] = meta.grid.x_max_m
    assert len(errors_of(data, guess, meta).along) == 6


def test_the_mean_along_the_heading_has_a_sign(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", [[Mover(0.0, 0.0, math.pi / 2, speed=4.0)]])
    slow = sequence_store(tmp_path / "slow.zarr", [[Mover(0.0, 0.0, math.pi / 2, speed=3.0)]])
    (row,) = break_down(forecast_store(tmp_path / "f.zarr", slow), data, ["class"])
    assert row.ahead == pytest.approx(-1.75, abs=0.01)  # 0.5 m further behind at each of 6 leads
    assert row.along == pytest.approx(1.75, abs=0.01)


def test_of_detected_input_it_is_told_what_was_found_under_whichever_id() -> None:
    data, guess, meta = shifted(0.0, 0.0)
    guess["instance"].values[:] = np.array([0, 9, 2, 1])[guess["instance"].values]
    errors = errors_of(data, guess, meta, tracked=False)
    assert errors.found.all()
    assert np.isnan(errors.along).all()
    guess["instance"].values[:, :, : guess.sizes["x"] // 2] = 0
    assert not errors_of(data, guess, meta, tracked=False).found.all()


def test_a_forecast_of_detected_input_is_taken_apart_without_positions(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", [TRAFFIC])
    rows = break_down(forecast_store(tmp_path / "f.zarr", data, input="detected"), data)
    assert {(row.forecast, row.displacement, row.found) for row in rows} == {(None, None, 1.0)}


def test_truth_without_tracks_is_refused(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", [TRAFFIC])
    forecast = forecast_store(tmp_path / "f.zarr", data)
    for name in ("track_state", "track_class"):
        shutil.rmtree(tmp_path / "data.zarr" / name)
    with pytest.raises(DataError, match="track_state"):
        break_down(forecast, data)


def test_the_command_line_offers_every_question() -> None:
    assert [question.value for question in Question] == list(QUESTIONS)
