"""What holds for the realizations of every model that has several futures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.errors import ConfigError
from forecast.loop import REALIZATIONS_AT_ONCE, BranchingModel, branches, observed, realizations
from forecast.model import branching
from forecast.model.branching import Branching, Perturbation
from forecast.model.heads import SURE_BIAS
from forecast.model.noise import BLOCK, Noise, draw
from forecast.model.sampled_baselines import SampledKalman
from forecast.model.scene.overlap import overlapping
from forecast.types import BEVSequence, Draws, map_tensors
from tests.support.rollouts import MODELS as ROLLED
from tests.support.rollouts import detecting, run
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import Mover

Model = BranchingModel[Any, Any, Any]
MODELS = {
    "tracked": lambda: Branching(forecaster()),
    "detected": lambda: Branching(detecting()),
    "kalman": lambda: SampledKalman(3),
    "resampled errors": ROLLED["resampled errors"],
    "components, filtered": ROLLED["components, filtered"],
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    with torch.inference_mode():
        yield MODELS[request.param]()


@pytest.fixture(scope="module")
def past() -> BEVSequence:
    return sequences(TRAFFIC).crop(0, 3)


def poses(model: Model, past: BEVSequence, horizon: int, count: int, **options: Any) -> Tensor:
    """Poses of all realizations, ``(K, B, leads, A, 3)``."""
    return torch.stack([one.pose for one in realizations(model, past, horizon, count, **options)])


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0, equal_nan=True)


def test_they_are_built_as_the_forecast_is(model: Model, past: BEVSequence) -> None:
    forecast = run(model, past, 2)
    futures = list(realizations(model, past, 2, 3, masks=True))
    assert [one.number for one in futures] == [0, 1, 2]
    for one in futures:
        assert torch.equal(one.ids, forecast[0].ids)
        assert torch.equal(one.label, forecast[0].label)
        assert one.pose[:, 1].shape == forecast[1].pose.shape
        assert one.instance is not None
        assert one.instance[:, 1].shape == forecast[1].instance.shape
        assert one.pose[:, :, 0].isfinite().any()  # of agents that are there
        assert one.pose.isnan()[(one.ids == 0)[:, None].expand(-1, 2, -1)].all()  # of empty slots


def test_the_same_seed_draws_the_same_whatever_the_batch(model: Model, past: BEVSequence) -> None:
    together = poses(model, past, 3, 2, seed=5, first=7)
    assert not torch.equal(together, poses(model, past, 3, 2, seed=6, first=7))
    for index in range(past.batch):
        one = map_tensors(past, lambda t, i=index: t[i : i + 1])
        alone = poses(model, one, 3, 2, seed=5, first=7 + index)
        same(together[:, index : index + 1, :, : alone.shape[3]], alone)


def test_a_short_horizon_is_the_beginning_of_a_long_one(model: Model, past: BEVSequence) -> None:
    same(poses(model, past, 3, 2), poses(model, past, 6, 2)[:, :, :3])


def test_their_number_is_free(model: Model, past: BEVSequence) -> None:
    many = poses(model, past, 2, REALIZATIONS_AT_ONCE + 2)
    same(poses(model, past, 2, 3), many[:3])
    assert len(many[:, 0, 0, 0, 0].unique()) == len(many)


def everyone_stays(*given: Any) -> Noise:
    noise = draw(*given)
    return replace(noise, chance=0 * noise.chance)


def test_without_noise_they_are_the_forecast_itself(
    past: BEVSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branching, "draw", everyone_stays)
    silent = Perturbation(ahead=0.0, aside=0.0, gives_way=False)
    model = Branching(forecaster(), silent)
    forecast = run(model, past, 4)
    with torch.inference_mode():
        (one,) = realizations(model, past, 4, 1, masks=True)
    for lead, step in enumerate(forecast):
        assert one.instance is not None
        assert torch.equal(one.pose[:, lead].nan_to_num(), step.pose.nan_to_num())
        assert torch.equal(one.instance[:, lead], step.instance)


def test_agents_react_to_what_another_does(
    past: BEVSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise of one agent alone changes where its neighbours go."""
    led = 0

    def of_one(*given: Any) -> Noise:
        noise = everyone_stays(*given)
        normal = torch.zeros_like(noise.normal)
        normal[:, led] = 3.0
        return replace(noise, normal=normal)

    monkeypatch.setattr(branching, "draw", of_one)
    model = Branching(forecaster(), Perturbation(gives_way=False))
    with torch.inference_mode():
        forecast = run(model, past, 4)[-1]
        (one,) = realizations(model, past, 4, 1)
    others = forecast.ids[0] > 0
    others[led] = False
    assert others.any()
    moved = (one.pose[0, -1] - forecast.pose[0])[others].abs().amax(-1)
    assert (moved > 1e-5).all()


