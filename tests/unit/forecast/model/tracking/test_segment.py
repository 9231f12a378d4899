"""Occupied cells go to the track that covers them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from forecast.model.tracking.segment import _largest_beside, segment
from forecast.model.tracking.tracks import Tracks
from forecast.types import map_tensors
from tests.support.sequences import sequences, some_tracks
from tests.support.stores import GRID, Mover

CARS = ((Mover(0.0, 0.0, 0.4, 4.0), Mover(8.0, 5.0, 2.0, 0.0)),)


def perfect(scene: tuple[tuple[Mover, ...], ...], label: int = 1) -> tuple[Tensor, Tensor, Tracks]:
    """Class and label map of a scene at its last frame, and tracks that know it exactly."""
    past = sequences(scene, history=3).crop(0, 3)
    assert past.track_state is not None
    state = past.track_state
    ids = torch.arange(1, state.shape[1] + 1)[None]
    score = torch.full((*ids.shape, 3), -5.0)
    score[..., label - 1] = 5.0
    tracks = replace(some_tracks(ids), pose=state[:, :, -1, :3], size=state[:, :, -1, 3:])
    return past.semantic[:, -1], past.instance[:, -1], replace(tracks, score=score)


def test_exact_boxes_give_back_the_label_map() -> None:
    semantic, instance, tracks = perfect(CARS)
    assert torch.equal(segment(semantic, tracks, GRID), instance)


def test_boxes_half_a_metre_off_still_collect_their_whole_agent() -> None:
    semantic, instance, tracks = perfect(CARS)
    off = replace(tracks, pose=tracks.pose + torch.tensor([0.5, -0.4, 0.2]), size=tracks.size * 0.8)
    assert torch.equal(segment(semantic, off, GRID), instance)


def test_agents_that_touch_are_divided_by_their_boxes() -> None:
    side_by_side = ((Mover(0.0, 0.0, 0.0, 0.0), Mover(0.0, 2.0, 0.0, 0.0)),)
    semantic, instance, tracks = perfect(side_by_side)
    assert torch.equal(segment(semantic, tracks, GRID), instance)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (12.0, -6.0)])
def test_a_lorry_taken_for_two_cars_goes_to_the_track_that_covers_more_of_it(
    x: float, y: float
) -> None:
    lorry = ((Mover(x, y, 0.3, 0.0, length=10.0, width=2.6),),)
    semantic, instance, _ = perfect(lorry)
    front, rear = Mover(x + 2.5, y + 0.8, 0.3, length=4.0), Mover(x - 2, y - 0.6, 0.3, length=5.0)
    _, _, cars = perfect(((front, rear),))
    assert torch.equal(segment(semantic, cars, GRID), 2 * instance)


def test_two_cars_in_a_row_stay_two() -> None:
    semantic, instance, tracks = perfect(
        ((Mover(2.5, 0.0, length=5.0), Mover(-2.5, 0.0, length=5.0)),)
    )
    assert torch.equal(segment(semantic, tracks, GRID), instance)


def test_what_is_longer_than_any_lorry_is_several() -> None:
    buses = ((Mover(6.0, 0.0, length=12.0, width=2.6), Mover(-6.0, 0.0, length=12.0, width=2.6)),)
    semantic, instance, tracks = perfect(buses)
    assert torch.equal(segment(semantic, tracks, GRID), instance)


def test_a_box_that_is_too_large_takes_no_neighbour_along() -> None:
    near = ((Mover(0.0, 0.0, 0.0, 0.0), Mover(0.0, 3.5, 0.0, 0.0)),)
    semantic, instance, tracks = perfect(near)
    large = replace(tracks, ids=torch.tensor([[1, 0]]), size=tracks.size * 4)
    assert torch.equal(segment(semantic, large, GRID) == 1, instance == 1)


def test_a_track_of_another_class_gets_no_cell() -> None:
    semantic, _, tracks = perfect(CARS, label=2)
    assert not segment(semantic, tracks, GRID).any()


def test_a_frame_that_the_tracker_missed_is_filled_from_where_the_agent_was_expected() -> None:
    semantic, instance, tracks = perfect(CARS)
    missed = torch.ones_like(tracks.missed)
    assert torch.equal(segment(semantic, replace(tracks, missed=missed), GRID), instance)


def test_every_sequence_of_a_batch_is_divided_by_its_own_tracks() -> None:
    semantic, instance, tracks = perfect(CARS)
    swapped = torch.tensor([0, 2, 1])[instance]
    both = map_tensors(tracks, lambda t: torch.cat((t, t)))
    both = replace(both, ids=torch.tensor([[1, 2], [2, 1]]))
    found = segment(torch.cat((semantic, semantic)), both, GRID)
    assert torch.equal(found, torch.cat((instance, swapped)))


def test_nobody_gets_no_cell() -> None:
    semantic, _, tracks = perfect(CARS)
    assert not segment(semantic, replace(tracks, ids=-tracks.ids), GRID).any()


def test_an_empty_slot_and_an_empty_raster_give_nothing() -> None:
    semantic, _, tracks = perfect(CARS)
    assert not segment(semantic, replace(tracks, ids=0 * tracks.ids), GRID).any()
    assert not segment(torch.zeros_like(semantic), tracks, GRID).any()


def test_the_largest_label_beside_a_cell_is_that_of_pooling_rows_and_columns() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 9, (2, 13, 17)) * (torch.rand(2, 13, 17) > 0.7)
    front = labels.float()
    pooled = torch.maximum(
        functional.max_pool2d(front, (3, 1), 1, (1, 0)),
        functional.max_pool2d(front, (1, 3), 1, (0, 1)),
    )
    empty = labels == 0  # others are never asked
    assert torch.equal(_largest_beside(labels.int())[empty], pooled.int()[empty])
