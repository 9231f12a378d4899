"""A table's tracks in frames, and as they were observed."""

import numpy as np
import pandas as pd
import pytest

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources.tracks_resample import Track, resample, samples
from forecast.storage.stores import open_sequence_store

# Hz of the ego, Hz of the objects, how many these are.
CLOCKS = [(10, 20, 1), (10, 20, 3), (10, 25, 3), (10, 25, 40), (10, 50, 40), (50, 10, 3)]


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


@pytest.mark.parametrize("flip", [np.pi, -np.pi, 3.0, 1.6])
def test_between_headings_that_flip_there_is_none_across_the_way(flip):
    yaw = np.array([0.1, 0.1 + flip, 0.1, 0.3])
    one = track(np.arange(4.0), pose=np.stack([np.arange(4.0), np.zeros(4), yaw], axis=1))
    found = resample(one, np.array([0.25, 0.5, 0.75, 1.0, 1.75, 2.5]))
    np.testing.assert_allclose(
        np.exp(1j * found[:, 2]), np.exp(1j * np.array([0.1, 0.1, *[0.1 + flip] * 2, 0.1, 0.2]))
    )


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


def test_many_clocks_of_their_own_never_bring_what_comes_later_to_an_earlier_time():
    # So many that each time is within the tolerance of the next.
    clocks = [0.1 * np.arange(31) + offset for offset in np.linspace(0, 0.1, 700, endpoint=False)]
    found = samples([track(clock) for clock in clocks], 0.5)
    np.testing.assert_allclose(found.time_s, 0.1 * np.arange(31), atol=1e-9)
    seen = np.isfinite(found.state[..., 0])
    assert seen[:, 1:].all()
    latest = (8.0 * found.time_s + 1e-2)[None]
    assert (np.where(seen, found.state[..., 0], 0.0) <= latest).all()


def test_a_track_is_carried_for_steps_of_its_own_but_never_over_a_gap():
    clocks = [0.05 * np.arange(61) + offset for offset in (0.0, 0.01, 0.02, 0.03)]
    slow, slower = track(0.3 * np.arange(5) + 0.04), track(np.array([0.04, 5.0]))
    found = samples([track(clock) for clock in clocks] + [slow, slower], 0.5)
    seen = np.isfinite(found.state[-2:, :, 0])
    last = [found.time_s[each][found.time_s[each] < 4].max() for each in seen]
    np.testing.assert_allclose(last, [1.65, 1.0], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("missed", [0.1, 0.25])
def test_what_a_tracker_missed_on_its_clock_stays_missed(count, missed):
    clock, random = np.arange(0, 20, 0.1), np.random.default_rng(0)
    seen = random.random((count, len(clock))) >= missed
    seen[:, [0, -1]] = True
    found = samples([track(clock[one]) for one in seen], 0.5)
    there = np.isfinite(found.state[..., 0])
    np.testing.assert_allclose(found.time_s, clock[seen.any(axis=0)], atol=1e-9)
    np.testing.assert_array_equal(there, seen[:, seen.any(axis=0)])


def test_observations_that_nearly_repeat_make_no_more_samples_than_there_are_times():
    twice = np.sort(np.concatenate([np.arange(0, 20, 0.1), np.arange(0, 20, 0.1) + 1e-7]))
    found = samples([track(twice), track(twice + 0.03), track(twice + 0.06)], 0.5)
    assert len(found.time_s) <= 3 * 200


@pytest.mark.parametrize(("ego_hz", "objects_hz", "objects"), CLOCKS)
def test_tracks_of_two_clocks_are_all_there_at_the_present(tmp_path, ego_hz, objects_hz, objects):
    def rows(name, hz, start_s, y, **further):
        time_s = np.arange(start_s, 6, 1 / hz)
        given = {"scene": "s", "track_id": name, "class": "car", "time_s": time_s, "y_m": y}
        given |= {"x_m": 8.0 * time_s, "yaw_rad": 0.0, "length_m": 4.0, "width_m": 2.0}
        return pd.DataFrame(given | further)

    tables = [rows("ego", ego_hz, 0.0, 0.0, is_ego=True)]
    tables += [rows(str(n), objects_hz, 0.013, 3.5 * (n % 9 + 1)) for n in range(objects)]
    pd.concat(tables).to_csv(tmp_path / "drive.csv", index=False)
    out = str(tmp_path / "out.zarr")
    prepare("tracks", [str(tmp_path / "drive.csv")], out, PrepareOptions())
    dataset, meta = open_sequence_store(out)
    seen = dataset["track_state"].values[:, :, meta.history - 1]
    now = dataset["track_history"].values[:, :, -1]
    assert np.isfinite(seen[..., 0]).sum() >= len(seen) * (1 + objects)
    np.testing.assert_allclose(now, seen, atol=1e-3)  # at its own even speed
