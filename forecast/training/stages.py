"""What the stages of a curriculum decide: which parts of the network learn, how fast, from what."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forecast.config.training import Optimisation, Stage
from forecast.errors import ConfigError
from forecast.model.forecaster import Forecaster

LEAST_SHARE = 0.02  # of its peak, at which a cosine ends


def parts_of(model: Forecaster) -> set[str]:
    """Names of the parts of a network that can learn."""
    return {name.split(".")[0] for name, _ in model.named_parameters()}


def frozen_in(stage: Stage, how: Optimisation, model: Forecaster) -> set[str]:
    """The parts that do not learn in a stage."""
    frozen = set(stage.frozen)
    if not how.backbone_factor:
        frozen.add("raster_encoder")
    if how.only:
        frozen |= parts_of(model) - set(how.only)
    return frozen


def check_stages(curriculum: tuple[Stage, ...], how: Optimisation, model: Forecaster) -> None:
    """Refuses parts that the network lacks, and stages in which nothing would learn.

    Raises:
        ConfigError: There is one.
    """
    parts = parts_of(model)
    named = {"optimisation.only": how.only}
    named |= {
        f"curriculum.{number}.frozen": stage.frozen for number, stage in enumerate(curriculum)
    }
    for where, names in named.items():
        if unknown := sorted(set(names) - parts):
            raise ConfigError(
                f"parts of the network: {', '.join(sorted(parts))}",
                f"{where}: {', '.join(unknown)}",
                "correct it",
            )
    for number, stage in enumerate(curriculum):
        if parts <= frozen_in(stage, how, model):
            raise ConfigError(
                f"a part that learns in stage {number + 1} of the curriculum",
                f"curriculum.{number}.frozen: {', '.join(stage.frozen) or 'none'}, and"
                f" optimisation.only: {', '.join(how.only) or 'all'}",
                "leave a part out of frozen",
            )


@dataclass(frozen=True)
class _Cosine:
    peak: float
    begun: int
    end: int

    def rate(self, step: int, warmup_steps: int) -> float:
        warm = min(1.0, (step - self.begun + 1) / max(1, warmup_steps))
        done = min(1.0, (step - self.begun) / max(1, self.end - self.begun))
        share = LEAST_SHARE + (1 - LEAST_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
        return self.peak * warm * share


class LearningRate:
    """The learning rate at each step: a warm-up and cosine for every stage that begins one.

    Args:
        curriculum: Stages in order.
        how: Peak of the first cosine, and steps of warm-up.
        steps: Of the whole training.
    """

    def __init__(self, curriculum: tuple[Stage, ...], how: Optimisation, steps: int) -> None:
        self._warmup_steps = how.warmup_steps
        epoch_steps = steps // sum(stage.epochs for stage in curriculum)
        first = curriculum[0].learning_rate
        self._cosines = [_Cosine(how.learning_rate if first is None else first, 0, 0)]
        for number, stage in enumerate(curriculum):
            last = self._cosines[-1]
            if number and stage.learning_rate is not None:
                last = _Cosine(stage.learning_rate, last.end, last.end)
                self._cosines.append(last)
            self._cosines[-1] = _Cosine(
                last.peak, last.begun, last.end + stage.epochs * epoch_steps
            )

    def __call__(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        now = next((one for one in self._cosines if step < one.end), self._cosines[-1])
        return now.rate(step, self._warmup_steps)
