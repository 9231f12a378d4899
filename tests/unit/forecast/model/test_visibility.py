"""Staying in sight: existence depends on from where an agent is looked at, motion does not."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from forecast.loop import observed
from forecast.model.forecaster import Forecaster
from forecast.model.heads import SURE_BIAS
from forecast.model.scene import se2
from forecast.types import BEVSequence, StepForecast
from tests.support.rollouts import run
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import Mover


def there(step: StepForecast) -> Tensor:
    return step.existence[step.ids > 0]


def seen_by(batch: BEVSequence, metres: float) -> BEVSequence:
    """The same agents, seen from an ego that drives straight on, so far in each step."""
    ego = torch.zeros_like(batch.ego_pose)
    ego[..., 0] = metres * (torch.arange(batch.frames) - 2.0)
    return replace(batch, ego_pose=ego)


def loses_the_distant(model: Forecaster) -> Forecaster:
    """Existence falls with the distance from the ego, and depends on nothing else."""
    with torch.no_grad():
        for parameter in (
            *model.visibility_head.parameters(),
            *model.motion_head.existence.parameters(),
        ):
            parameter.zero_()
        first, _, middle, _, last = model.visibility_head.judge
        distance = model.attributes + 2  # relative() gives it after x and y
        first.weight[0, distance] = middle.weight[0, 0] = 1.0
        last.weight[0, 0] = -1.0
    return model


def test_existence_depends_on_how_the_ego_moves_and_poses_do_not() -> None:
    batch, model = sequences(TRAFFIC), forecaster(raster="none")
    slow, fast = (run(model, seen_by(batch, metres), 4)[-1] for metres in (0.0, 8.0))
    assert not torch.allclose(there(slow), there(fast), atol=1e-4)
    torch.testing.assert_close(slow.pose, fast.pose, equal_nan=True)


def test_the_ego_goes_on_as_it_did() -> None:
    parked = seen_by(sequences([[Mover(0.0, 0.0)]]), 5.0)
    model = loses_the_distant(forecaster(raster="none"))
    for step in run(model, parked, 4):
        came = (there(step) - torch.sigmoid(torch.tensor(SURE_BIAS - 5.0 * step.lead / 20))).abs()
        assert came < 1e-3, step.lead


def test_beyond_the_learned_horizon_nobody_fades() -> None:
    parked = seen_by(sequences([[Mover(0.0, 0.0)]]), 5.0)
    steps = run(loses_the_distant(forecaster(raster="none")), parked, 40)
    assert there(steps[5]) < there(steps[4])
    assert all(torch.equal(there(step), there(steps[5])) for step in steps[6:])


def test_an_untrained_model_loses_nobody() -> None:
    step = run(forecaster(trained=False, raster="none"), sequences(TRAFFIC), 6)[-1]
    assert (there(step) == torch.sigmoid(torch.tensor(SURE_BIAS))).all()


def test_it_does_not_matter_in_which_frame_the_ego_is_told() -> None:
    batch = replace(sequences(TRAFFIC, lanes=False), map=None).crop(1, 4)
    assert batch.track_state is not None
    ego = batch.ego_pose[:, -1]
    state = batch.track_state.clone()
    state[..., :3] = se2.between(ego[:, None, None], state[..., :3])
    own = replace(batch, track_state=state, ego_pose=se2.between(ego[:, None], batch.ego_pose))
    model = forecaster(raster="none")
    ours, theirs = (next(iter(run(model, one, 1))) for one in (batch, own))
    torch.testing.assert_close(ours.existence, theirs.existence)


def test_existence_teaches_the_motion_nothing_through_the_place_of_the_ego() -> None:
    model = forecaster(raster="none").train()
    with torch.no_grad():
        model.motion_head.existence[-1].weight.zero_()
    state = observed(model, sequences(TRAFFIC).crop(0, 3))
    model.advance(state, 0.5)[1].existence.sum().backward()
    assert model.visibility_head.judge[0].weight.grad is not None
    for part in (model.motion_head.residual, model.agent_encoder, model.decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is None or not parameter.grad.any(), name


def flickering(returns: bool) -> BEVSequence:
    """Two agents: the second is hidden at the present, the first was hidden before, or is seen."""
    batch = sequences([[Mover(0.0, 0.0, speed=3.0), Mover(8.0, 4.0, speed=3.0)]], history=5)
    assert batch.track_state is not None
    state = batch.track_state.clone()
    state[0, 1, 4] = torch.nan
    if returns:
        state[0, 0, 2] = torch.nan
    return replace(batch, track_state=state)


def test_whether_others_that_were_hidden_came_back_is_known() -> None:
    model = forecaster(raster="none")
    shares = [
        float(observed(model, flickering(returns).crop(0, 5)).agents.came_back)
        for returns in (False, True)
    ]
    assert shares == [0.5 / 2, 1.5 / 3]


def test_only_hidden_agents_are_judged_by_who_came_back() -> None:
    model = loses_the_distant(forecaster(raster="none"))
    with torch.no_grad():
        first = model.visibility_head.judge[0]
        first.weight.zero_()
        first.weight[0, -1], first.bias[0] = -1.0, 5.0
        never, again = (
            model.advance(observed(model, flickering(returns).crop(0, 5)), 0.5)[1].existence[0]
            for returns in (False, True)
        )
    assert torch.equal(never[0], again[0])
    assert float(again[1] - never[1]) > 0.5
