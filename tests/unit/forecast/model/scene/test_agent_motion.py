"""A turn is bounded by the way made, and whoever is taken for turned around goes on as before."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from forecast.model.baselines import Baseline
from forecast.model.scene import se2
from forecast.model.scene.agent_motion import last_motion, motion_between, past_pose, same_front
from forecast.model.scene.agents import Agents
from forecast.model.spec import BaselineName
from tests.support.rollouts import run
from tests.support.sequences import sequences
from tests.support.stores import Mover

CAR = torch.tensor([[[4.7, 1.9]]])
TURNING: tuple[BaselineName, ...] = ("constant-turn", "constant-acceleration", "kalman")
CYCLIST = {"length": 1.8, "width": 0.7, "label": 3}


def pose(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[None, None]


def forecast(name: BaselineName, mover: Mover, turned: list[float]) -> Tensor:
    """Poses at every lead of an agent whose headings in the history are off; and the present."""
    batch = sequences([[mover]])
    state = batch.track_state
    assert state is not None
    state[0, 0, : len(turned), 2] += torch.tensor(turned)
    steps = run(Baseline(name, 3), batch, 6)
    return torch.stack([state[0, 0, 2, :3], *(step.pose[0, 0] for step in steps)])


def test_a_car_that_stands_does_not_turn() -> None:
    assert not motion_between(pose(3, 1, 0.4), pose(3, 1, 0.65), CAR).any()


def test_a_turn_that_the_way_allows_is_left_as_it_is() -> None:
    for first, last in (((0, 0, 0), (4, 0.5, 0.25)), ((5, 1, 2), (4.7, 1.1, 1.95))):
        expected = se2.log(se2.between(pose(*first), pose(*last)))
        assert torch.equal(motion_between(pose(*first), pose(*last), CAR), expected)


@pytest.mark.parametrize("yaw", [0.3, 1.2, 2.5, math.pi, -2.0])
def test_the_way_made_is_kept_whatever_the_headings_say(yaw: float) -> None:
    first, last = pose(1, 2, 0.1), pose(3, 2.5, 0.1 + yaw)
    twist = motion_between(first, last, CAR)
    back = se2.compose(last, se2.exp(-twist))
    torch.testing.assert_close(back[..., :2], first[..., :2], atol=1e-5, rtol=0)
    assert twist[..., 2].abs() <= math.hypot(2, 0.5) / (0.75 * 4.7) + 1e-6


@pytest.mark.parametrize("name", TURNING)
def test_a_heading_turned_by_half_costs_nothing(name: BaselineName) -> None:
    for turned in ([0, 0, math.pi], [math.pi, 0, 0], [0, math.pi, 0]):
        poses = forecast(name, Mover(-12, 2, 0.1, speed=8), turned)
        straight = forecast(name, Mover(-12, 2, 0.1, speed=8), [0, 0, 0])
        assert (poses - straight)[:, :2].norm(dim=-1).max() < 0.05
        assert se2.wrap(poses[1:, 2] - straight[1:, 2]).abs().max() < 0.02  # it faces its way


def test_a_front_that_was_mistaken_at_first_is_put_right() -> None:
    past = pose(-0.8, 0, math.pi)[:, :, None]
    agents = Agents(
        ids=torch.ones(1, 1, dtype=torch.long),
        label=torch.ones(1, 1, dtype=torch.long),
        past=past,
        seen=torch.ones(1, 1, 1, dtype=torch.bool),
        time_s=torch.tensor([[-0.1]]),
        size=CAR,
    )
    found = torch.tensor([[True]])
    turn, measured = same_front(agents, pose(-0.8, 0, math.pi), pose(0, 0, 0), found)
    assert float(turn) == pytest.approx(math.pi)
    assert torch.equal(measured, pose(0, 0, 0))
    turn, measured = same_front(agents, pose(-0.8, 0, math.pi), pose(-0.7, 0, 0), found)
    assert float(turn) == 0  # it has hardly moved: the heading stays as it was
    assert abs(float(measured[..., 2])) == pytest.approx(math.pi)


@pytest.mark.parametrize("name", TURNING)
@pytest.mark.parametrize("kind", [{}, CYCLIST])
def test_who_stands_stays_though_its_heading_jitters(
    name: BaselineName, kind: dict[str, float]
) -> None:
    poses = forecast(name, Mover(5, -3, 1.0, **kind), [-0.25, 0.25, -0.25])
    assert (poses[:, :2] - poses[0, :2]).abs().max() < 1e-3
    assert (poses[1:, 2] - poses[1, 2]).abs().max() < 1e-4  # the filter smooths that of the present


@pytest.mark.parametrize("name", TURNING)
def test_who_crawls_hardly_turns(name: BaselineName) -> None:
    poses = forecast(name, Mover(5, -3, 0.0, speed=0.1, **CYCLIST), [0.0, 0.4, 0.8])
    assert se2.wrap(poses[-1, 2] - poses[1, 2]).abs() < math.radians(15)


def test_between_two_observations_the_way_is_straight_though_the_heading_flips() -> None:
    past = torch.tensor([[-4.0, 1.0, 0.0], [0.0, 1.0, math.pi]])[None, None]
    agents = Agents(
        ids=torch.ones(1, 1, dtype=torch.long),
        label=torch.ones(1, 1, dtype=torch.long),
        past=past,
        seen=torch.ones(1, 1, 2, dtype=torch.bool),
        time_s=torch.tensor([[-0.5, 0.0]]),
        size=CAR,
    )
    halfway, known = past_pose(agents, 0.25)
    assert known.all()
    torch.testing.assert_close(halfway[0, 0, :2], torch.tensor([-2.0, 1.0]))


def test_motion_over_a_short_time_is_motion_in_long_steps_too() -> None:
    """Of a step of 10 s a tenth of a second is a hundredth, and no moment for all that."""
    past = torch.stack((pose(0, 0, 0), pose(0.5, 0, 0)), 2)
    agents = Agents(
        ids=torch.ones(1, 1, dtype=torch.long),
        label=torch.ones(1, 1, dtype=torch.long),
        past=past,
        seen=torch.ones(1, 1, 2, dtype=torch.bool),
        time_s=torch.tensor([[-0.1, 0.0]]),
        size=CAR,
    )
    twist, _ = last_motion(agents, 10.0)
    torch.testing.assert_close(twist, pose(50.0, 0.0, 0.0))
