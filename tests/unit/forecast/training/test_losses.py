"""What the losses reward."""

import torch
from torch import Generator

from forecast.config.training import LossWeights
from forecast.model.forecaster import SlotStep
from forecast.model.scene.agents import Agents
from forecast.training.losses import Target, future_of, step_loss
from tests.support.stores import GRID

CARS = 400
SIZE = torch.tensor([4.5, 2.0])


def uncertainty_loss(expected_m: float, sigma_m: float) -> float:
    """Mean loss of cars whose forecasts are expected to be off ahead by so much."""
    return losses(1.0, sigma_m, expected_m=expected_m)["uncertainty"]


def mask_loss(longer: float, sigma_m: float, far_m: float = 0.0) -> float:
    """Mean loss of cars drawn longer than they are, whose forecasts lie off by ``sigma_m``."""
    return losses(longer, sigma_m, far_m)["mask"]


def losses(
    longer: float, sigma_m: float, far_m: float = 0.0, expected_m: float = 1.0
) -> dict[str, float]:
    """Mean of each part of the loss."""
    off = far_m + torch.randn(CARS, generator=Generator().manual_seed(0)) * sigma_m
    pose = torch.stack((off, 0 * off, 0 * off), -1)[None]
    nothing = torch.zeros(1, CARS)
    size, there = SIZE.expand(1, CARS, 2), torch.ones(1, CARS, dtype=torch.bool)
    ids = torch.arange(1, CARS + 1)[None]
    seen = torch.ones(1, CARS, 3, dtype=torch.bool)
    past, time_s = torch.zeros(1, CARS, 3, 3), torch.tensor([[-1.0, -0.5, 0.0]])
    drawn = size * torch.tensor([longer, 1.0])
    expected = size * 0 + torch.tensor([expected_m, 1.0])
    agents = Agents(ids, torch.ones_like(ids), past, seen, time_s, drawn)
    step = SlotStep(1, agents, pose, pose, nothing, nothing, expected, nothing[..., None])
    truth = Target(torch.zeros(1, CARS, 3), size, there, there, there, nothing + 1)
    generator = Generator().manual_seed(1)
    parts = step_loss(step, truth, GRID, LossWeights(points=256), generator, None)
    return {name: float(part / CARS) for name, part in parts.items()}


def test_masks_are_best_as_large_as_what_is_not_known() -> None:
    assert mask_loss(1.0, sigma_m=0.1) < mask_loss(1.2, sigma_m=0.1)
    assert mask_loss(1.2, sigma_m=2.0) < mask_loss(1.0, sigma_m=2.0)
    assert mask_loss(1.2, sigma_m=2.0) < mask_loss(2.0, sigma_m=2.0)


def test_the_error_that_is_expected_is_best_as_large_as_it_is() -> None:
    loss = [uncertainty_loss(expected, sigma_m=0.5) for expected in (0.2, 0.4, 0.8)]
    assert loss[1] == min(loss)


def test_a_truth_far_beyond_the_map_costs_everything_but_is_finite() -> None:
    assert 0.99 < mask_loss(1.0, sigma_m=1.0, far_m=3e6) <= 1.0


def test_a_parked_car_that_was_hidden_for_a_while_has_not_moved() -> None:
    agents = Agents(
        ids=torch.tensor([[1, 2]]),
        label=torch.ones(1, 2, dtype=torch.long),
        past=torch.tensor([[[[20.0, 5.0, 0.0]], [[0.0, 0.0, 0.0]]]]),
        seen=torch.ones(1, 2, 1, dtype=torch.bool),
        time_s=torch.zeros(1, 1),
        size=SIZE.expand(1, 2, 2),
    )
    parked = torch.tensor([20.0, 5.0, 0.0, 4.5, 2.0]).expand(4, 5).clone()
    driving = torch.tensor([[3.0 * t, 0.0, 0.0, 4.5, 2.0] for t in range(4)])
    state = torch.stack((parked, driving))[None]
    state[:, :, 2] = torch.nan
    targets = future_of(agents, state, GRID, still=0.3)
    assert [truth.moved[0].tolist() for truth in targets] == [
        [False, True],
        [False, False],
        [False, True],
    ]
