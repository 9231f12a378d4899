"""Resampling of tracks: exact where the truth is linear, bounded where it is not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_tools.heading import FEET, WHEELS, Sightings, headings
from data_tools.sources.tracks_resample import MAX_GAP_S, MAX_TURN_RAD, Track, resample
from forecast.angles import wrap_angle

SIZE = np.array([4.5, 1.9])
steps = st.lists(st.floats(0.02, MAX_GAP_S), min_size=2, max_size=40)
numbers = st.floats(-50.0, 50.0)
angles = st.floats(-np.pi, np.pi)
# Faster ones turn by more than a right angle between two observations, which is taken for a slip.
rates = st.floats(-1.0, 1.0).map(lambda share: 0.99 * share * MAX_TURN_RAD / MAX_GAP_S)


def track(seen, pose):
    """A track of these observations."""
    observed = np.column_stack([pose, np.tile(SIZE, (len(seen), 1))])
    return Track("a", "vehicle", seen, pose, SIZE, observed, np.full(len(seen), np.nan))


@given(steps, numbers, numbers, numbers, numbers, angles, rates, st.data())
def test_constant_motion_is_exact_at_any_irregular_sampling(gaps, x, y, vx, vy, yaw, rate, data):
    seen = np.cumsum([data.draw(numbers), *gaps])

    def truth(time):
        turn = wrap_angle(yaw + rate * (time - seen[0]))
        return np.stack([x + vx * (time - seen[0]), y + vy * (time - seen[0]), turn], axis=-1)

    made = track(seen, truth(seen))
    wanted = np.linspace(seen[0], seen[-1], data.draw(st.integers(1, 60)))
    state = resample(made, wanted)
    np.testing.assert_allclose(state[:, :2], truth(wanted)[:, :2], atol=1e-8)
    np.testing.assert_allclose(wrap_angle(state[:, 2] - truth(wanted)[:, 2]), 0.0, atol=1e-8)
    assert (np.abs(state[:, 2]) <= np.pi).all()


@given(angles, angles, st.floats(0.0, 1.0))
def test_yaw_goes_the_short_way_round(start, end, share):
    pose = np.array([[0.0, 0.0, start], [0.0, 0.0, end]])
    made = track(np.array([0.0, 1.0]), pose)
    between = resample(made, np.array([share]))[0, 2]
    arc = abs(wrap_angle(end - start))
    assert abs(wrap_angle(between - start)) <= arc + 1e-9
    assert abs(wrap_angle(between - end)) <= arc + 1e-9


@given(st.lists(st.floats(0.02, 3.0), min_size=1, max_size=20), st.integers(2, 80))
def test_a_track_is_present_just_where_observations_enclose_a_frame_closely(gaps, frames):
    seen = np.cumsum([0.0, *gaps])
    made = track(seen, np.zeros((len(seen), 3)))
    wanted = np.linspace(-1.0, seen[-1] + 1.0, frames)
    present = np.isfinite(resample(made, wanted)).all(axis=-1)
    for time, there in zip(wanted, present, strict=True):
        if np.abs(time - seen).min() < 2e-3:
            continue  # as good as an observation
        enclosed = seen[0] < time < seen[-1]
        place = np.searchsorted(seen, time)
        gap = seen[place] - seen[place - 1] if enclosed else np.inf
        if abs(gap - MAX_GAP_S) > 2e-3:
            assert there == (gap < MAX_GAP_S)


@given(steps, angles, st.floats(3.0, 40.0), st.sampled_from([WHEELS, FEET]))
def test_the_heading_of_straight_motion_is_its_direction_at_any_irregular_sampling(
    gaps, yaw, speed, gait
):
    seen = np.cumsum([0.0, *gaps])
    path = speed * seen[:, None] * np.array([np.cos(yaw), np.sin(yaw)])
    unknown = np.full(len(seen), np.nan)
    velocity = np.full((len(seen), 2), np.nan)
    sightings = Sightings(seen, path, np.full(len(seen), 0.02), unknown, velocity, unknown)
    for found in headings(sightings, gait):
        if seen[-1] * speed > 50.0:
            assert np.isfinite(found[-1])
        np.testing.assert_allclose(wrap_angle(found[np.isfinite(found)] - yaw), 0.0, atol=1e-6)
