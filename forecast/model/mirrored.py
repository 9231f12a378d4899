"""A forecast averaged with that of the scene's mirror image: smaller errors, twice the time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.forecaster import Forecaster
from forecast.model.scene import se2
from forecast.model.scene.agents import places_among, slots_of
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

    reads_tracks = True

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
        mean = replace(_mean_step(seen, mirrored), before=before)
        return MirroredState(scene, image, mean.pose), self.model.draw(scene, mean)


def _mean_step(seen: SlotStep, mirrored: SlotStep) -> SlotStep:
    """The mean of a step and of its mirror image, by ids.

    Who drives unseen at the edge of the grid may have left one of the two scenes alone.
    """
    both, place = places_among(seen.agents.ids, mirrored.agents.ids)
    pose = slots_of(mirrored.pose, place) * mirrored.pose.new_tensor([1.0, -1.0, -1.0])
    existence = slots_of(mirrored.existence, place)
    uncertainty = (seen.uncertainty + slots_of(mirrored.uncertainty, place)) / 2
    return replace(
        seen,
        pose=torch.where(both[..., None], _mean(seen.pose, pose), seen.pose),
        existence=torch.where(both, _middle(seen.existence, existence), seen.existence),
        uncertainty=torch.where(both[..., None], uncertainty, seen.uncertainty),
    )


def _mean(one: Float[Tensor, "*n 3"], other: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """Halfway between two poses; headings the short way round."""
    turn = se2.wrap(other[..., 2:] - one[..., 2:])
    place = (one[..., :2] + other[..., :2]) / 2
    return torch.cat((place, se2.wrap(one[..., 2:] + turn / 2)), -1)


def _middle(one: Float[Tensor, "b a"], other: Float[Tensor, "b a"]) -> Float[Tensor, "b a"]:
    """Logit of the mean of two probabilities, given as logits."""
    return torch.logit((one.sigmoid() + other.sigmoid()) / 2, eps=1e-6)
