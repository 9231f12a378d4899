"""Whose number is whose, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from forecast.errors import DataError
from forecast.live.ids import IdPool


def test_an_id_keeps_its_number_while_it_may_be_remembered() -> None:
    pool = IdPool(frames=3, seconds=2.0)
    assert pool.numbers(["a", 7], 0.0, 0) == [1, 2]
    assert pool.numbers([7, (1, 2)], 1.0, 1) == [2, 3]
    assert pool.numbers(["a"], 2.0, 2) == [1]
    assert (pool.owner(2), pool.owner(3)) == (7, (1, 2))


def test_an_id_is_forgotten_after_frames_and_seconds_both() -> None:
    pool = IdPool(frames=3, seconds=2.0)
    pool.numbers(["a"], 0.0, 0)
    pool.numbers([], 1.0, 10)  # many frames in a short time: still hidden, perhaps
    assert len(pool) == 1
    slow = IdPool(frames=3, seconds=2.0)
    slow.numbers(["a"], 0.0, 0)
    slow.numbers([], 10.0, 2)
    assert len(slow) == 1
    slow.numbers(["b"], 11.0, 3)
    assert len(slow) == 1
    assert slow.numbers(["a"], 12.0, 4) == [3]  # somebody new, under a number of its own


def test_numbers_go_round_and_are_never_taken_from_anyone() -> None:
    pool = IdPool(frames=2, seconds=0.5, most=4)
    kept = pool.numbers(["parked"], 0.0, 0)
    for frame in range(1, 50):
        own, passing = pool.numbers(["parked", f"passing {frame}"], float(frame), frame)
        assert [own] == kept
        assert own != passing <= 4
        assert len(pool) <= 3


def test_more_ids_than_numbers_are_refused() -> None:
    pool = IdPool(frames=3, seconds=2.0, most=2)
    with pytest.raises(DataError, match="2 ids within 2 s at most"):
        pool.numbers(["a", "b", "c"], 0.0, 0)


def test_who_leaps_as_no_vehicle_does_gets_another_number_and_the_old_one_is_freed() -> None:
    pool = IdPool(frames=3, seconds=2.0)
    start = np.array([[5.0e6, 0.0], [0.0, 0.0]])
    assert pool.numbers(["a", "b"], 0.0, 0, start) == [1, 2]
    driven = start + np.array([12.0, 0.0])  # 10 m in 0.1 s, and 3 m of noise, are driven
    assert pool.numbers(["a", "b"], 0.1, 1, driven) == [1, 2]
    assert pool.leapt == []
    before = pool.copy()
    leapt = driven + np.array([[0.0, 14.0], [0.0, 0.0]])
    assert pool.numbers(["a", "b"], 0.2, 2, leapt) == [3, 2]
    assert (pool.leapt, pool.owner(3), len(pool)) == ([1], "a", 2)
    assert (before.leapt, before.owner(1)) == ([], "a")
    assert pool.numbers(["a", "b"], 0.3, 3, leapt) == [3, 2]
    assert pool.leapt == []


def test_what_is_hidden_for_long_may_have_gone_far() -> None:
    pool = IdPool(frames=3, seconds=2.0)
    pool.numbers(["a"], 0.0, 0, np.zeros((1, 2)))
    pool.numbers([], 1.0, 1, np.zeros((0, 2)))
    assert pool.numbers(["a"], 1.5, 2, np.array([[100.0, 100.0]])) == [1]
