"""Constant turn rate with the errors that it made elsewhere: what a histogram knows of the future.

An error path is how far a forecast of one agent was off at each lead, in the frame of the forecast
pose. A forecast of an agent of the same class and about the same speed is taken to be off by one of
them, all leads by the same, so that occupancy is the share of the paths by which a cell is covered.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from forecast.errors import CheckpointError
from forecast.model.baselines import KinematicState
from forecast.model.noise import Noise, by_realization, draw
from forecast.model.sampled_baselines import SampledBaseline
from forecast.model.scene import se2
from forecast.types import Draws, StepForecast

SPEEDS_MPS = (0.5, 3.0, 8.0, 14.0)
"""Between them lie the agents that are of about the same speed."""
PATHS = 64
"""Error paths of each class and speed."""
DRAWS = 32
"""Of them, for each agent, that occupancy is the mean of the masks of."""


@dataclass(frozen=True)
class ErrorPaths:
    """What constant turn rate was off by.

    Attributes:
        time_s: Seconds ahead, ascending.
        off: Metres ahead and aside and radians, by class, speed and path.
    """

    time_s: Float[Tensor, "t"]
    off: Float[Tensor, "k v m t 3"]

    def __post_init__(self) -> None:
        shape = (len(SPEEDS_MPS) + 1, PATHS, len(self.time_s), 3)
        fits = self.off.ndim == 5 and self.off.shape[1:] == shape
        ahead = self.time_s.diff(prepend=self.time_s.new_zeros(1))
        if not (fits and len(ahead) and bool((ahead > 0).all() and self.off.isfinite().all())):
            got = f"{tuple(self.off.shape)} at {self.time_s.tolist()}"
            raise CheckpointError(f"finite error paths (classes, {shape})", got, "fit them anew")

    def at(
        self,
        elapsed_s: float,
        label: Int[Tensor, "b a"],
        speed: Float[Tensor, "b a"],
        path: Int[Tensor, "b k a"],
    ) -> Float[Tensor, "b k a 3"]:
        """The errors some time ahead; beyond the last they grow as they did up to it.

        Args:
            elapsed_s: Seconds ahead.
            label: Class of each agent from 1; 0 = none.
            speed: Of each agent, m/s.
            path: Which of the paths each realization takes.
        """
        times, errors = [0.0, *self.time_s.tolist()], self.off.to(label.device)
        if elapsed_s > times[-1]:
            now = errors[..., -1, :] * (elapsed_s / times[-1])
        else:
            after = max(1, bisect_left(times, elapsed_s))
            share = (elapsed_s - times[after - 1]) / (times[after] - times[after - 1])
            early = torch.zeros_like(errors[..., 0, :]) if after == 1 else errors[..., after - 2, :]
            step = errors[..., after - 1, :] - early
            # Of two angles the shorter way.
            step = torch.cat((step[..., :2], se2.wrap(step[..., 2:])), -1)
            now = early + share * step
        bins = torch.bucketize(speed.abs(), speed.new_tensor(SPEEDS_MPS))
        kind = (label - 1).clamp(0, len(self.off) - 1)
        found: Tensor = now[kind[:, None], bins[:, None], path]
        return found


class ResampledErrors(SampledBaseline):
    """Constant turn rate whose occupancy and realizations err as it did elsewhere.

    Args:
        errors: What it was off by there, of each class of the data.
        least_cell: Whether boxes are drawn as one cell at least.
    """

    def __init__(self, errors: ErrorPaths, least_cell: bool = False) -> None:
        super().__init__("constant-turn", len(errors.off), least_cell=least_cell)
        self.errors = errors

    def step(self, state: KinematicState, dt_s: float) -> tuple[KinematicState, StepForecast]:
        """Constant turn rate's step, with the occupancy of all the paths that it may be off by."""
        state, forecast = super().step(state, dt_s)
        # The same numbers for all sequences: what else is in a batch changes nothing.
        widest = torch.ones_like(state.agents.live[:1])
        noise = draw(Draws(0, 0, range(DRAWS)), widest, 3)
        batch, slots = state.agents.live.shape
        total = torch.zeros_like(forecast.occupancy)
        for number in range(DRAWS):
            chance = noise.chance[number].expand(batch, slots)
            one = Noise(noise.normal[:0], chance)
            pose = self.drawn(state, one, 1)
            # Where two classes overlap, the cell is the smaller one's, as in the masks.
            classes = one_hot(self.rasters(state, pose, pose).semantic.long(), self.classes + 1)
            total += classes[..., 1:].movedim(-1, 1)
        return state, replace(forecast, occupancy=total / DRAWS)

    def drawn(self, state: KinematicState, noise: Noise, count: int) -> Float[Tensor, "b k a 3"]:
        """Each agent off by one of the paths."""
        path = (by_realization(noise.chance, count) * PATHS).long().clamp(max=PATHS - 1)
        speed = state.motion[..., 0] / state.dt_s
        off = self.errors.at(state.lead * state.dt_s, state.agents.label, speed, path)
        return se2.compose(state.pose[:, None].expand_as(off), off)
