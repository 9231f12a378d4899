"""The same drive is recognised under another name, cut at other moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecast.doctor.clip import Clip
from forecast.doctor.drives import Drive, drive_of, same_drives
from tests.support.driving import ONCOMING, PARKED, TURNING, driving
from tests.support.stores import Mover

MOVERS = (*PARKED, ONCOMING, Mover(-6.0, 2.0, 0.2, 5.0, 0.1))


def cut(seconds: float, movers: tuple[Mover, ...] = MOVERS, ego: Mover = TURNING) -> Clip:
    """The same drive, with the present so many seconds later."""
    time_s = np.array([seconds])
    (there,) = ego.state(time_s)

    def seen(mover: Mover) -> Mover:
        (x, y, yaw, *_) = mover.state(time_s)[0]
        ahead, left = x - there[0], y - there[1]
        cos, sin = np.cos(there[2]), np.sin(there[2])
        place = (ahead * cos + left * sin, left * cos - ahead * sin, yaw - there[2])
        return replace(mover, x=place[0], y=place[1], yaw=place[2])

    return driving([seen(mover) for mover in movers], replace(ego, x=0.0, y=0.0, yaw=0.0))


def pairs(ours: Clip, theirs: Clip) -> list[tuple[str, str]]:
    one, other = drive_of("monday", ours), drive_of("friday", theirs)
    assert one is not None
    assert other is not None
    return list(same_drives([one], [other]))


@pytest.mark.parametrize("seconds", [0.0, 0.2, -0.2, 0.37, 1.5])
def test_the_same_drive_cut_later_is_found(seconds: float) -> None:
    assert pairs(cut(0.0), cut(seconds)) == [("monday", "friday")]


def test_agents_that_come_and_go_do_not_hide_it() -> None:
    later = cut(0.2)
    assert later.state is not None
    state = later.state[::-1].copy()
    state[0] = np.nan
    state[1, :4] = np.nan
    assert pairs(cut(0.0), replace(later, state=state)) == [("monday", "friday")]


@pytest.mark.parametrize("number", [0, 1, 3, 4], ids=["x", "y", "length", "width"])
def test_an_agent_without_a_number_at_the_present_does_not_hide_it(number: int) -> None:
    later = cut(0.2)
    assert later.state is not None
    state = later.state.copy()
    state[-1, later.history - 1, number] = np.nan
    assert pairs(cut(0.0), replace(later, state=state)) == [("monday", "friday")]


def test_another_drive_by_the_same_parked_cars_is_another() -> None:
    moved = tuple(replace(one, x=one.x + 4.0 * i, y=-one.y) for i, one in enumerate(MOVERS))
    assert pairs(cut(0.0), cut(0.2, moved)) == []
    faster = replace(TURNING, speed=12.0, turn_rate=0.0)
    assert pairs(cut(0.0), driving(MOVERS, faster)) == []


def test_few_agents_are_no_fingerprint() -> None:
    assert drive_of("monday", driving(MOVERS[:2])) is None


def test_between_frames_an_ego_turns_the_short_way() -> None:
    ego = np.array([[0.0, 0.0, np.pi - 0.1], [1.0, 0.0, -np.pi + 0.1]])
    between, _ = Drive("a", np.array([0.0, 0.5]), ego, np.zeros((1, 2, 4))).at(np.array([0.25]))
    assert np.cos(between[0, 2]) == pytest.approx(-1.0)
    assert between[0, 0] == pytest.approx(0.5)
