"""Which rows and columns of a matrix of costs belong together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

WORST_COST = 1e9


def least_cost(cost: Float[Tensor, "q m"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
    """Rows and columns that belong together, by least total cost (the Hungarian method).

    A cost that is not a number is a very high one: the loss then says what went wrong.
    """
    finite = cost.float().nan_to_num(nan=WORST_COST, posinf=WORST_COST, neginf=-WORST_COST)
    rows, columns = linear_sum_assignment(finite.cpu().numpy())
    return (
        torch.as_tensor(rows, device=cost.device),
        torch.as_tensor(columns, device=cost.device),
    )
