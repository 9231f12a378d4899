"""Every kind of model, made small, and its rollouts on synthetic traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from forecast.inference.error_paths import packaged_paths
from forecast.loop import StepModel, observed, rollout
from forecast.model.baselines import Baseline, Components
from forecast.model.detected_input import Detecting
from forecast.model.mirrored import Mirrored
from forecast.model.resampled_errors import ResampledErrors
from forecast.model.sampled_baselines import SampledComponents, SampledKalman
from forecast.model.scene.agents import Agents
from forecast.model.spec import BASELINES
from forecast.schema import DEFAULT_CLASSES
from forecast.types import BEVSequence, StepForecast
from tests.support.sequences import forecaster

Model = StepModel[object, StepForecast]


def detecting(**changes: Any) -> Detecting:
    """Sees a large vehicle at every peak of its heatmap, so that some cells are somebody's."""
    model = forecaster(**changes)
    assert model.tracker is not None
    with torch.no_grad():
        model.tracker.class_head.bias[0] = 6.0
        model.tracker.box_head[2].bias[2:4] = 1.5
    return Detecting(model)


# Every part that a specification can exchange.
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"attention": "dense"},
    "fpn": {"mask_head": "fpn", "hidden_dim": 128, "heads": 8},
    "no interaction": {"query_interaction": False},
    "no warp": {"warp": False},
    "query_pos update": {"update_query_pos": True},
}


def exchanged() -> Model:
    """A forecaster with every other part at once."""
    changes = {k: v for change in VARIANTS.values() for k, v in change.items()}
    return forecaster(**changes | {"query_interaction": True})


MODELS: dict[str, Callable[[], Model]] = {
    "tracked": forecaster,
    "without raster": lambda: forecaster(raster="none"),
    "other parts": exchanged,
    "mirrored": lambda: Mirrored(forecaster()),
    "detected": detecting,
    "components": lambda: Components(Baseline("constant-velocity", 3)),
    "components, filtered": lambda: SampledComponents(SampledKalman(3)),
    **{name: (lambda name=name: Baseline(name, 3)) for name in BASELINES},
    "resampled errors": lambda: ResampledErrors(packaged_paths(DEFAULT_CLASSES)),
}


def run(model: Model, batch: BEVSequence, horizon: int, history: int = 3) -> list[StepForecast]:
    with torch.inference_mode():
        return list(rollout(model, batch.crop(0, history), horizon))


def agents_of(history: BEVSequence, slots: int = 8) -> Agents:
    """The agents that are there at the present, as they were observed."""
    model = Baseline("persistence", 3, slots)
    return model.look_ahead(observed(model, history), history.dt_s).agents


def assert_same(a: StepForecast, b: StepForecast, atol: float = 0.0) -> None:
    for name in ("ids", "label", "instance", "semantic"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    for name in ("pose", "existence", "occupancy", "flow"):
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), atol=atol, rtol=0, equal_nan=True
        )
