"""Steps that no vehicle makes, told from hard driving and noise."""

import numpy as np
import pytest

from data_tools.jumps import jumps
from data_tools.options import PrepareOptions
from data_tools.windows import spans
from forecast.grid import BEVGrid


def drive(speed, dt_s, turn_rate=0.0):
    """Positions from the speed at each frame."""
    yaw = turn_rate * dt_s * np.arange(len(speed))
    step = np.asarray(speed)[:, None] * dt_s * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    return step.cumsum(axis=0)


@pytest.mark.parametrize("dt_s", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("far", [20.0, 200.0])
def test_a_joint_of_two_drives_is_a_jump_and_nothing_else(dt_s, far):
    path = drive(np.full(20, 8.0), dt_s)
    path[7:] += [far + 10.0 * dt_s, far]
    assert np.flatnonzero(jumps(path, dt_s)).tolist() == [6]


@pytest.mark.parametrize("dt_s", [0.1, 0.5, 1.0])
def test_hard_driving_and_noise_are_no_jumps(dt_s):
    braking = np.maximum(60.0 - 11.0 * dt_s * np.arange(40), 0.0)
    for path in (drive(braking, dt_s), drive(np.full(40, 15.0), dt_s, 0.7)):
        noise = np.random.default_rng(0).normal(0.0, 0.3, path.shape)
        assert not jumps(path + noise, dt_s).any()


def test_a_gap_is_no_jump_and_hides_none_beside_it():
    path = drive(np.full(20, 8.0), 0.5)
    path[5] = np.nan
    assert not jumps(path, 0.5).any()
    path[7:] += 50.0
    assert np.flatnonzero(jumps(path, 0.5)).tolist() == [6]


def test_a_place_off_the_earth_is_jumped_to():
    path = drive(np.full(20, 8.0), 0.5)
    path[5] = 1e300, -1e300
    assert np.flatnonzero(jumps(path, 0.5)).tolist() == [4, 5]


@pytest.mark.parametrize(("way", "jump"), [(40.0, False), (80.0, True)])
def test_two_points_alone_are_judged_by_their_speed(way, jump):
    assert jumps(np.array([[0.0, 0.0], [way, 0.0]]), 0.5).tolist() == [jump]


def test_no_sequence_goes_across_a_jump():
    path = np.column_stack([drive(np.full(30, 8.0), 0.5), np.zeros(30)])
    path[14:, 0] += 90.0
    options = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5))
    assert [window.start for window, _ in spans(path, options)] == [*range(6), *range(14, 22)]
