"""Noised truths: how far they are moved, what they answer for, and that nobody sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from forecast.config.training import TrackRules
from forecast.model.scene import se2
from forecast.model.tracking.tracks import Decision, DenoisingQueries, FrameQueries
from forecast.training.denoising import Denoising
from tests.support.sequences import TRAFFIC, forecaster, tracked

STATE = torch.tensor([[[3.0, 4.0, 0.5, 6.0, 3.0], [-5.0, 2.0, 2.0, 0.6, 0.6], [0.0] * 5]])
LABEL = torch.tensor([[1, 2, 3]])
VISIBLE = torch.tensor([[True, True, False]])


def denoising_queries(rules: TrackRules, seed: int = 0) -> DenoisingQueries:
    return Denoising(rules, 3, Generator().manual_seed(seed))(STATE, LABEL, VISIBLE)


def test_every_group_holds_every_visible_agent_once_right_and_once_wrong() -> None:
    made = denoising_queries(TrackRules(denoising=2))
    assert made.live.all()
    assert made.ids.tolist() == [[1, 2, 0, 0, 1, 2, 0, 0]]
    assert made.group.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


def test_better_copies_move_by_less_than_the_noise_and_worse_ones_by_more() -> None:
    rules = TrackRules(denoising=50, noise=0.4)
    made = denoising_queries(rules)
    for agent, half in ((0, (3.0, 1.5)), (1, (1.0, 1.0))):
        state = STATE[:, agent, None]
        centre = se2.unapply(state[..., :3], made.pose[..., :2])
        limit = 0.4 * torch.tensor(half)
        mine = torch.arange(200) % 2 == agent
        better = mine & (torch.arange(200) % 4 < 2)
        # A corner lies at the centre plus half the size; both started at half the true size.
        corners = torch.stack(
            [centre + sign * (made.size - state[..., 3:]) / 2 for sign in (1, -1)], 2
        )[0].abs()
        big = made.size[0] > 0.11  # a size may shrink no further
        assert (corners[better & big.all(-1)] < limit + 1e-5).all()
        if agent == 0:
            worse = mine & ~better
            assert (corners[worse] > limit - 1e-5).all()
            assert (corners[worse] < 2 * limit + 1e-5).all()


def test_without_noise_or_flips_a_better_copy_is_the_truth() -> None:
    made = denoising_queries(TrackRules(denoising=1, noise=0.0, flip=0.0))
    torch.testing.assert_close(made.pose[:, :2], STATE[:, :2, :3])
    torch.testing.assert_close(made.size[:, :2], STATE[:, :2, 3:])
    assert made.label[:, :2].tolist() == [[1, 2]]


def test_flipped_copies_are_told_another_class_and_never_the_same() -> None:
    told = denoising_queries(TrackRules(denoising=100, flip=1.0)).label.view(-1, 2)
    assert set(told[:, 0].tolist()) == {2, 3}
    assert set(told[:, 1].tolist()) == {1, 3}
    quarter = (
        (denoising_queries(TrackRules(denoising=100)).label.view(-1, 2) != LABEL[:, :2])
        .float()
        .mean()
    )
    assert 0.18 < float(quarter) < 0.32


def test_a_frame_without_agents_has_no_copies() -> None:
    made = Denoising(TrackRules(denoising=2), 3)(STATE, LABEL, torch.zeros_like(VISIBLE))
    assert made.ids.shape == (1, 0)


class Scripted:
    """Births the first candidate of every sequence, then keeps the tracks."""

    def __init__(self, extras: DenoisingQueries | None) -> None:
        self.extras = extras

    def denoising_queries(self, frame: int) -> DenoisingQueries | None:
        return self.extras

    def __call__(self, queries: FrameQueries) -> Decision:
        ids = queries.ids.clone()
        if queries.frame == 0:
            ids[:, :3] = torch.tensor([1, 2, 3])
        return Decision(ids, ids > 0)


def copies(group: list[int], x: float) -> DenoisingQueries:
    ids = torch.tensor([[1, 2, 0, 0]]).expand(len(TRAFFIC), -1)
    places = torch.tensor([[0.0, 0.0, 0.0], [3.0, 1.0, 1.0], [x, 0.0, 0.0], [x, 1.0, 1.0]])
    return DenoisingQueries(
        ids=ids,
        live=torch.ones_like(ids, dtype=torch.bool),
        group=torch.tensor([group]).expand_as(ids),
        pose=places.expand(*ids.shape, 3),
        size=torch.full((*ids.shape, 2), 2.0),
        label=torch.ones_like(ids),
    )


def decoded(extras: DenoisingQueries | None) -> tuple[Tensor, Tensor, FrameQueries]:
    """Scores of the last frame, queries of the tracks, and the copies' queries."""
    tracks, frames = tracked(forecaster(), Scripted(extras))
    return frames[-1].score, tracks.query, frames[-1].denoised or frames[-1]


def test_neither_candidates_nor_tracks_see_a_denoising_query() -> None:
    alone = decoded(None)
    beside = decoded(copies([1, 1, 2, 2], 1.0))
    for one, other in zip(alone[:2], beside[:2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    # The same queries in the group of the model's own do change what it sees.
    seen = decoded(copies([0, 0, 0, 0], 1.0))
    assert (seen[0] - alone[0]).abs().max() > 1e-3


@pytest.mark.parametrize(("group", "same"), [([1, 1, 2, 2], True), ([1, 1, 1, 1], False)])
def test_a_denoising_query_sees_its_own_group_only(group: list[int], same: bool) -> None:
    near, far = (decoded(copies(group, x))[2] for x in (1.0, 6.0))
    gap = (near.score - far.score)[:, :2].abs().max()
    assert bool(gap < 1e-5) is same
    moved = replace(copies(group, 1.0), pose=copies(group, 1.0).pose + 0.5)
    assert (decoded(moved)[2].score - near.score).abs().max() > 1e-4


def test_a_denoising_query_sees_no_candidate_and_no_track() -> None:
    class Barren(Scripted):
        """Nobody is ever born."""

        def __call__(self, queries: FrameQueries) -> Decision:
            return Decision(torch.zeros_like(queries.ids), torch.zeros_like(queries.live))

    made = copies([1, 1, 2, 2], 1.0)
    scores = []
    for decide in (Scripted(made), Barren(made)):
        _, frames = tracked(forecaster(), decide)
        assert frames[-1].denoised is not None
        scores.append(frames[-1].denoised.score)
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)
