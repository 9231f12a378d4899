"""Staying in sight: existence depends on from where an agent is looked at, motion does not."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from forecast.model import se2
from forecast.types import BEVSequence, StepForecast
from tests.rollouts import run
from tests.sequences import TRAFFIC, forecaster, sequences


def seen_by(batch: BEVSequence, twist: tuple[float, float, float]) -> BEVSequence:
    """The same agents, seen from an ego that drives otherwise."""
    step = se2.exp(torch.tensor(twist))
    present, poses = batch.ego_pose[:, 2], [batch.ego_pose[:, 2]]
    back = se2.between(step, torch.zeros(3))
    for _ in range(2):
        present = se2.compose(present, back.expand_as(present))
        poses.insert(0, present)
    return replace(batch, ego_pose=torch.cat((torch.stack(poses, 1), batch.ego_pose[:, 3:]), 1))


def last(batch: BEVSequence) -> StepForecast:
    return run(forecaster(memory=False), batch, 4)[-1]


def there(step: StepForecast) -> Tensor:
    return step.existence[step.ids > 0]


def test_existence_depends_on_how_the_ego_moves_and_poses_do_not() -> None:
    batch = sequences(TRAFFIC)
    slow, fast = (last(seen_by(batch, (metres, 0.0, 0.0))) for metres in (0.0, 8.0))
    assert not torch.allclose(there(slow), there(fast), atol=1e-4)
    torch.testing.assert_close(slow.pose, fast.pose, equal_nan=True)


def test_an_untrained_model_loses_nobody() -> None:
    batch = seen_by(sequences(TRAFFIC), (30.0, 0.0, 0.2))
    step = run(forecaster(trained=False, memory=False), batch, 6)[-1]
    assert (there(step) > 0.95).all()


def test_existence_teaches_the_motion_nothing_through_the_place_of_the_ego() -> None:
    model = forecaster(memory=False).train()
    model.motion.existence.requires_grad_(False)
    torch.nn.init.zeros_(model.motion.existence[-1].weight)
    state = model.start(sequences(TRAFFIC).crop(0, 3))
    model.advance(state)[1].existence.sum().backward()
    assert model.sight.judge[0].weight.grad is not None
    for name, parameter in model.motion.residual.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
    assert model.seed[0].weight.grad is None or not model.seed[0].weight.grad.any()
