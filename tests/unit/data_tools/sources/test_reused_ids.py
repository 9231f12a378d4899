"""Where an id goes to another agent, and where it only seems to."""

import numpy as np
import pytest

from data_tools.sources.reused_ids import beginnings

GAP_S = 1.0
CAR, WALKER = np.array(["vehicle"]), np.array(["pedestrian"])


def seen(time_s, speed=0.0, x=0.0, y=0.0):
    """Positions of an agent along x, where it is at the first of these times."""
    return np.column_stack([x + speed * (time_s - time_s[0]), np.full(len(time_s), y)])


def starts(parts, kinds, noise=0.0):
    times = np.concatenate([time for time, _ in parts])
    places = np.concatenate([place for _, place in parts])
    places = places + np.random.default_rng(0).normal(0.0, noise, places.shape)
    kind = np.concatenate(
        [np.repeat(k, len(time)) for k, (time, _) in zip(kinds, parts, strict=True)]
    )
    return beginnings(times, places, kind, GAP_S)


EARLY, LATE = np.arange(35) * 0.1, np.arange(55, 90) * 0.1  # 2.1 s between them


def test_another_class_after_a_gap_is_another_agent():
    parts = [(EARLY, seen(EARLY)), (LATE, seen(LATE, x=3.0))]
    assert starts(parts, [CAR, WALKER]) == [0, 35]
    assert starts(parts, [CAR, CAR]) == [0]


def test_the_same_class_at_a_place_that_it_cannot_have_reached_is_another_agent():
    assert starts([(EARLY, seen(EARLY)), (LATE, seen(LATE, x=33.0))], [CAR, CAR]) == [0, 35]
    driving = [(EARLY, seen(EARLY, 15.0)), (LATE, seen(LATE, 15.0, x=15.0 * 5.5))]
    assert starts(driving, [CAR, CAR]) == [0]


@pytest.mark.parametrize("step_s", [0.04, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("acceleration", [-5.0, 0.0, 4.0])
def test_one_agent_is_one_however_it_drives_and_however_often_it_is_seen(step_s, acceleration):
    time = np.arange(0.0, 8.0, step_s)
    speed = np.clip(25.0 + acceleration * time, 0.0, 45.0)
    turning = 0.15 * time
    way = speed[:, None] * step_s * np.stack([np.cos(turning), np.sin(turning)], axis=1)
    place = way.cumsum(axis=0)
    kept = (time < 3.0) | (time > 5.5)
    assert starts([(time, place)], [CAR], noise=0.2) == [0]
    assert starts([(time[kept], place[kept])], [CAR], noise=0.2) == [0]


def test_a_class_that_flickers_without_a_gap_is_no_other_agent():
    kind = np.where(np.arange(len(EARLY)) % 3 == 0, "pedestrian", "vehicle")
    assert beginnings(EARLY, seen(EARLY, 2.0), kind, GAP_S) == [0]


def test_a_jump_without_a_gap_is_another_agent():
    parts = [(EARLY, seen(EARLY, 5.0)), (EARLY + 3.5, seen(EARLY, 5.0, x=40.0))]
    assert starts(parts, [CAR, CAR], noise=0.2) == [0, 35]


def test_two_agents_of_one_id_at_the_same_time_are_none_for_long():
    place = seen(EARLY, 5.0)
    place[1::2] += 50.0
    assert beginnings(EARLY, place, np.repeat(CAR, len(EARLY)), GAP_S) == [
        *range(33)
    ]  # the last but one may be an error


def test_neither_speeds_nor_classes_are_taken_across_a_gap():
    # Parked, seen once while it drives, and parked again: nothing tells its speed in between.
    again = LATE[:5] + 2.1
    parts = [(EARLY, seen(EARLY)), (LATE[:1], seen(LATE[:1], x=12.0)), (again, seen(again, x=55.0))]
    assert starts(parts, [CAR, CAR, CAR]) == [0]
    assert starts(parts, [CAR, WALKER, CAR]) == [0, 35, 36]
    assert starts(parts, [WALKER, CAR, CAR]) == [0, 35]


def test_three_agents_of_one_id_are_three():
    last = LATE + 10.0
    parts = [(EARLY, seen(EARLY)), (LATE, seen(LATE)), (last, seen(last, 1.0, y=4.0))]
    assert starts(parts, [CAR, WALKER, CAR]) == [0, 35, 70]


@pytest.mark.parametrize("wrong", [(1e300, -1e300), (40.0, 40.0)])
@pytest.mark.parametrize("row", [9, 33])
def test_a_single_error_is_no_other_agent(wrong, row):
    place = seen(EARLY, 5.0)
    place[row] = wrong
    kind = np.repeat(CAR, len(EARLY))
    assert beginnings(EARLY, place, kind, GAP_S) == [0]
    place[row - 1] = wrong
    assert beginnings(EARLY, place, kind, GAP_S) == [0, row - 1, row + 1]
    place[row - 1 :] = wrong
    assert beginnings(EARLY, place, kind, GAP_S) == [0, row - 1]


@pytest.mark.parametrize(("way", "found"), [(50.0, [0]), (100.0, [0, 1])])
def test_two_observations_are_judged_by_their_speed(way, found):
    place = np.array([[0.0, 0.0], [way, 0.0]])
    assert beginnings(np.array([0.0, 1.0]), place, np.repeat(CAR, 2), GAP_S) == found
    assert beginnings(np.zeros(1), place[:1], CAR, GAP_S) == [0]
