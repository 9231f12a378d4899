"""An id that goes over to another agent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecast.doctor.clip import Clip
from forecast.doctor.motion import headings_follow_motion, ids_not_reused
from tests.support.driving import driving
from tests.support.stores import Mover


def with_gap(clip: Clip, moved_m: float) -> Clip:
    """The first agent is not seen in frames 3 and 4, and further on from frame 5 on."""
    assert clip.state is not None
    state = clip.state.copy()
    state[0, 3:5] = np.nan
    state[0, 5:, 0] += moved_m
    return replace(clip, state=state)


@pytest.mark.parametrize("speed", [0.0, 6.0])
def test_an_id_seen_again_too_far_away_is_found(speed: float) -> None:
    clip = driving([Mover(-9.0, 3.0, speed=speed)])
    assert list(ids_not_reused(with_gap(clip, 0.0))) == []
    (found,) = ids_not_reused(with_gap(clip, 12.0))
    assert found.agent == 1
    assert "after a gap of 1.5 s (frame 5)" in found.text
    assert "another agent with its id?" in found.text


def test_an_agent_that_starts_while_hidden_is_fine() -> None:
    assert list(ids_not_reused(with_gap(driving([Mover(-9.0, 3.0, speed=4.0)]), 3.0))) == []
    assert list(ids_not_reused(with_gap(driving([Mover(-9.0, 3.0)]), 6.0))) == []


def sized(lengths: list[float]) -> Clip:
    clip = driving([Mover(-9.0, 3.0)])
    assert clip.state is not None
    state = clip.state.copy()
    state[0, :, 3] = lengths
    return replace(clip, state=state)


def test_an_id_of_another_constant_size_is_found() -> None:
    (found,) = ids_not_reused(sized([4.5] * 4 + [12.0] * 5))
    assert "is 4.5 x 2.0 m before frame 4 and 12.0 x 2.0 m from there on" in found.text


def test_sizes_that_are_measured_anew_in_each_frame_are_fine() -> None:
    assert list(ids_not_reused(sized([3.0, 4.5, 2.5, 3.5, 6.0, 7.0, 5.5, 8.0, 6.5]))) == []


def test_a_box_that_is_adjusted_back_and_forth_has_no_wrong_heading() -> None:
    clip = driving([Mover(0.0, 3.0, np.pi / 2), Mover(0.0, -3.0, np.pi / 2)])
    assert clip.state is not None
    state = clip.state.copy()
    state[0, :, 0] = [0, 1.5, 0, 1.5, 0, 1.5, 0, 1.5, 0]
    state[1, :, 0] = 1.5 * np.arange(9)
    (found,) = headings_follow_motion(replace(clip, state=state))
    assert found.agent == 2
