"""The smoother of headings against what a normal distribution of two states says of the first."""

import numpy as np
import pytest

from data_tools.heading_batch import FEET, Batch, Sightings
from data_tools.heading_filter import YAW, Path, smoothed

ROUND = np.diag([1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0])  # speed and curvature the other way


def spread(generator):
    """A covariance of states ``(7, 7)``."""
    root = generator.normal(size=(7, 7))
    return root @ root.T + np.eye(7)


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_seen_later_tells_of_the_state_before_also_if_it_is_turned_round(turned):
    generator = np.random.default_rng(0)
    before, noise, move = spread(generator), spread(generator), generator.normal(size=(7, 7))
    mean, later = generator.normal(size=(2, 7))
    step = move @ (ROUND if turned else np.eye(7))
    turn = np.pi * turned * np.eye(7)[YAW]
    predicted, whole = step @ mean + move @ turn, step @ before @ step.T + noise
    # Of both states together, the later one known.
    expected = mean + before @ step.T @ np.linalg.solve(whole, later - predicted)
    absent = np.full(2, np.nan)
    seen = Sightings(np.arange(2.0), np.zeros((2, 2)), absent, absent, np.zeros((2, 2)), absent)
    path = Path(
        state=np.stack([mean, later])[:, None],
        covariance=np.stack([before, before])[:, None],
        predicted=np.stack([mean, predicted])[:, None],
        predicted_covariance=np.stack([before, whole])[:, None],
        move=np.stack([move, move])[:, None],
        joined=np.ones((2, 1), bool),
        turned=np.array([[False], [turned]]),
    )
    found = smoothed(Batch.of([(seen, FEET, 0, 0.0)]), path)
    assert found[:, 0] == pytest.approx([expected[YAW], later[YAW]])
