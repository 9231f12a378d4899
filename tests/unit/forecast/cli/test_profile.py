"""The stopwatch: innermost stages are charged, nothing stays watched, and all time is somewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from forecast.cli import profile as profiling
from forecast.cli.console import print_stage_times
from forecast.cli.profile import REST, SCORING, WATCHED, StageTime, Stopwatch, watched
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.stores import Mover, sequence_store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set by its only entry."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_stage_is_not_charged_for_the_stages_inside_it(clock: list[float]) -> None:
    stopwatch = Stopwatch()

    def inner() -> None:
        clock[0] += 3

    def outer() -> None:
        clock[0] += 1
        stopwatch.around("inner", inner)()
        clock[0] += 1

    clock[0] += 5
    stopwatch.around("outer", outer)()
    assert stopwatch.seconds == {REST: 5, "outer": 2, "inner": 3}
    assert stopwatch.calls == {"outer": 1, "inner": 1}


def test_what_baselines_do_is_theirs(clock: list[float]) -> None:
    stopwatch = Stopwatch()

    def draw() -> None:
        clock[0] += 1

    stopwatch.around(SCORING, stopwatch.around("drawing", draw))()
    assert stopwatch.seconds[SCORING] == 1
    assert "drawing" not in stopwatch.seconds


def test_a_stage_that_fails_is_over(clock: list[float]) -> None:
    stopwatch = Stopwatch()

    def broken() -> None:
        clock[0] += 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        stopwatch.around("broken", broken)()
    clock[0] += 2
    stopwatch.charge()
    assert stopwatch.seconds == {"broken": 1, REST: 2}


def test_a_rollout_is_watched_from_reading_to_scoring_and_no_longer(tmp_path: Path) -> None:
    functions = [getattr(owner, name) for pairs in WATCHED.values() for owner, name in pairs]
    data = sequence_store(tmp_path / "data.zarr", [[Mover(0, 0, speed=4)], [Mover(3, 2)]])
    request = RolloutRequest(data=data, output=str(tmp_path / "out.zarr"), batch_size=1)
    began = time.perf_counter()
    with watched() as table:
        rollout_to_store(request)
    took = time.perf_counter() - began
    calls = {one.stage: one.calls for one in table}
    assert calls["reading the store"] >= 2
    assert calls["decoder: neighbours"] == calls["drawing"] == calls["motion head"] == 12
    assert calls["query interaction"] == 10  # beyond the learned horizon queries stay as they are
    assert {"map crops", "writing", SCORING, REST} <= set(calls)
    assert 0.8 * took < sum(one.seconds for one in table) <= took
    assert sum(one.share for one in table) == pytest.approx(1.0)
    after = [getattr(owner, name) for pairs in WATCHED.values() for owner, name in pairs]
    assert after == functions


def test_nothing_is_watched_unless_it_is_asked_for() -> None:
    load = profiling.job.load_model_for
    with watched(wanted=False) as table:
        assert profiling.job.load_model_for is load
    assert table == []


def test_the_table_gives_seconds_shares_and_calls(capsys: pytest.CaptureFixture[str]) -> None:
    print_stage_times([StageTime("drawing", 1.5, 0.75, 6), StageTime(REST, 0.5, 0.25, 0)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["drawing", "1.500", "75.0%", "6"],
        ["the", "rest", "0.500", "25.0%"],
        ["total", "2.000"],
    ]
    print_stage_times([])
    assert capsys.readouterr().out == ""
