"""Headings of a whole store: offsets of a few degrees, half turns, lanes led backwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecast.doctor.clip import Clip
from forecast.doctor.headings import HeadingOffset, LanesLead, heading_offset, no_flips
from tests.support.driving import asked, driving
from tests.support.stores import Mover

COLUMN = [Mover(-12.0 + 6 * i, 3.0 * (i % 2), 0.02 * i, speed=5.0) for i in range(5)]
EGO = Mover(0.0, -5.0, speed=6.0)


def off_by(degrees: float, noise: float = 1.0) -> list[Clip]:
    """Two sequences, every agent's yaw off by a constant, and by noise."""
    random = np.random.default_rng(0)
    clips = []
    for _ in range(2):
        clip = driving(COLUMN, EGO)
        assert clip.state is not None
        state = clip.state.copy()
        state[..., 2] += np.radians(degrees + random.normal(0, noise, state.shape[:1])[:, None])
        clips.append(replace(clip, state=state))
    return clips


@pytest.mark.parametrize("degrees", [3.0, -3.0, 40.0, -44.0])
def test_a_constant_offset_is_found(degrees: float) -> None:
    (found,) = asked(HeadingOffset(), off_by(degrees, noise=0.2))
    side = "left" if degrees > 0 else "right"
    assert "10 agents" in found.text
    assert f"to the {side} of the way" in found.text


@pytest.mark.parametrize("degrees", [0.0, 1.0, -1.5])
def test_noise_and_less_than_a_sensor_is_off_by_is_fine(degrees: float) -> None:
    assert asked(HeadingOffset(), off_by(degrees)) == []


def test_what_puts_an_offset_right_is_said_and_does() -> None:
    (found,) = asked(HeadingOffset(), off_by(5.0, noise=0.0))
    assert "Add -5.0 degrees to the yaw of agents" in found.text
    assert asked(HeadingOffset(), off_by(5.0 - 5.0, noise=0.0)) == []


def test_an_ego_off_its_own_way_is_found() -> None:
    clip = driving(COLUMN, Mover(0.0, 0.0, speed=6.0))
    poses = clip.ego_pose.copy()
    poses[:, 2] += np.radians(4)
    (found,) = asked(HeadingOffset(), [replace(clip, ego_pose=poses)] * 8)
    assert found.text.startswith("the ego heads 4.0 degrees to the left")


def test_a_middle_that_drifts_out_of_bends_is_no_offset() -> None:
    bends = [Mover(-12.0 + 6 * i, 3.0, speed=5.0, turn_rate=0.4) for i in range(5)]
    clip = driving(bends, EGO)
    assert clip.state is not None
    inwards = replace(clip, state=np.add(clip.state, [0, 0, np.radians(5), 0, 0]))
    check = HeadingOffset()
    assert asked(check, [inwards] * 2) == []
    assert check.skipped == "too few move: 0 agents, and the ego in 2 of the sequences"


def test_a_slight_bend_is_measured_along_its_chord() -> None:
    path = Mover(0.0, 0.0, speed=5.0, turn_rate=0.06).state(np.arange(9) * 0.5)
    off = heading_offset(path, 0.5)
    assert off == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("speed", [0.0, 5.0])
def test_a_yaw_that_flips_names_the_agent(speed: float) -> None:
    clip = driving([COLUMN[0], Mover(0.0, 4.0, speed=speed)])
    assert clip.state is not None
    assert list(no_flips(clip)) == []
    state = clip.state.copy()
    state[1, 2:, 2] += np.pi
    (found,) = no_flips(replace(clip, state=state))
    assert (found.agent, found.text[:40]) == (2, "turns by 180 degrees from frame 1 to 2: "[:40])


def test_pedestrians_may_turn_round() -> None:
    clip = driving([Mover(0.0, 4.0, label=2)])
    assert clip.state is not None
    state = clip.state.copy()
    state[0, 2:, 2] += np.pi
    assert list(no_flips(replace(clip, state=state))) == []


def on_lanes(yaw: float) -> list[Clip]:
    """Two sequences of a lane under the column, which leads by ``yaw``."""
    x = np.arange(-30.0, 30.0, 1.0)
    lanes = [np.stack([x, np.full_like(x, y), np.full_like(x, yaw)], axis=1) for y in (0.0, 3.0)]
    movers = [replace(mover, yaw=0.0) for mover in COLUMN]
    return [replace(driving(movers, EGO), lanes=np.concatenate(lanes))] * 2


def test_lanes_that_lead_against_the_traffic_are_found() -> None:
    assert asked(LanesLead(), on_lanes(0.0)) == []
    (found,) = asked(LanesLead(), on_lanes(np.pi))
    assert "100% of 10 vehicles" in found.text
    assert "reverse" in found.text


def test_lanes_of_both_ways_tell_nothing() -> None:
    there, back = on_lanes(0.0)[0], on_lanes(np.pi)[0]
    check = LanesLead()
    assert asked(check, [replace(there, lanes=np.concatenate([there.lanes, back.lanes]))]) == []
    assert check.skipped == "only 0 vehicles move on lane points"
