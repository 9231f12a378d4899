"""A scene and its mirror image are averaged agent by agent."""

from __future__ import annotations

import torch
from torch import Tensor

from forecast.model.mirrored import _mean_step
from forecast.model.scene.agents import Agents
from forecast.model.state import SlotStep


def step(ids: list[int], side_m: float) -> SlotStep:
    """Agents whose numbers tell their ids, to one side."""
    slot = torch.tensor([ids])
    number = slot.float()
    pose = torch.stack((number, side_m + 0 * number, 0 * number), -1)
    agents = Agents(
        ids=slot,
        label=torch.ones_like(slot),
        past=pose[:, :, None],
        seen=torch.ones(1, len(ids), 1, dtype=torch.bool),
        time_s=torch.zeros(1, 1),
        size=torch.ones(1, len(ids), 2),
    )
    width = torch.stack((number, number), -1)
    return SlotStep(1, agents, pose, pose, number, number, width, width)


def row(x: Tensor) -> list[float]:
    return [round(one, 4) for one in x[0].tolist()]


def test_slots_of_the_mirror_image_go_by_id() -> None:
    """An agent at the edge of the grid may have left one of the two, and shifts all others."""
    mean = _mean_step(step([1, 2, 4], 3.0), step([1, 4], -1.0))
    assert row(mean.pose[..., 0]) == [1, 2, 4]
    assert row(mean.pose[..., 1]) == [2, 3, 2], "of agent 2 the scene alone tells"
    assert row(mean.existence) == [1, 2, 4]
    assert row(mean.uncertainty[..., 0]) == [1, 2, 4]


def test_who_is_in_the_mirror_alone_is_not_forecast() -> None:
    mean = _mean_step(step([2], 3.0), step([1, 2], -3.0))
    assert row(mean.pose[..., 0]) == [2]
    assert row(mean.pose[..., 1]) == [3]
