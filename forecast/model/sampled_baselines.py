"""Several futures of a baseline: poses drawn from how far it may be off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.baselines import Baseline, Components, ComponentState, KinematicState
from forecast.model.noise import Noise, by_realization, draw
from forecast.model.scene import se2
from forecast.model.scene.rasterizer import Rasters, rasterize
from forecast.types import Draws, RealizationStep, map_tensors


@dataclass(frozen=True)
class BaselineBranches:
    """What a baseline expects now, and the random numbers of K realizations.

    Attributes:
        count: K.
        state: Of the B sequences: the baseline itself has one future.
        noise: Numbers of each agent of the B x K scenes, the same at all leads.
        before: Poses before the last step.
    """

    count: int
    state: KinematicState
    noise: Noise
    before: Float[Tensor, "b k a 3"]


class SampledBaseline(Baseline, ABC):
    """A baseline whose agents err each on its own and as they began to."""

    @abstractmethod
    def drawn(self, state: KinematicState, noise: Noise, count: int) -> Float[Tensor, "b k a 3"]:
        """Where each of K realizations has the agents at this moment."""

    def branch(self, state: KinematicState, draws: Draws, dt_s: float) -> BaselineBranches:
        """Random numbers for some realizations of the state."""
        state = state if state.ahead else self.look_ahead(state, dt_s)
        count = len(draws.realizations)
        noise = draw(draws, state.agents.live, 3)
        return BaselineBranches(count, state, noise, self.drawn(state, noise, count))

    def step_branches(
        self, branches: BaselineBranches, dt_s: float, masks: bool = False
    ) -> tuple[BaselineBranches, RealizationStep]:
        """The baseline a step later, and where each realization has the agents."""
        count, state = branches.count, self.move(branches.state, dt_s)
        pose = self.drawn(state, branches.noise, count)
        live = state.agents.live
        instance = None
        if masks:
            instance = by_realization(self.rasters(state, pose, branches.before).instance, count)
        step = RealizationStep(
            ids=state.agents.ids,
            label=state.agents.label,
            pose=torch.where(live[:, None, :, None], pose, torch.nan),
            instance=instance,
        )
        return replace(branches, state=state, before=pose), step

    def rasters(
        self,
        state: KinematicState,
        pose: Float[Tensor, "b k a 3"],
        before: Float[Tensor, "b k a 3"],
    ) -> Rasters:
        """What the B x K scenes look like."""
        count = pose.shape[1]
        agents, labels = map_tensors(
            (state.agents, state.labels), lambda x: x.repeat_interleave(count, 0)
        )
        return rasterize(
            agents,
            pose.flatten(0, 1),
            before.flatten(0, 1),
            agents.live.to(pose.dtype),
            agents.live,
            labels,
            state.context.grid,
            self.classes,
            least_cell=self.least_cell,
        )


class SampledKalman(SampledBaseline):
    """The baseline ``kalman``: poses are drawn from its covariance.

    Args:
        classes: Number of classes in the data.
        least_cell: Whether boxes are drawn as one cell at least.
    """

    def __init__(self, classes: int, least_cell: bool = False) -> None:
        super().__init__("kalman", classes, least_cell=least_cell)

    def drawn(self, state: KinematicState, noise: Noise, count: int) -> Float[Tensor, "b k a 3"]:
        """Poses of the filter's distribution at this moment."""
        assert state.filtered is not None
        normal = by_realization(noise.normal, count)
        covariance = state.filtered.covariance[..., :3, :3]
        # Far ahead it is no longer positive definite in float32: what falls below 0 is 0.
        variance, axes = torch.linalg.eigh(covariance.double())
        root = (axes * variance.clamp(min=0).sqrt()[..., None, :]).to(state.pose.dtype)
        pose = state.pose[:, None] + (root[:, None] @ normal[..., None]).squeeze(-1)
        return torch.cat((pose[..., :2], se2.wrap(pose[..., 2:])), -1)


class SampledComponents(Components):
    """Linked components that have several futures.

    Args:
        motion: The baseline that moves them.
    """

    def __init__(self, motion: SampledBaseline) -> None:
        super().__init__(motion)
        self.sampled = motion

    def branch(self, state: ComponentState, draws: Draws, dt_s: float) -> BaselineBranches:
        """Random numbers for some realizations of the state."""
        return self.sampled.branch(state.motion, draws, dt_s)

    def step_branches(
        self, branches: BaselineBranches, dt_s: float, masks: bool = False
    ) -> tuple[BaselineBranches, RealizationStep]:
        """The components a step later, and where each realization has them."""
        return self.sampled.step_branches(branches, dt_s, masks)
