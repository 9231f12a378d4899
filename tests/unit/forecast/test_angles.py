"""Wrapping keeps the direction of an angle and brings it into half a turn either way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecast.angles import wrap_angle


@given(st.floats(-100, 100))
def test_wrapped_angles_are_the_same_direction_within_half_a_turn(yaw):
    wrapped = wrap_angle(np.array(yaw))
    assert -np.pi <= wrapped < np.pi or np.isclose(wrapped, np.pi)
    np.testing.assert_allclose(
        [np.cos(wrapped), np.sin(wrapped)], [np.cos(yaw), np.sin(yaw)], atol=1e-9
    )
