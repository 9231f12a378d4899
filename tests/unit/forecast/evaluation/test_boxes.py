"""Boxes that overlap, against polygons and against many points."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from data_tools.geometry import box_corners
from forecast.evaluation.boxes import box_iou, overlaps_another


def boxes(seed: int, count: int, side: float = 12.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [
            rng.uniform(-side, side, (count, 2)),
            rng.uniform(-7, 7, count),
            rng.uniform(0.5, 6, count),
            rng.uniform(0.4, 2.5, count),
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_who_overlaps_whom_is_what_polygons_say(seed: int) -> None:
    frames = np.stack([boxes(10 * seed + k, 25) for k in range(4)])
    found = overlaps_another(frames)
    for frame, told in zip(frames, found, strict=True):
        polygons = shapely.polygons(box_corners(frame))
        shared = shapely.area(shapely.intersection(polygons[:, None], polygons[None]))
        np.fill_diagonal(shared, 0.0)
        assert told.tolist() == (shared > 1e-9).any(axis=1).tolist()
    assert found.any()
    assert not found.all()


def test_boxes_that_touch_do_not_overlap_and_unknown_ones_overlap_none() -> None:
    car = [0.0, 0.0, 0.0, 4.0, 2.0]
    ahead, inside = [4.0, 0.0, 0.0, 4.0, 2.0], [1.0, 0.0, 0.3, 1.0, 1.0]
    assert overlaps_another(np.array([car, ahead])).tolist() == [False, False]
    assert overlaps_another(np.array([car, inside, ahead])).tolist() == [True, True, False]
    for place in range(5):
        unknown = np.array(inside)
        unknown[place] = np.nan
        assert not overlaps_another(np.array([car, unknown])).any()
        assert box_iou(np.array([car]), unknown[None]).tolist() == [0.0]
    assert overlaps_another(np.zeros((3, 0, 5))).shape == (3, 0)


@pytest.mark.parametrize("kind", ["any", "near", "turned alike", "the same"])
def test_the_shared_part_is_that_of_polygons(kind: str) -> None:
    first = boxes(1, 200, 2.0)
    off = {
        "any": boxes(2, 200, 2.0) - first,
        "near": boxes(2, 200, 1.0) * (0.3, 0.3, 0.02, 0.05, 0.05),
        "turned alike": boxes(2, 200, 1.0) * (1, 1, 0, 0, 0),
        "the same": np.zeros((200, 5)),
    }[kind]
    second = first + off
    one, other = (shapely.polygons(box_corners(some)) for some in (first, second))
    shared = shapely.area(shapely.intersection(one, other))
    expected = shared / (shapely.area(one) + shapely.area(other) - shared)
    assert expected.max() > 0.3
    assert box_iou(first, second) == pytest.approx(expected, abs=1e-5)
    halves = first * (1, 1, 1, 0.5, 1)
    assert box_iou(first, halves) == pytest.approx(np.full(200, 0.5), abs=1e-5)
