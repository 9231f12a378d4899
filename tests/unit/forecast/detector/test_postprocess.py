"""Segments, label maps and masks from logits, against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.detector.postprocess import (
    instance_masks,
    label_maps,
    panoptic,
    scores_and_labels,
)

STUFF = {0, 1}


def plain_panoptic(
    scores: list[float], labels: list[int], masks: np.ndarray, keep: float, smallest: int
) -> np.ndarray:
    """Sets of queries that own each cell, by the definition: merge, drop, start again."""
    alive = [query for query, score in enumerate(scores) if score > keep]
    height, width = masks.shape[1:]
    while True:
        owner = np.full((height, width), -1)
        for y in range(height):
            for x in range(width):
                for query in alive:
                    best = owner[y, x]
                    if best < 0 or masks[query, y, x] > masks[best, y, x]:
                        owner[y, x] = query
        for y, x in np.ndindex(height, width):
            query = owner[y, x]
            if query >= 0 and labels[query] in STUFF:
                owner[y, x] = next(q for q in alive if labels[q] == labels[query])
        areas = {query: int((owner == query).sum()) for query in alive}
        firsts = {q: next(p for p in alive if p == q or labels[p] == labels[q]) for q in alive}
        names = {q: firsts[q] if labels[q] in STUFF else q for q in alive}
        left = [query for query in alive if areas[names[query]] > smallest]
        if left == alive:
            return owner
        alive = left


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.integers(0, 12))
def test_a_panoptic_map_follows_its_definition(seed: int, queries: int, smallest: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn(queries, 6, 7, generator=generator) * 3
    scores = torch.rand(queries, generator=generator)
    labels = torch.randint(0, 4, (queries,), generator=generator)
    got = panoptic(scores, labels, masks, STUFF, keep=0.3, smallest=smallest)
    owner = plain_panoptic(scores.tolist(), labels.tolist(), masks.numpy(), 0.3, smallest)
    first = np.array([-1, *(segment.queries[0] for segment in got.segments)])
    np.testing.assert_array_equal(first[got.ids.numpy()], owner)
    for segment in got.segments:
        mine = got.ids == segment.id
        assert segment.area == int(mine.sum()) > smallest
        assert bool((got.classes[mine] == segment.label).all())
        assert segment.score == pytest.approx(float(scores[list(segment.queries)].max()))
        assert len(segment.queries) == 1 or segment.label in STUFF
    assert bool((got.classes[got.ids == 0] == -1).all())


def test_masks_of_a_stuff_class_stay_merged_when_others_are_dropped() -> None:
    # Left and right halves of one road, and a speck of a car on the left half.
    masks = torch.full((3, 4, 6), -5.0)
    masks[0, :, :3] = masks[1, :, 3:] = 2.0
    masks[2, 0, 0] = 5.0
    scores, labels = torch.full((3,), 0.9), torch.tensor([0, 0, 2])
    got = panoptic(scores, labels, masks, stuff={0})
    assert [(s.label, s.area, s.queries) for s in got.segments] == [(0, 24, (0, 1))]
    things = panoptic(scores, labels, masks)
    assert [segment.area for segment in things.segments] == [12, 12]


def test_frames_without_a_sure_query_are_empty() -> None:
    scores, labels = torch.tensor([0.2, 0.5]), torch.tensor([0, 1])
    masks = torch.randn(2, 5, 6)
    got = panoptic(scores, labels, masks, size=(10, 12))
    assert got.segments == ()
    assert got.ids.shape == (10, 12)
    assert not got.ids.any()
    assert bool((got.classes == -1).all())
    maps = label_maps(scores, labels, masks, size=(10, 12))
    assert not maps.instance.any()
    assert not maps.semantic.any()


def test_label_maps_keep_ids_and_leave_background() -> None:
    masks = torch.full((3, 4, 6), -3.0)
    masks[0, :2, :2] = 2.0
    masks[1, :2, 1:4] = 4.0  # over a part of the first
    masks[2] = 9.0  # of a query that is not there
    scores, labels = torch.tensor([0.9, 0.8, 0.1]), torch.tensor([0, 4, 2])
    maps = label_maps(scores, labels, masks, ids=torch.tensor([17, 300, 5]))
    assert maps.instance[0].tolist() == [17, 300, 300, 300, 0, 0]
    assert maps.semantic[0].tolist() == [1, 5, 5, 5, 0, 0]
    assert not maps.instance[2:].any()
    numbered = label_maps(scores, labels, masks)
    assert numbered.instance[0].tolist() == [1, 2, 2, 2, 0, 0]


def test_masks_are_thresholded_after_resizing() -> None:
    masks = torch.tensor([[[-1.0, 3.0], [-1.0, 3.0]]])
    assert instance_masks(masks).tolist() == [[[False, True], [False, True]]]
    # Bilinear logits at the four columns: -1, 0, 2, 3.
    assert instance_masks(masks, (2, 4))[0, 0].tolist() == [False, False, True, True]
    assert instance_masks(masks, (2, 4), threshold=0.9)[0, 0].tolist() == [False] * 3 + [True]


def test_scores_know_both_kinds_of_class_heads() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    scores, labels = scores_and_labels(logits, no_object=True)
    assert labels[0] == 0
    assert scores[0] == pytest.approx(float(logits[0].softmax(0)[0]))
    assert scores[1] == 0
    scores, labels = scores_and_labels(logits, no_object=False)
    assert labels.tolist() == [0, 2]
    torch.testing.assert_close(scores, torch.tensor([2.0, 3.0]).sigmoid())
