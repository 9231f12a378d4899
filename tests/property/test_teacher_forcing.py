"""Leads that start from the true frames before them."""

from __future__ import annotations

import pytest
import torch

from forecast.errors import ConfigError
from forecast.loop import teacher_forced
from forecast.model.baselines import Baseline
from forecast.types import BEVSequence, StepForecast
from tests.support.rollouts import Model, assert_same, run
from tests.support.sequences import TRAFFIC, sequences


def force(model: Model, batch: BEVSequence, horizon: int) -> list[StepForecast]:
    with torch.inference_mode():
        return list(teacher_forced(model, batch, 3, horizon))


def test_the_first_lead_is_the_same_with_and_without_teacher_forcing(model: Model) -> None:
    batch = sequences(TRAFFIC)
    first, second = force(model, batch, 2)
    assert_same(first, run(model, batch, 1)[0])
    assert second.lead == 2
    assert_same(second, run(model, batch.crop(1, 4), 1)[0])


def test_at_constant_turn_rate_teacher_forcing_changes_nothing() -> None:
    batch, model = sequences(TRAFFIC[:1]), Baseline("constant-turn", 3)
    for forced, free in zip(force(model, batch, 6), run(model, batch, 6), strict=True):
        for ours, theirs in ((forced.ids, free.ids), (forced.instance, free.instance)):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(forced.pose, free.pose, atol=1e-4, rtol=0, equal_nan=True)
        torch.testing.assert_close(forced.flow, free.flow, atol=1e-4, rtol=0)


def test_teacher_forcing_ends_where_the_truth_before_a_lead_does() -> None:
    model, batch = Baseline("persistence", 3), sequences(TRAFFIC).crop(0, 6)
    assert [step.lead for step in force(model, batch, 4)] == [1, 2, 3, 4]
    for horizon in (0, 5):
        with pytest.raises(ConfigError, match=r"1 to 4 steps.*--teacher-forced"):
            force(model, batch, horizon)
