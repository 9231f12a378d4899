"""Occupancy of agents that have not been seen yet."""

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from forecast.grid import BEVGrid
from forecast.loop import observed, rollout
from forecast.model.forecaster import Forecaster
from forecast.model.newcomers import LEAST, with_newcomers
from tests.support.sequences import forecaster, sequences
from tests.support.stores import Mover

MOVERS = [[Mover(0.0, 0.0, speed=5.0), Mover(6.0, 3.0)]]
ODD = BEVGrid(-16.0, 16.5, -10.5, 10.0, 0.5)


def occupancy(model: Forecaster, horizon: int = 3, **options: object) -> Tensor:
    history = sequences(MOVERS, **options).crop(0, 3)
    with torch.inference_mode():
        return torch.stack([step.occupancy for step in rollout(model, history, horizon)], 1)


def expecting(model: Forecaster, logit: float) -> Forecaster:
    """The model, whose newcomer head finds every cell as likely as this."""
    assert model.newcomer_head is not None
    nn.init.zeros_(model.newcomer_head.logits.weight)
    nn.init.constant_(model.newcomer_head.logits.bias, logit)
    return model


def without(model: Forecaster) -> Forecaster:
    model.use(replace(model.spec, newcomers=False))
    return model


def test_an_untrained_head_changes_no_occupancy() -> None:
    known = occupancy(without(forecaster(trained=False)))
    assert torch.equal(occupancy(forecaster(trained=False)), known)


def test_newcomers_and_known_agents_are_independent() -> None:
    known = occupancy(without(forecaster()))
    both = occupancy(expecting(forecaster(), logit=-1.0))
    share = torch.tensor(-1.0).sigmoid()
    torch.testing.assert_close(both, 1 - (1 - known) * (1 - share))


def test_what_is_hardly_likely_is_left_out() -> None:
    nothing = torch.zeros(1, 3, 4, 6)
    logits = torch.tensor([0.5, 1.5, 2.5]).mul(LEAST).logit().view(1, 3, 1, 1)
    there = with_newcomers(nothing, logits)
    assert (there[:, 0] == 0).all()
    expected = torch.tensor([0.0, 0.75, 2.5]).mul(LEAST).view(1, 3, 1, 1)
    torch.testing.assert_close(there, expected.expand_as(there))


def test_a_grid_of_odd_sides_has_newcomers_in_every_cell() -> None:
    assert (occupancy(expecting(forecaster(), logit=0.0), grid=ODD) >= 0.5).all()


def logits_of(model: Forecaster, leads: int) -> list[Tensor]:
    """What the head says at each lead."""
    state = observed(model, sequences(MOVERS).crop(0, 3))
    said = []
    for _ in range(leads):
        state, _ = model.advance(state, 0.5)
        logits = model.newcomer_logits(state)
        assert logits is not None
        said.append(logits)
    return said


def test_beyond_the_learned_horizon_newcomers_stay_as_likely() -> None:
    model = forecaster()
    assert model.newcomer_head is not None
    nn.init.normal_(model.newcomer_head.time[-1].weight)
    with torch.inference_mode():
        logits = logits_of(model, leads=8)
    changes = [float((after - before).abs().max()) for before, after in pairwise(logits)]
    assert min(changes[:5]) > 0
    assert max(changes[5:]) == 0


def test_nothing_else_learns_from_newcomers() -> None:
    model = forecaster()
    logits_of(model, leads=1)[0].sum().backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {"newcomer_head"}
