"""A forecast averaged with that of the scene's mirror image: smaller errors, twice the time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.forecaster import Forecaster
from forecast.model.scene import se2
from forecast.model.state import ForecastState, SlotStep
from forecast.types import Observation, SceneContext, StepForecast


@dataclass(frozen=True)
class MirroredState:
    """The states of both rollouts at the same moment.

    Attributes:
        scene: Of the scene as it is.
        image: Of its mirror image.
        pose: Mean pose of each slot now; None before the first step.
    """

    scene: ForecastState
    image: ForecastState
    pose: Float[Tensor, "b a 3"] | None = None


class Mirrored:
    """Forecasts the scene and its mirror image, and draws the mean of the two.

    A network learns left turns not quite as it learns right ones; the mean treats both alike. The
    two rollouts do not influence each other.

    Args:
        model: Reads tracked input.
    """

    def __init__(self, model: Forecaster) -> None:
        self.model = model

    def start(self, context: SceneContext) -> MirroredState:
        """The scene as it is and in the mirror, before anything was seen."""
        scene, image = self.model.start(context), self.model.start(context.mirror())
        return MirroredState(scene, image)

    def observe(self, state: MirroredState, frame: Observation) -> MirroredState:
        """Observes a frame as it is and in the mirror."""
        scene = self.model.observe(state.scene, frame)
        return MirroredState(scene, self.model.observe(state.image, frame.mirror()))

    def step(self, state: MirroredState, dt_s: float) -> tuple[MirroredState, StepForecast]:
        """One step of both, and the mean of the two, drawn."""
        scene, seen = self.model.advance(state.scene, dt_s)
        image, mirrored = self.model.advance(state.image, dt_s)
        before = seen.before if state.pose is None else state.pose
        mean = replace(
            seen,
            pose=_mean(seen.pose, mirrored.pose * mirrored.pose.new_tensor([1.0, -1.0, -1.0])),
            before=before,
            existence=_middle(seen, mirrored),
            uncertainty=(seen.uncertainty + mirrored.uncertainty) / 2,
        )
        return MirroredState(scene, image, mean.pose), self.model.draw(scene, mean)


def _mean(one: Float[Tensor, "*n 3"], other: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Halfway between two poses; headings the short way round."""
    turn = se2.wrap(other[..., 2:] - one[..., 2:])
    place = (one[..., :2] + other[..., :2]) / 2
    return torch.cat((place, se2.wrap(one[..., 2:] + turn / 2)), -1)


def _middle(one: SlotStep, other: SlotStep) -> Float[Tensor, "b a"]:
    """Logit of the mean probability of being there."""
    return torch.logit((one.existence.sigmoid() + other.existence.sigmoid()) / 2, eps=1e-6)
