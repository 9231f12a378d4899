"""Denoising queries: noised truths that teach boxes without waiting for a match.

Source: Zhang et al., "DINO" (2022), contrastive denoising: copies with little noise are matched to
their agent, those with more noise to nothing. Here boxes are rotated and in metres, and no copy
attends to a query of another group, the model's own queries included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from forecast.config.training import TrackRules
from forecast.model.scene import se2
from forecast.model.tracking.tracks import DenoisingQueries

# Copies of a pedestrian's box that differ by centimetres cannot be distinguished.
LEAST_HALF_M = 1.0
LEAST_SIZE_M = 0.1


@dataclass(frozen=True)
class Denoising:
    """Draws noised truths.

    Attributes:
        rules: How many groups and how much noise.
        classes: Number of classes.
        generator: None = torch's own.
    """

    rules: TrackRules
    classes: int
    generator: Generator | None = None

    def __call__(
        self,
        state: Float[Tensor, "b n 5"],
        label: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n"],
    ) -> DenoisingQueries:
        """Every visible agent twice in every group: first with less noise, then with more.

        Args:
            state: True x, y, yaw, length, width.
            label: Class from 1.
            visible: Which agents there are.
        """
        groups = self.rules.denoising
        order = torch.argsort((~visible).int(), dim=1, stable=True)
        order = order[:, : int(visible.sum(1).max())].repeat(1, 2 * groups)
        agents = order.shape[1] // (2 * groups)
        group, worse = self._kinds(groups, agents, state.device)
        live = visible.gather(1, order)
        truth = state.gather(1, order[..., None].expand(-1, -1, 5))
        pose, size = self._moved(torch.where(live[..., None], truth, 1.0), worse)
        return DenoisingQueries(
            ids=torch.where(live & ~worse, order + 1, 0),
            live=live,
            group=group.expand_as(order),
            pose=pose,
            size=size,
            label=self._flipped(label.gather(1, order)),
        )

    def _kinds(self, groups: int, agents: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Group of each copy, and whether it has more noise."""
        index = torch.arange(2 * groups, device=device).repeat_interleave(agents)
        return index // 2 + 1, index % 2 == 1

    def _moved(self, state: Tensor, worse: Tensor) -> tuple[Tensor, Tensor]:
        """Moves two opposite corners independently along the box's sides, and turns the box."""
        half = state[..., 3:] / 2
        step = self.rules.noise * half.clamp(min=LEAST_HALF_M)
        front, back = (self._draw((*worse.shape, 2), state, worse[:, None]) for _ in range(2))
        front, back = half + front * step, -half + back * step
        centre = se2.apply(state[..., :3], (front + back) / 2)
        turn = self.rules.noise * self._draw((*worse.shape, 1), state, worse[:, None])
        pose = torch.cat((centre, se2.wrap(state[..., 2:3] + turn)), -1)
        return pose, (front - back).clamp(min=LEAST_SIZE_M)

    def _draw(self, shape: tuple[int, ...], like: Tensor, worse: Tensor) -> Tensor:
        """Numbers of either sign with a size below 1, or from 1 to 2 for worse copies."""
        drawn = torch.rand(2, len(like), *shape, generator=self.generator).to(
            like.device, like.dtype
        )
        return torch.where(drawn[0] < 0.5, -1.0, 1.0) * (drawn[1] + worse)

    def _flipped(self, label: Tensor) -> Tensor:
        """Some labels replaced by another class."""
        drawn = torch.rand(2, *label.shape, generator=self.generator).to(label.device)
        other = (label + (drawn[1] * (self.classes - 1)).long()) % self.classes + 1
        return torch.where(drawn[0] < self.rules.flip, other, label)
