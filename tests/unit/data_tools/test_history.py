"""What was observed before a moment: which samples, and nothing of the future."""

import numpy as np
import pytest

from data_tools.history import carry, recent
from data_tools.scene import Observed
from tests.support.stores import Mover


def observed(time_s, *movers):
    time_s = np.asarray(time_s, float)
    return Observed(time_s, np.stack([mover.state(time_s) for mover in movers]))


TEN_HZ = observed(0.1 * np.arange(60), Mover(0.0, 0.0, speed=5.0), Mover(3.0, 3.0, turn_rate=0.5))


@pytest.mark.parametrize(("present_s", "count"), [(0.0, 1), (1.0, 11), (2.0, 21), (4.3, 21)])
def test_the_samples_of_two_seconds_up_to_the_present_are_taken(present_s, count):
    found = recent(TEN_HZ, present_s)
    np.testing.assert_allclose(found.time_s, 0.1 * np.arange(1 - count, 1), atol=1e-9)
    assert found.time_s[-1] == 0.0
    last = round(present_s / 0.1)
    np.testing.assert_array_equal(found.state, TEN_HZ.state[:, last + 1 - count : last + 1])


def test_a_clock_that_jitters_has_its_own_times_and_no_sample_too_few():
    jitter = np.random.default_rng(0).uniform(-0.005, 0.005, 60)
    shaken = observed(0.1 * np.arange(60) + jitter, Mover(0, 0, speed=5.0))
    found = recent(shaken, shaken.time_s[40])
    assert len(found.time_s) == 21
    np.testing.assert_allclose(found.time_s, shaken.time_s[20:41] - shaken.time_s[40])
    np.testing.assert_allclose(found.state[0, :, 0], 5.0 * shaken.time_s[20:41])


@pytest.mark.parametrize(("late_s", "count"), [(0.03, 20), (0.07, 21)])
def test_a_present_between_two_samples_is_carried_there_from_the_past_alone(late_s, count):
    found = recent(TEN_HZ, 4.0 + late_s)
    # The oldest is more than 2 s back then; the last is moved if it is near, else one is added.
    assert len(found.time_s) == count
    assert found.time_s[-1] == 0.0
    np.testing.assert_allclose(found.state[0, -1, 0], 5.0 * (4.0 + late_s))
    other = Observed(TEN_HZ.time_s, TEN_HZ.state.copy())
    other.state[:, 41:] += 100.0
    np.testing.assert_array_equal(recent(other, 4.0 + late_s).state, found.state)


def test_a_track_that_was_missed_last_is_absent_at_a_present_between_samples():
    missed = Observed(TEN_HZ.time_s, TEN_HZ.state.copy())
    missed.state[1, 40] = np.nan
    missed.state[0, 36] = np.nan
    found = recent(missed, 4.03)
    assert np.isnan(found.state[1, -1]).all()
    np.testing.assert_allclose(found.state[0, -1, 0], 5.0 * 4.03)


@pytest.mark.parametrize(("present_s", "seen"), [(6.3, True), (6.5, False)])
def test_nothing_is_carried_over_more_than_half_a_second(present_s, seen):
    found = recent(TEN_HZ, present_s)
    assert found.time_s[-1] == 0.0
    assert np.isfinite(found.state[:, -1]).all() == seen


def test_before_the_first_sample_nothing_was_observed():
    found = recent(TEN_HZ, -1.0)
    assert found.time_s.tolist() == [0.0]
    assert np.isnan(found.state).all()


def test_one_position_alone_does_not_move():
    assert carry(np.array([1.0]), np.array([[2.0, 3.0]]), 1.4).tolist() == [2.0, 3.0]
