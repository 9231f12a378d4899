"""What the newcomers' loss takes for a newcomer, and for its cells."""

import math

import torch

from forecast.grid import BEVGrid
from forecast.model.scene.agents import Agents
from forecast.training.newcomer_loss import VEHICLE_M2, newcomer_loss

GRID = BEVGrid(-4.0, 8.0, -3.0, 5.0, 0.5)
HALF = (8, 12)  # cells of a metre
STATE = torch.tensor(
    [[[0.1, 0.1, 0.0, 4.0, 2.0], [5.0, 3.0, 0.7, 2.0, 1.0], [2.0, -1.0, 0.0, 3.0, 2.0]]]
)
CLASS = torch.tensor([[1, 2, 1]])


def known(*ids: int) -> Agents:
    count = len(ids)
    return Agents(
        torch.tensor([ids]),
        torch.ones(1, count, dtype=torch.long),
        torch.zeros(1, count, 1, 3),
        torch.ones(1, count, 1, dtype=torch.bool),
        torch.zeros(1, 1),
        torch.ones(1, count, 2),
    )


def cells(state: torch.Tensor) -> set[tuple[int, int]]:
    """Row and column of every cell whose centre lies in a box, one by one."""
    x, y, yaw, length, width = state.tolist()
    inside = set()
    for row in range(HALF[0]):
        for column in range(HALF[1]):
            dx, dy = -4 + column + 0.5 - x, -3 + row + 0.5 - y
            ahead = dx * math.cos(yaw) + dy * math.sin(yaw)
            aside = -dx * math.sin(yaw) + dy * math.cos(yaw)
            if abs(ahead) < length / 2 and abs(aside) < width / 2:
                inside.add((row, column))
    return inside


def loss(logits: torch.Tensor, agents: Agents, state: torch.Tensor = STATE) -> float:
    return float(newcomer_loss(logits, agents, state, CLASS, GRID))


def perfect(*newcomers: int) -> torch.Tensor:
    logits = torch.full((1, 2, *HALF), -30.0)
    for track in newcomers:
        for row, column in cells(STATE[0, track - 1]):
            logits[0, int(CLASS[0, track - 1]) - 1, row, column] = 30.0
    return logits


def test_newcomers_are_those_that_no_slot_stands_for() -> None:
    assert loss(perfect(2, 3), known(1)) < 1e-6
    assert loss(perfect(1, 3), known(2, 0)) < 1e-6
    assert loss(perfect(2), known(1, 3)) < 1e-6


def test_a_cell_that_is_wrong_counts_by_its_area() -> None:
    logits = perfect(2, 3)
    logits[0, 0, 0, 0] = 30.0
    assert math.isclose(loss(logits, known(1)), 30.0 * 1.0 / VEHICLE_M2, rel_tol=1e-5)


def test_who_is_not_there_has_no_cells() -> None:
    state = STATE.clone()
    state[0, 1:] = torch.nan
    assert loss(torch.full((1, 2, *HALF), -30.0), known(1), state) < 1e-6


def test_two_newcomers_in_one_cell_are_one() -> None:
    state = STATE.clone()
    state[0, 2] = state[0, 0]
    assert loss(perfect(1), known(2), state) < 1e-6
