"""Our fill against OpenCV's, where that is installed, and by hand where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.geometry import box_corners
from data_tools.labels.fill import fill_polygons

SHAPE = (37, 53)


def filled(corners):
    picture = np.zeros(SHAPE, np.uint8)
    _, row, column = fill_polygons(np.array([corners], np.int64), SHAPE)
    picture[row, column] = 1
    return picture


def random_boxes(count, margin):
    """Boxes from smaller than a pixel to half the picture, corners rounded to pixels."""
    rng = np.random.default_rng(7)
    place = rng.uniform([-margin, -margin], np.array(SHAPE[::-1]) + margin, (count, 2))
    rest = rng.uniform([-4.0, 0.3, 0.3], [4.0, 24.0, 8.0], (count, 3))
    return np.rint(box_corners(np.concatenate([place, rest], axis=1))).astype(np.int64)


def on_the_picture(corners):
    return ((corners >= 0) & (corners < SHAPE[::-1])).all(axis=(-1, -2))


def version_of(cv2):
    return tuple(int(part) for part in cv2.__version__.split(".")[:2])


def test_both_ends_of_rows_and_columns_are_painted():
    expected = np.zeros(SHAPE, np.uint8)
    expected[3:8, 10:20] = 1  # corners 10 to 19 and 3 to 7: ten by five, not nine by four
    np.testing.assert_array_equal(filled([(10, 3), (19, 3), (19, 7), (10, 7)]), expected)


def test_a_polygon_of_one_pixel_paints_it():
    assert filled([(5, 6)] * 4).sum() == 1 == filled([(5, 6)] * 4)[6, 5]


def test_the_edge_is_painted_too():
    # A diamond: rows of 1, 3, 5, 3, 1 pixels.
    diamond = filled([(10, 8), (12, 10), (10, 12), (8, 10)])
    np.testing.assert_array_equal(diamond[8:13].sum(axis=1), [1, 3, 5, 3, 1])


def test_polygons_off_the_picture_paint_nothing_and_far_corners_cost_nothing():
    assert not filled([(-9, -9), (-5, -9), (-5, -5), (-9, -5)]).any()
    assert not filled([(60, 3), (70, 3), (70, 9), (60, 9)]).any()
    far = 10**8
    assert filled([(-far, -far), (far, -far), (far, far), (-far, far)]).all()


def test_where_corners_start_and_which_way_they_turn_does_not_matter():
    for corners in random_boxes(200, margin=10):
        picture = filled(corners)
        np.testing.assert_array_equal(filled(np.roll(corners, 1, axis=0)), picture)
        np.testing.assert_array_equal(filled(corners[::-1]), picture)


def test_polygons_come_in_their_order():
    polygon, _, _ = fill_polygons(random_boxes(50, margin=0), SHAPE)
    assert (np.diff(polygon) >= 0).all()


@pytest.mark.parametrize("inside", [True, False])
def test_pixels_are_those_of_opencv(inside):
    cv2 = pytest.importorskip("cv2")
    version = version_of(cv2)
    if (4, 8) <= version <= (4, 10) or (not inside and version > (4, 7)):
        pytest.skip(f"OpenCV {cv2.__version__} fills otherwise than those who published")
    boxes = random_boxes(3000, margin=10)
    boxes = boxes[on_the_picture(boxes) == inside]
    assert len(boxes) > 500
    for corners in boxes:
        expected = np.zeros(SHAPE)
        cv2.fillPoly(expected, [corners.astype(np.int32)], 1.0)
        np.testing.assert_array_equal(filled(corners), expected)
