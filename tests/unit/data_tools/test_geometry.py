"""Rigid motion in the plane: signs, inverses and what NaN does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_tools.geometry import box_corners, poses_to_frame, poses_to_world, to_frame
from forecast.angles import wrap_angle

POSES = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-10, 10)).map(np.array)


@given(POSES, st.floats(-100, 100), st.floats(-100, 100))
def test_a_point_placed_from_a_frame_is_found_there_again(pose, forward, left):
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    world = pose[:2] + np.array([forward * cos - left * sin, forward * sin + left * cos])
    np.testing.assert_allclose(to_frame(world, pose), [forward, left], atol=1e-8)


@given(POSES, POSES)
def test_distances_and_differences_of_heading_survive(pose, other):
    moved = poses_to_frame(np.stack([pose, other]), np.array([3.0, -2.0, 0.7]))
    before, after = np.hypot(*(pose - other)[:2]), np.hypot(*(moved[0] - moved[1])[:2])
    np.testing.assert_allclose(after, before, atol=1e-7)
    turned = wrap_angle((moved[0] - moved[1])[2] - (pose - other)[2])
    np.testing.assert_allclose(turned, 0.0, atol=1e-9)


def test_a_frame_sees_itself_at_the_origin_and_absence_stays_absence():
    pose = np.array([5.0, 6.0, 2.0])
    state = np.array([[5.0, 6.0, 2.0, 4.5, 2.0], [np.nan] * 5])
    moved = poses_to_frame(state, pose)
    np.testing.assert_allclose(moved[0], [0, 0, 0, 4.5, 2.0], atol=1e-12)
    assert np.isnan(moved[1]).all()


@given(POSES, POSES)
def test_poses_of_a_frame_are_placed_in_the_world_and_found_there_again(pose, other):
    state = np.stack([np.append(other, [4.5, 2.0]), np.full(5, np.nan)])
    world = poses_to_world(state, pose)
    again = poses_to_frame(world, pose)
    np.testing.assert_allclose(again[:, [0, 1, 3, 4]], state[:, [0, 1, 3, 4]], atol=1e-7)
    np.testing.assert_allclose(wrap_angle(again[0, 2] - other[2]), 0.0, atol=1e-9)
    assert np.isnan(world[1]).all()


def test_what_is_ahead_of_a_frame_that_looks_left_is_left_in_the_world():
    world = poses_to_world(np.array([2.0, 1.0, 0.5]), np.array([10.0, 20.0, np.pi / 2]))
    np.testing.assert_allclose(world, [9.0, 22.0, np.pi / 2 + 0.5], atol=1e-12)


def test_corners_run_counter_clockwise_from_the_front_left():
    corners = box_corners(np.array([1.0, 2.0, np.pi / 2, 4.0, 2.0]))
    np.testing.assert_allclose(corners, [[0, 4], [0, 0], [2, 0], [2, 4]], atol=1e-12)
