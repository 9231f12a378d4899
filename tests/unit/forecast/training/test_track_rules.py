"""What training carries to the next history frame, and what it makes of those that it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from forecast.config.config import load_config
from forecast.config.training import TrackRules
from forecast.errors import ConfigError
from forecast.training.matching import TruthAssignment
from forecast.training.track_rules import INSERTED, box_iou
from forecast.training.tracking_losses import tracking_loss
from tests.support.stores import GRID
from tests.unit.forecast.training.test_matching import queries, truth

TWO = [(0.0, 0.0), (10.0, 0.0)]


def box(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 0.0, 4.0, 2.0), 1.0),
        ((2.0, 0.0, 0.0, 4.0, 2.0), 1 / 3),
        ((0.0, 0.0, torch.pi / 2, 2.0, 4.0), 1.0),
        ((0.0, 0.0, torch.pi / 2, 4.0, 2.0), 1 / 3),
        ((9.0, 9.0, 0.4, 4.0, 2.0), 0.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0), 0.0),
    ],
)
def test_the_overlap_of_turned_boxes_is_exact(other: tuple[float, ...], expected: float) -> None:
    overlap = box_iou(box(0.0, 0.0, 0.0, 4.0, 2.0), box(*other))
    torch.testing.assert_close(overlap, torch.tensor([expected]))


def test_a_square_turned_by_an_eighth_overlaps_itself_in_an_octagon() -> None:
    overlap = box_iou(box(1.0, 2.0, 0.1, 2.0, 2.0), box(1.0, 2.0, 0.1 + torch.pi / 4, 2.0, 2.0))
    torch.testing.assert_close(overlap, torch.tensor([2**-0.5]))


def test_the_defaults_carry_every_matched_track_on() -> None:
    state, label = truth(TWO)
    frame = queries([(9.0, 0.0), (20.0, 0.0)], [(1, 3.0, 3.0)])
    assert TruthAssignment(state, label, GRID)(frame).ids.tolist() == [[2, 0, 1]]


def test_a_badly_placed_track_ends_and_its_agent_is_found_anew() -> None:
    state, label = truth(TWO, frames=3)
    rules = TrackRules(overlap=0.5)
    assignment = TruthAssignment(state, label, GRID, rules)
    frame = queries([(20.0, 0.0)], [(1, 3.0, 0.0), (2, 10.5, 0.0)])
    frame = replace(frame, size=torch.tensor([4.0, 2.0]).expand(1, 3, 2))
    assert assignment(frame).ids.tolist() == [[0, 0, 2]]
    # It still learned where its agent was,
    assert assignment.frames[0].truth.tolist() == [[0, 1, 2]]
    # and at the next frame a candidate may have it.
    again = assignment(queries([(0.5, 0.0)], [(2, 10.0, 0.0)], frame=1))
    assert assignment.frames[1].truth.tolist() == [[1, 2]]
    assert again.ids.tolist() == [[0, 0]], "boxes of one metre overlap neither agent enough"


def test_a_dropped_track_re_enters_as_new_born() -> None:
    state, label = truth(TWO, frames=3)
    assignment = TruthAssignment(state, label, GRID, TrackRules(drop=1.0))
    first = assignment(queries([(0.0, 0.0)], [(2, 10.0, 0.0)]))
    assert first.ids.tolist() == [[0, 0]]
    assignment(queries([(0.0, 0.0), (10.0, 0.0)], [], frame=1))
    assert assignment.frames[1].truth.tolist() == [[1, 2]]


def test_tracks_are_dropped_as_often_as_asked_and_alike_from_the_same_dice() -> None:
    places = [(0.1 * i, 0.0) for i in range(200)]
    state, label = truth(places)
    frame = queries([], [(i + 1, x, y) for i, (x, y) in enumerate(places)])
    kept = [
        TruthAssignment(state, label, GRID, TrackRules(drop=0.3), Generator().manual_seed(7))(frame)
        for _ in range(2)
    ]
    assert torch.equal(kept[0].ids, kept[1].ids)
    assert 120 <= int((kept[0].ids > 0).sum()) <= 160


def test_the_nearest_candidate_that_is_nobody_goes_on_as_a_false_positive() -> None:
    state, label = truth(TWO)
    assignment = TruthAssignment(state, label, GRID, TrackRules(insert=1.0))
    # The candidate at 9.5 becomes track 2; of the others that at 15 is nearest to it.
    frame = queries([(9.5, 0.0), (15.0, 0.0), (2.0, 0.0), (-9.0, 9.0)], [(1, 0.0, 0.0)])
    assert assignment(frame).ids.tolist() == [[2, INSERTED, INSERTED, 0, 1]]
    assert assignment.frames[0].truth.tolist() == [[2, 0, 0, 0, 1]]


def test_two_tracks_may_share_a_false_positive_and_none_is_made_up() -> None:
    state, label = truth(TWO)
    rules = TrackRules(insert=1.0)
    tracks = [(1, 0.0, 0.0), (2, 10.0, 0.0)]
    shared = TruthAssignment(state, label, GRID, rules)(queries([(5.0, 0.0)], tracks))
    assert shared.ids.tolist() == [[INSERTED, 1, 2]]
    nobody = queries([(5.0, 0.0)], tracks)
    nobody = replace(nobody, live=torch.tensor([[False, True, True]]))
    assert TruthAssignment(state, label, GRID, rules)(nobody).ids.tolist() == [[0, 1, 2]]


def test_an_inserted_one_is_not_inserted_again() -> None:
    state, label = truth(TWO[:1], frames=3)
    assignment = TruthAssignment(state, label, GRID, TrackRules(insert=1.0))
    tracks = [(INSERTED, 0.4, 0.0), (1, 0.0, 0.0)]
    frame = queries([(2.0, 0.0)], tracks, frame=1)
    assert assignment(frame).ids.tolist() == [[INSERTED, 0, 1]]


@pytest.mark.parametrize(("asked", "expected"), [(False, [[0, 0]]), (True, [[0, 1]])])
def test_an_inserted_one_never_matches_a_new_agent_unless_asked(
    asked: bool, expected: list[list[int]]
) -> None:
    state, label = truth([(0.0, 0.0)])
    rules = TrackRules(insert=0.3, match_inserted=asked)
    assignment = TruthAssignment(state, label, GRID, rules)
    decision = assignment(queries([(15.0, 9.0)], [(INSERTED, 0.0, 0.0)], frame=1))
    assert decision.ids.tolist() == expected
    assert assignment.frames[0].truth.tolist() == expected


def test_an_inserted_one_is_taught_to_be_nothing_in_every_class() -> None:
    state, label = truth([(0.0, 0.0)])
    frame = queries([(0.0, 0.0)], [(INSERTED, 0.0, 0.0)], frame=1)
    score = torch.zeros_like(frame.score).requires_grad_()
    assignment = TruthAssignment(state, label, GRID, TrackRules(insert=0.3))
    assignment(replace(frame, score=score))
    tracking_loss(assignment)["class"].backward()
    assert score.grad is not None
    assert (score.grad[0, 1] > 0).all()


def test_after_the_last_frame_there_is_nothing_to_practise() -> None:
    state, label = truth(TWO)
    assignment = TruthAssignment(state, label, GRID, TrackRules(1.0, 1.0, 1.0))
    last = queries([(5.0, 0.0)], [(1, 3.0, 0.0), (2, 10.0, 0.0)], frame=1)
    assert assignment(last).ids.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("wrong", [{"drop": 1.5}, {"overlap": -0.1}, {"denoising": -1}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"tracks.{next(iter(wrong))}"):
        TrackRules(**wrong)  # type: ignore[arg-type]


def test_the_rules_are_a_section_of_the_configuration() -> None:
    assert load_config(None, ["tracks.drop=0.1", "tracks.denoising=3"]).tracks == TrackRules(
        drop=0.1, denoising=3
    )
    with pytest.raises(ConfigError, match="overlap, drop, insert"):
        load_config(None, ["tracks.overlapp=0.1"])
