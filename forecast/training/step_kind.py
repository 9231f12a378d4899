"""What a training step is used for: the same in all processes, as each waits for the slowest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator

from forecast.config.data import Augmentation
from forecast.config.training import Stage


@dataclass(frozen=True)
class StepKind:
    """What a batch is used for; how long that takes depends on it.

    Attributes:
        horizon: Leads rolled out.
        detected: Ids are hidden: agents must be found and tracked.
        masks_only: Boxes are hidden: agents are measured in their masks.
        steps: Steps that are made in ``frames`` frames.
        frames: Frames after which there is a truth.
    """

    horizon: int
    detected: bool = False
    masks_only: bool = False
    steps: int = 1
    frames: int = 1

    @property
    def rasters(self) -> bool:
        """Whether rasters are observed; those of tracked input are drawn from its tracks."""
        return self.detected or self.masks_only


def step_kind(stage: Stage, how: Augmentation, shared: Generator) -> StepKind:
    """Draws the kind of the next step.

    Args:
        stage: Of the curriculum.
        how: Augmentation in that stage.
        shared: Draws the same in all processes.
    """
    detected = _toss(stage.detected, shared)
    masks_only = not detected and _toss(how.masks_only, shared)
    steps, frames = 1, 1
    if _toss(how.other_step, shared):
        choices = [(5, 1), (2, 1)] + ([(1, 2)] if stage.horizon > 1 else [])
        steps, frames = choices[int(torch.randint(len(choices), (), generator=shared))]
    return StepKind(stage.horizon, detected, masks_only, steps, frames)


def _toss(probability: float, generator: Generator) -> bool:
    # Drawn only where it is on, so that other draws do not depend on it.
    return probability > 0 and bool(torch.rand((), generator=generator) < probability)
