"""Boxes that overlap, against polygons and against many points."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from forecast.evaluation.boxes import box_iou, corners, overlaps_another


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
        polygons = shapely.polygons(corners(frame))
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


def test_the_shared_part_is_that_of_points_in_both() -> None:
    first, off = boxes(1, 20, 1.0), boxes(2, 20, 1.0) * (0.5, 0.5, 0.1, 0, 0)
    second = first + off
    x, y = np.meshgrid(np.arange(-5, 5, 0.025), np.arange(-5, 5, 0.025))

    def inside(box: NDArray[np.float64]) -> NDArray[np.bool_]:
        cos, sin = np.cos(box[2]), np.sin(box[2])
        ahead = cos * (x - box[0]) + sin * (y - box[1])
        aside = cos * (y - box[1]) - sin * (x - box[0])
        return (abs(ahead) <= box[3] / 2) & (abs(aside) <= box[4] / 2)

    expected = [
        (inside(a) & inside(b)).sum() / (inside(a) | inside(b)).sum()
        for a, b in zip(first, second, strict=True)
    ]
    assert min(expected) < 0.3 < 0.5 < max(expected)
    assert box_iou(first, second) == pytest.approx(expected, abs=0.02)
    assert box_iou(first, first) == pytest.approx(np.ones(20))
