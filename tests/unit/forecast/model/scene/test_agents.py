from dataclasses import replace

import pytest
import torch

from forecast.model.scene.agent_motion import last_motion
from tests.support.rollouts import agents_of
from tests.support.sequences import sequences
from tests.support.stores import Mover


def test_agents_are_those_seen_at_the_present() -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=5.0), Mover(5.0, 5.0), Mover(-5.0, 5.0)]])
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 1, 2] = torch.nan  # gone at the present
    state[0, 2, :2] = torch.nan  # new at the present
    instance = torch.where(batch.instance == 2, 0, batch.instance)
    agents = agents_of(replace(batch, track_state=state, instance=instance).crop(0, 3))
    assert agents.ids.tolist() == [[1, 3]]
    assert agents.seen.tolist() == [[[True, True, True], [False, False, True]]]
    torch.testing.assert_close(last_motion(agents, 0.5)[0][0, 0], torch.tensor([2.5, 0.0, 0.0]))
    assert not last_motion(agents, 0.5)[0][0, 1].any()


def test_an_agent_whose_mask_reaches_into_the_grid_is_there() -> None:
    batch = sequences([[Mover(24.5, 0.0), Mover(40.0, 0.0)]])  # the grid ends at x = 24
    assert agents_of(batch.crop(0, 3)).ids.tolist() == [[1]]


def test_motion_over_a_gap_is_per_step() -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0)]])
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 0, 1] = torch.nan
    agents = agents_of(replace(batch, track_state=state).crop(0, 3))
    torch.testing.assert_close(last_motion(agents, 0.5)[0][0, 0], torch.tensor([2.0, 0.0, 0.0]))


def test_the_last_change_is_the_acceleration_of_who_was_seen_three_times() -> None:
    batch = sequences([[Mover(0.0, 0.0, speed=4.0), Mover(0.0, 5.0, speed=4.0)]])
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, :, 0, 0] += 0.5  # 1.5 m in the first step, 2 m in the second
    state[0, 1, 0] = torch.nan
    agents = agents_of(replace(batch, track_state=state).crop(0, 3))
    torch.testing.assert_close(last_motion(agents, 0.5)[1][0, 0], torch.tensor([0.5, 0.0, 0.0]))
    assert not last_motion(agents, 0.5)[1][0, 1].any()


@pytest.mark.parametrize("yaw", [0.0, 0.7, 2.5, -1.2])
def test_masks_give_place_heading_and_size(yaw: float) -> None:
    batch = sequences([[Mover(2.0, 1.0, yaw, speed=6.0, length=5.0, width=2.0)]])
    blind = replace(batch, track_state=None, track_class=None)
    agents = agents_of(blind.crop(0, 3))
    assert not agents.boxed
    assert agents.label.tolist() == [[1]]
    pose = agents.pose[0, 0]
    torch.testing.assert_close(pose[:2], torch.tensor([2.0, 1.0]), atol=0.2, rtol=0)
    assert torch.cos(pose[2] - yaw) > 0.98
    torch.testing.assert_close(agents.size[0, 0], torch.tensor([5.0, 2.0]), atol=0.5, rtol=0)
