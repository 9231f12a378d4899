"""What a forecaster that has learned nothing makes of observations, and what it may learn."""

from __future__ import annotations

import torch

from forecast.model.correction import Correction, Innovation

DIM = 8


def innovation(count: int, gap: float) -> Innovation:
    """One agent, seen so often before, the last time so many time units ago."""
    none = torch.zeros(1, 1, 3)
    number = torch.tensor([[count]])
    return Innovation(none, number > 0, number, torch.tensor([[gap]]), none, none)


def test_untrained_poses_are_believed_and_motions_are_a_running_mean() -> None:
    correction = Correction(DIM, 2)
    query = torch.randn(1, 1, DIM)
    for count, gap, mean in ((1, 0.2, 1.0), (2, 0.2, 0.5), (3, 0.2, 1 / 3), (20, 0.25, 0.2)):
        gains = correction.gains(query, innovation(count, gap))
        assert bool((gains.pose == 1).all())
        torch.testing.assert_close(gains.twist, torch.full((1, 1, 3), mean))
        torch.testing.assert_close(gains.acceleration, gains.twist)


def test_learned_gains_and_shares_stay_between_nothing_and_all() -> None:
    correction = Correction(DIM, 2)
    for head in (correction.gain_head, correction.share_head):
        torch.nn.init.normal_(head[-1].weight, std=10.0)
    query = torch.randn(1, 50, DIM)
    gains = correction.gains(query, innovation(4, 0.2))
    for found in (gains.pose, gains.twist, gains.acceleration, *correction.shares(query)):
        assert bool(((found >= 0) & (found <= 1)).all())
        assert float(found.detach().std()) > 0.1


def test_gains_that_are_not_learned_do_not_depend_on_the_weights() -> None:
    correction, query = Correction(DIM, 2), torch.randn(1, 1, DIM)
    before = correction.gains(query, innovation(4, 0.2), learned=False)
    torch.nn.init.normal_(correction.gain_head[-1].weight)
    after = correction.gains(query, innovation(4, 0.2), learned=False)
    assert torch.equal(before.twist, after.twist)
    assert torch.equal(before.pose, after.pose)
    learned = correction.gains(query, innovation(4, 0.2))
    assert not torch.equal(learned.pose, after.pose)
