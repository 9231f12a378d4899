"""A table's tracks in frames, and as they were observed."""

import numpy as np
import pytest

from data_tools.sources.tracks_resample import Track, resample, samples


def track(time_s, speed=8.0, pose=None):
    time_s = np.asarray(time_s, float)
    if pose is None:
        pose = np.stack([speed * time_s, 0 * time_s, 0 * time_s], axis=1)
    size = np.array([4.0, 2.0])
    observed = np.column_stack([pose, np.tile(size, (len(time_s), 1))])
    return Track("a", "vehicle", time_s, pose, size, observed, np.linspace(0, 1, len(time_s)))


def test_a_single_observation_is_a_single_frame():
    one = track([1.0], pose=np.array([[3.0, 4.0, 0.5]]))
    state = resample(one, np.array([0.5, 1.0, 1.5]))
    np.testing.assert_allclose(state[1], [3.0, 4.0, 0.5, 4.0, 2.0])
    assert np.isnan(state[[0, 2]]).all()


def test_clocks_with_few_digits_still_meet_the_frames():
    times = np.round(np.arange(31) * (1 / 30), 3)
    one = track(times, speed=0.0)
    assert np.isfinite(resample(one, np.array([0.0, 0.5, 1.0]))).all()
    assert np.isfinite(resample(one, np.array([1.0005]))).all()


def test_tracks_of_one_clock_keep_its_times_and_stay_absent_where_they_were_missed():
    clock = np.array([0.0, 0.1, 0.25, 0.3, 0.4])
    found = samples([track(clock), track(clock[[1, 3]] + 5e-4)], 0.5)
    np.testing.assert_array_equal(found.time_s, clock)
    np.testing.assert_array_equal(found.state[0], track(clock).observed)
    assert np.isfinite(found.state[1, :, 0]).tolist() == [False, True, False, True, False]


def test_tracks_with_clocks_of_their_own_are_carried_to_one_that_has_the_frames():
    clocks = [0.1 * np.arange(31) + offset for offset in (0.0, 0.013, 0.037, 0.071)]
    found = samples([track(clock) for clock in clocks], 0.5)
    np.testing.assert_allclose(found.time_s, 0.1 * np.arange(31), atol=1e-9)
    # From its second observation on, a track at an even speed is where it would be seen.
    np.testing.assert_allclose(found.state[:, 3:, 0], np.tile(0.8 * np.arange(3, 31), (4, 1)))
    assert np.isnan(found.state[1:, 0]).all()  # not yet seen at the first


def test_what_is_carried_to_a_moment_knows_nothing_of_what_comes_after_it():
    clocks = [0.1 * np.arange(31) + offset for offset in (0.0, 0.013, 0.037, 0.071)]
    before = samples([track(clock) for clock in clocks], 0.5)
    bent = [
        track(clock, pose=np.stack([8 * clock, 5 * np.maximum(0, clock - 2), 0 * clock], axis=1))
        for clock in clocks
    ]
    after = samples(bent, 0.5)
    until = before.time_s <= 2.0
    np.testing.assert_array_equal(after.state[:, until], before.state[:, until])
    assert (after.state[:, -1] != before.state[:, -1]).any()


@pytest.mark.parametrize(("age_s", "there"), [(0.14, True), (0.16, False)])
def test_an_observation_is_carried_over_a_step_and_a_half_at_most(age_s, there):
    clocks = [0.1 * np.arange(31) + offset for offset in (0.0, 0.02, 0.04, 0.06)]
    short = track(0.1 * np.arange(11) + 0.2 - age_s)  # until 1.06 s or 1.04 s
    found = samples([track(clock) for clock in clocks] + [short], 0.5)
    assert np.isfinite(found.state[-1, :, 0])[10:14].tolist() == [True, True, there, False]