def test_who_comes_to_stand_stays_where_noise_has_led_it(past: BEVSequence) -> None:
    model = Branching(forecaster(trained=False))
    gate = model.model.motion_head.moving[-1]
    assert isinstance(gate, torch.nn.Linear)
    with torch.inference_mode():
        now = model.branch(observed(model, past), Draws(0, 0, range(2)), 0.5)
        before = now.state.pose
        now, first = model.step_branches(now, 0.5)
        assert (now.displaced.abs().amax(-1) > 0.05).any()
        assert not torch.equal(now.state.pose, before)
        gate.bias.fill_(-SURE_BIAS - 1.0)
        _, second = model.step_branches(now, 0.5)
    there = second.pose.isfinite()
    assert torch.equal(first.pose[there], second.pose[there])


def test_who_would_run_into_another_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A car that accelerates behind one that stands."""
    past = sequences([[Mover(-9.0, 0.0, speed=6.0), Mover(4.0, 0.0)]]).crop(0, 3)

    def hurrying(*given: Any) -> Noise:
        noise = everyone_stays(*given)
        normal = torch.zeros_like(noise.normal)
        normal[:, 0, 0] = 2.0
        return replace(noise, normal=normal)

    monkeypatch.setattr(branching, "draw", hurrying)
    size = torch.tensor([[[4.5, 2.0], [4.5, 2.0]]])
    live = torch.ones(1, 2, dtype=torch.bool)
    hit = {}
    for gives_way in (False, True):
        model = Branching(forecaster(trained=False), Perturbation(gives_way=gives_way))
        with torch.inference_mode():
            (one,) = realizations(model, past, 4, 1)
        hit[gives_way] = [bool(overlapping(p[None], size, live).any()) for p in one.pose[0]]
        assert one.pose[0, -1, 0, 0] > -9.0 + 3.0  # it has driven on until then
    assert any(hit[False])
    assert not any(hit[True])


def test_agents_that_are_gone_do_not_come_back(past: BEVSequence) -> None:
    model = forecaster()
    existence = model.motion_head.existence[-1]
    assert isinstance(existence, torch.nn.Linear)
    with torch.inference_mode():
        existence.bias.fill_(-SURE_BIAS)  # about a half are there
        there = poses(Branching(model), past, 6, 30)[..., 0].isfinite()
    live = there.any(0).any(1)
    assert live.any()
    assert not (there[:, :, 1:] & ~there[:, :, :-1]).any()
    last = there[:, :, -1].float().mean(0)[live]
    assert ((last > 0.05) & (last < 0.95)).all()


def test_noise_is_normal_stratified_and_shared_as_said() -> None:
    live = torch.ones(4, 50, dtype=torch.bool)
    noise = draw(Draws(1, 0, range(40)), live, 2, 0.25)
    normal = noise.normal
    assert abs(normal.std() - 1) < 0.05
    shared = (normal[:, ::2].mean(1) * normal[:, 1::2].mean(1)).mean()  # covariance of agents
    assert abs(shared - 0.25) < 0.06
    eighths = (noise.chance.view(4, 5, BLOCK, 50) * BLOCK).long()  # one of each in a block
    assert (eighths.sort(2).values == torch.arange(BLOCK)[:, None]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "a horizon of at least 1"),
        ({"count": 0}, "at least one realization"),
        ({"seed": -1}, "seed of at least 0"),
    ],
)
def test_refuses_impossible_numbers(
    options: dict[str, Any], message: str, past: BEVSequence
) -> None:
    given = {"horizon": 1, "count": 1, **options}
    with pytest.raises(ConfigError, match=message):
        list(realizations(SampledKalman(3), past, **given))


def test_a_state_can_branch_more_than_once(model: Model, past: BEVSequence) -> None:
    """What a live stack does: it observes on, and asks for futures whenever it needs them."""
    state = observed(model, past)
    draws = Draws(0, 0, range(1))
    first, second = (next(branches(model, state, 2, 0.5, draws)).pose for _ in range(2))
    assert torch.equal(first.nan_to_num(), second.nan_to_num())
    same(first, poses(model, past, 2, 1)[0])


def test_kalman_has_several_futures_however_far_ahead(past: BEVSequence) -> None:
    with torch.inference_mode():
        far = poses(MODELS["kalman"](), past, 60, 2)
    assert (far.isfinite().all(-1) == far[:, :, :1].isfinite().all(-1)).all()
    assert far[0, :, -1].isfinite().any()
