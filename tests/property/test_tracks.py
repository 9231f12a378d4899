"""Resampling of tracks: exact where the truth is linear, bounded where it is not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_tools.sources.tracks import MAX_GAP_S, Track, course, resample
from forecast.angles import wrap_angle

SIZE = np.array([4.5, 1.9])
steps = st.lists(st.floats(0.02, MAX_GAP_S), min_size=2, max_size=40)
numbers = st.floats(-50.0, 50.0)
angles = st.floats(-np.pi, np.pi)


@given(steps, numbers, numbers, numbers, numbers, angles, st.floats(-2.0, 2.0), st.data())
def test_constant_motion_is_exact_at_any_irregular_sampling(gaps, x, y, vx, vy, yaw, rate, data):
    seen = np.cumsum([data.draw(numbers), *gaps])

    def truth(time):
        turn = wrap_angle(yaw + rate * (time - seen[0]))
        return np.stack([x + vx * (time - seen[0]), y + vy * (time - seen[0]), turn], axis=-1)

    track = Track("a", "vehicle", seen, truth(seen), SIZE)
    wanted = np.linspace(seen[0], seen[-1], data.draw(st.integers(1, 60)))
    state = resample(track, wanted)
    np.testing.assert_allclose(state[:, :2], truth(wanted)[:, :2], atol=1e-8)
    np.testing.assert_allclose(wrap_angle(state[:, 2] - truth(wanted)[:, 2]), 0.0, atol=1e-8)
    assert (np.abs(state[:, 2]) <= np.pi).all()


@given(angles, angles, st.floats(0.0, 1.0))
def test_yaw_goes_the_short_way_round(start, end, share):
    pose = np.array([[0.0, 0.0, start], [0.0, 0.0, end]])
    track = Track("a", "vehicle", np.array([0.0, 1.0]), pose, SIZE)
    between = resample(track, np.array([share]))[0, 2]
    arc = abs(wrap_angle(end - start))
    assert abs(wrap_angle(between - start)) <= arc + 1e-9
    assert abs(wrap_angle(between - end)) <= arc + 1e-9


@given(st.lists(st.floats(0.02, 3.0), min_size=1, max_size=20), st.integers(2, 80))
def test_a_track_is_present_just_where_observations_enclose_a_frame_closely(gaps, frames):
    seen = np.cumsum([0.0, *gaps])
    track = Track("a", "vehicle", seen, np.zeros((len(seen), 3)), SIZE)
    wanted = np.linspace(-1.0, seen[-1] + 1.0, frames)
    present = np.isfinite(resample(track, wanted)).all(axis=-1)
    for time, there in zip(wanted, present, strict=True):
        if np.abs(time - seen).min() < 2e-3:
            continue  # as good as an observation
        enclosed = seen[0] < time < seen[-1]
        place = np.searchsorted(seen, time)
        gap = seen[place] - seen[place - 1] if enclosed else np.inf
        if abs(gap - MAX_GAP_S) > 2e-3:
            assert there == (gap < MAX_GAP_S)


@given(steps, angles, st.floats(3.0, 40.0))
def test_the_course_of_straight_motion_is_its_direction_at_any_irregular_sampling(gaps, yaw, speed):
    seen = np.cumsum([0.0, *gaps])
    path = speed * seen[:, None] * np.array([np.cos(yaw), np.sin(yaw)])
    found = course(seen, path)
    if seen[-1] * speed > 50.0:
        assert np.isfinite(found).all()
    np.testing.assert_allclose(wrap_angle(found[np.isfinite(found)] - yaw), 0.0, atol=1e-6)
