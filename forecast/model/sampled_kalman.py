"""Several futures of the Kalman filter: poses drawn from its covariance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.baselines import Baseline, KinematicState
from forecast.model.noise import by_realization, draw
from forecast.model.scene import se2
from forecast.model.scene.rasterizer import rasterize
from forecast.types import Draws, RealizationStep, map_tensors


@dataclass(frozen=True)
class KalmanBranches:
    """What the filter expects now, and the random numbers of K realizations.

    Attributes:
        count: K.
        state: Of the B sequences: the filter itself has one future.
        noise: Standard normal numbers for x, y and yaw of each agent, the same at all leads.
        before: Poses before the last step.
    """

    count: int
    state: KinematicState
    noise: Float[Tensor, "b k a 3"]
    before: Float[Tensor, "b k a 3"]


class SampledKalman(Baseline):
    """The baseline ``kalman``, whose agents err each on its own and as they began to.

    Args:
        classes: Number of classes in the data.
        least_cell: Whether boxes are drawn as one cell at least.
    """

    def __init__(self, classes: int, least_cell: bool = False) -> None:
        super().__init__("kalman", classes, least_cell=least_cell)

    def branch(self, state: KinematicState, draws: Draws, dt_s: float) -> KalmanBranches:
        """Random numbers for some realizations of the state."""
        state = state if state.ahead else self.look_ahead(state, dt_s)
        count = len(draws.realizations)
        noise = by_realization(draw(draws, state.agents.live, 3).normal, count)
        return KalmanBranches(count, state, noise, _drawn(state, noise))

    def step_branches(
        self, branches: KalmanBranches, dt_s: float, masks: bool = False
    ) -> tuple[KalmanBranches, RealizationStep]:
        """The filter a step later, and where each realization has the agents."""
        state = self.move(branches.state, dt_s)
        pose = _drawn(state, branches.noise)
        live = state.agents.live
        instance = self._masks(state, pose, branches.before) if masks else None
        step = RealizationStep(
            ids=state.agents.ids,
            label=state.agents.label,
            pose=torch.where(live[:, None, :, None], pose, torch.nan),
            instance=instance,
        )
        return replace(branches, state=state, before=pose), step

    def _masks(
        self, state: KinematicState, pose: Float[Tensor, "b k a 3"], before: Tensor
    ) -> Tensor:
        count = pose.shape[1]
        agents, labels = map_tensors(
            (state.agents, state.labels), lambda x: x.repeat_interleave(count, 0)
        )
        rasters = rasterize(
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
        return by_realization(rasters.instance, count)


def _drawn(state: KinematicState, noise: Float[Tensor, "b k a 3"]) -> Float[Tensor, "b k a 3"]:
    """Poses of the filter's distribution at this moment."""
    assert state.filtered is not None
    covariance = state.filtered.covariance[..., :3, :3]
    # Far ahead it is no longer positive definite in float32: what falls below 0 is 0.
    variance, axes = torch.linalg.eigh(covariance.double())
    root = (axes * variance.clamp(min=0).sqrt()[..., None, :]).to(state.pose.dtype)
    pose = state.pose[:, None] + (root[:, None] @ noise[..., None]).squeeze(-1)
    return torch.cat((pose[..., :2], se2.wrap(pose[..., 2:])), -1)
