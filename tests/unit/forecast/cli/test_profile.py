"""Innermost parts are charged, baselines are scoring, and all time of a rollout is somewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from torch.profiler import record_function

from forecast.cli.console import print_part_times
from forecast.cli.profile import REST, Block, PartTime, PartTimes, profiled
from forecast.inference.comparison import SCORING
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.stores import Mover, sequence_store


def ignore(done: int, of: int) -> None:
    """Progress that nobody looks at."""


def test_a_part_is_not_charged_for_the_parts_inside_it() -> None:
    times = PartTimes()
    inner, innermost = Block("inner", 6, 9), Block("innermost", 7, 8)
    times.add([innermost, inner, Block("outer", 5, 10), Block("inner", 9, 9.5)])
    assert times.seconds == {"outer": 1.5, "inner": 2.5, "innermost": 1}
    assert times.calls == {"outer": 1, "inner": 2, "innermost": 1}


def test_what_baselines_do_is_theirs() -> None:
    times = PartTimes()
    baseline = [Block("drawing", 1, 3), Block("mask head", 2, 3)]
    times.add([Block(SCORING, 0, 4), *baseline, Block("drawing", 4, 6)])
    assert times.seconds == {SCORING: 4, "drawing": 2}
    assert times.calls == {SCORING: 1, "drawing": 1}


def test_what_no_part_took_is_the_rest() -> None:
    times = PartTimes()
    times.add([Block("writing", 0, 1)])
    times.add([Block("writing", 2, 4)])
    assert times.table(4) == [
        PartTime("writing", 3, 0.75, 2),
        PartTime(REST, 1, 0.25, 0),
    ]


def test_a_part_that_fails_is_over() -> None:
    def fail() -> None:
        with record_function("failing"):
            raise ValueError

    with profiled(ignore) as (_, table):
        with pytest.raises(ValueError):  # noqa: PT011
            fail()
        with record_function("sleeping"):
            time.sleep(0.05)
    calls = {one.part: one.calls for one in table}
    assert calls == {"failing": 1, "sleeping": 1, REST: 0}
    seconds = {one.part: one.seconds for one in table}
    assert seconds["failing"] < 0.05 <= seconds["sleeping"]


def test_a_rollout_is_profiled_from_loading_to_scoring(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "data.zarr", [[Mover(0, 0, speed=4)], [Mover(3, 2)]])
    request = RolloutRequest(data=data, output=str(tmp_path / "out.zarr"), batch_size=1)
    heard: list[tuple[int, int]] = []
    began = time.perf_counter()
    with profiled(lambda *counts: heard.append(counts)) as (told, table):
        rollout_to_store(request, told)
    took = time.perf_counter() - began
    assert heard == [(1, 2), (2, 2)]
    calls = {one.part: one.calls for one in table}
    assert calls["loading the model"] == 1
    assert calls["reading the store"] == 2
    assert calls["observing agents"] == 2 * 3  # every frame of a history
    assert calls["drawing"] == calls["motion head"] == calls["mask head"] == 2 * 6
    assert calls["encoding rasters"] == 2 * 3
    # Every observation and every lead.
    assert calls["decoder: neighbours"] == calls["decoder: encoded features"] == 2 * (3 + 6)
    # But for the last lead: beyond the learned horizon queries stay as they are.
    assert calls["query interaction"] == 2 * (3 + 5)
    assert calls["writing"] == 2 + 2 + 1  # forecasts, records, the store's name
    assert {"map crops", "moving agents", SCORING, REST} <= set(calls)
    assert all(one.seconds > 0 for one in table)
    assert 0.8 * took < sum(one.seconds for one in table) <= took
    assert sum(one.share for one in table) == pytest.approx(1.0)


def test_nothing_is_profiled_unless_it_is_asked_for() -> None:
    with profiled(ignore, wanted=False) as (told, table), record_function("unseen"):
        assert told is ignore
    assert table == []


def test_the_table_gives_seconds_shares_and_calls(capsys: pytest.CaptureFixture[str]) -> None:
    print_part_times([PartTime("drawing", 1.5, 0.75, 6), PartTime(REST, 0.5, 0.25, 0)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["drawing", "1.500", "75.0%", "6"],
        ["the", "rest", "0.500", "25.0%"],
        ["total", "2.000"],
    ]
    print_part_times([])
    assert capsys.readouterr().out == ""
