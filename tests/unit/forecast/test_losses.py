"""What the losses reward."""

import torch
from torch import Generator

from forecast.model.agents import Agents
from forecast.model.forecaster import SlotStep
from forecast.training.losses import Truth, step_loss
from forecast.training.settings import LossWeights
from tests.support import GRID

CARS = 400
SIZE = torch.tensor([4.5, 2.0])


def mask_loss(longer: float, sigma_m: float) -> float:
    """Mean loss of cars drawn longer than they are, whose forecasts lie off by ``sigma_m``."""
    off = torch.randn(CARS, generator=Generator().manual_seed(0)) * sigma_m
    pose = torch.stack((off, 0 * off, 0 * off), -1)[None]
    nothing = torch.zeros(1, CARS)
    size, there = SIZE.expand(1, CARS, 2), torch.ones(1, CARS, dtype=torch.bool)
    ids = torch.arange(1, CARS + 1)[None]
    seen = torch.ones(1, CARS, 3, dtype=torch.bool)
    agents = Agents(ids, torch.ones_like(ids), torch.zeros(1, CARS, 3, 3), seen, size)
    drawn = size * torch.tensor([longer, 1.0])
    step = SlotStep(1, agents, pose, pose, nothing, nothing, drawn, nothing[..., None])
    truth = Truth(torch.zeros(1, CARS, 3), size, there, there, there, nothing + 1)
    dice = Generator().manual_seed(1)
    parts = step_loss(step, truth, GRID, LossWeights(points=256), dice, None)
    return float(parts["mask"] / CARS)


def test_masks_are_best_as_large_as_what_is_not_known() -> None:
    assert mask_loss(1.0, sigma_m=0.1) < mask_loss(1.2, sigma_m=0.1)
    assert mask_loss(1.2, sigma_m=2.0) < mask_loss(1.0, sigma_m=2.0)
    assert mask_loss(1.2, sigma_m=2.0) < mask_loss(2.0, sigma_m=2.0)
