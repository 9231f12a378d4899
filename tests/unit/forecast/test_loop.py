"""What the loop gives a model to observe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from forecast.inference.models import LoadedModel, Provenance
from forecast.loop import observed, rollout
from forecast.model.baselines import Baseline, Components
from forecast.model.branching import Branching
from forecast.model.detected_input import Detecting
from forecast.model.sampled_baselines import SampledComponents, SampledKalman
from forecast.schema import DEFAULT_CLASSES
from forecast.training.matching import TruthAssignment
from forecast.training.module import UndrawnForecaster
from forecast.types import BEVSequence
from tests.support.sequences import TRAFFIC, forecaster, sequences

CLASSES = len(DEFAULT_CLASSES)


def past() -> BEVSequence:
    return sequences(TRAFFIC).crop(0, 3)


def with_late_samples(history: BEVSequence) -> BEVSequence:
    """The same, but its tracker looked 0.1 s before each frame, and in sequence 1 but once."""
    assert history.track_state is not None
    time_s = torch.tensor([[-1.1, -0.6, -0.1], [torch.nan, torch.nan, -0.6], [-1.1, -0.6, -0.1]])
    seen = history.track_state.clone()
    seen[1, :, :2] = torch.nan
    return replace(history, track_history=seen, sample_time=time_s)


def undrawn() -> UndrawnForecaster:
    history = past()
    assert history.track_state is not None
    assert history.track_class is not None
    truth = TruthAssignment(history.track_state, history.track_class, history.grid)
    return UndrawnForecaster(forecaster(raster="always"), truth)


@pytest.mark.parametrize(
    "model",
    [
        lambda: Components(Baseline("constant-velocity", CLASSES)),
        lambda: SampledComponents(SampledKalman(CLASSES)),
        lambda: Detecting(forecaster(raster="always")),
        lambda: Branching(Detecting(forecaster(raster="always"))),
        lambda: LoadedModel(
            Components(Baseline("constant-velocity", CLASSES)),
            Provenance("components"),
            torch.device("cpu"),
            DEFAULT_CLASSES,
        ),
        undrawn,
    ],
    ids=["components", "sampled", "detecting", "branching", "loaded", "training"],
)
def test_where_ids_are_hidden_every_raster_is_observed_at_its_own_time(
    model: Callable[[], LoadedModel],
) -> None:
    """Times of tracks, and how many there are, are none of what is seen in rasters."""
    with torch.no_grad():
        alone = observed(model(), past())
        beside = observed(model(), with_late_samples(past()))
    agents = [getattr(state, "motion", None) or state.forecast for state in (alone, beside)]
    own, other = (state.agents for state in agents)
    assert own.time_s.shape[1] == 3
    assert torch.equal(own.time_s, other.time_s)
    assert torch.equal(own.past, other.past)


def test_where_ids_are_known_samples_are_the_moments() -> None:
    """Else the test above would compare two models that read no samples at all."""
    model = Baseline("constant-velocity", CLASSES)
    steps = [next(rollout(model, each, 1)) for each in (past(), with_late_samples(past()))]
    assert not torch.equal(steps[0].pose.nan_to_num(), steps[1].pose.nan_to_num())
