"""What refines the masks that are drawn: logits that are added to those of boxes."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

# Adds to the logit of points (b, a, p, 2), given in each agent's own frame, metres.
Refiner = Callable[[Float[Tensor, "b a p 2"]], Float[Tensor, "b a p"]]


class RowRefiner:
    """A mask head that reads one list of points of all agents, not as many points of each."""

    def __call__(self, points: Float[Tensor, "b a p 2"]) -> Float[Tensor, "b a p"]:
        """Not called: see :meth:`rows`."""
        raise NotImplementedError

    def rows(self, agent: Int[Tensor, "n"], points: Float[Tensor, "n 2"]) -> Float[Tensor, "n"]:
        """Adds to the logit of each point of an agent's own frame."""
        raise NotImplementedError
