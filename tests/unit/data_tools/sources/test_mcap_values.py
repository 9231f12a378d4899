"""The mcap source: what no object and no ego can be never becomes a number in a store."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.sources.mcap import SIZELESS
from data_tools.sources.mcap_detected import UNDRAWN
from data_tools.sources.mcap_frames import ELSEWHERE
from forecast.errors import DataError
from tests.support import mcap_bags as bags
from tests.support.stores import Mover
from tests.unit.data_tools.sources.test_mcap import changed, read

NAN, INF = float("nan"), float("inf")
NORTH = Mover(110.0, 204.0, yaw=np.pi / 2, speed=5.0)
UNAVAILABLE = 0


def of_objects(change: Callable[[bags.Message], None], topic: str = bags.OBJECTS) -> Any:
    """A drive in which the first object of each message is changed."""
    entries = bags.drive() if topic == bags.OBJECTS else bags.detections(seconds=1.0)

    def changing(_: int, message: bags.Message) -> bags.Message:
        message = copy.deepcopy(message)
        change(message["objects"][0])
        return message

    return changed(entries, topic, changing)


def of_odometry(change: Callable[[bags.Message], None], entries: list[bags.Entry]) -> Any:
    """The same entries with the pose of the ego changed in each message."""

    def changing(_: int, message: bags.Message) -> bags.Message:
        message = copy.deepcopy(message)
        change(message["pose"]["pose"])
        return message

    return changed(entries, bags.EGO, changing)


@pytest.mark.parametrize("side", [0.0, 1e-300, 200.5, 1e3, 1e300, NAN, INF, -4.0])
def test_a_size_that_nothing_on_a_road_has_is_not_known(tmp_path: Path, side: float) -> None:
    for shape in (bags.box(side, side), bags.box(4.0, side)):
        made = read(tmp_path, of_objects(lambda one, shape=shape: one.update(shape=shape)))
        assert np.isnan(made.state[0, :, 3:]).all()
        assert made.notes[SIZELESS] == 51
        assert np.isfinite(made.state[1:]).all()


@pytest.mark.parametrize("side", [1e3, 1e300])
def test_a_detection_of_such_a_size_is_left_out(tmp_path: Path, side: float) -> None:
    entries = of_objects(lambda one: one.update(shape=bags.box(side, side)), bags.DETECTIONS)
    made = read(tmp_path, entries, objects=bags.DETECTIONS)
    assert made.notes[UNDRAWN] == len(made.time_s)
    assert 0 < (made.semantic > 0).mean() < 0.01


@pytest.mark.parametrize("x", [1e8, 1e12, 1e300, NAN])
@pytest.mark.parametrize("detected", [False, True])
def test_an_ego_that_is_not_on_earth_is_refused(tmp_path: Path, x: float, detected: bool) -> None:
    entries = bags.detections(seconds=1.0) if detected else bags.drive(seconds=1.0)
    settings = {"objects": bags.DETECTIONS} if detected else {}
    said = r"messages on /localization\S* that can be true; got .* at 1700000000\.0{9} s in .*"
    with pytest.raises(DataError, match=said + "mend what publishes it"):
        read(tmp_path, of_odometry(lambda at: at["position"].update(x=x), entries), **settings)


@pytest.mark.parametrize("x", [5e3, 1e6])
def test_an_ego_far_from_all_objects_is_said(tmp_path: Path, x: float) -> None:
    made = read(tmp_path, of_odometry(lambda at: at["position"].update(x=x), bags.drive()))
    far = {5e3: "4,8.. m", 1e6: "1,000 km"}[x]
    assert re.fullmatch(f"the nearest object is {far} from it", made.warnings[ELSEWHERE])
    entries = of_odometry(lambda at: at["position"].update(x=x), bags.detections(seconds=1.0))
    with pytest.raises(DataError, match=r"within 100 m of the ego; got none in .*, the nearest "):
        read(tmp_path, entries, objects=bags.DETECTIONS)


def test_odometry_of_two_frames_is_refused(tmp_path: Path) -> None:
    def other(number: int, message: bags.Message) -> bags.Message:
        return {**message, "child_frame_id": "imu_link"} if number == 40 else message

    with pytest.raises(DataError, match="one child_frame_id; got 'base_link' and 'imu_link' on /"):
        read(tmp_path, changed(bags.drive(), bags.EGO, other))


def footprint(points: Any) -> bags.Message:
    listed = [{"x": float(x), "y": float(y), "z": 0.0} for x, y in points]
    return {
        "type": 2,
        "footprint": {"points": listed},
        "dimensions": {"x": 0.0, "y": 0.0, "z": 1.0},
    }


def rectangle(length: float, width: float, ahead: float = 0.0, yaw: float = 0.0) -> Any:
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * (length / 2, width / 2)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return (corners + np.array([ahead, 0.0])) @ np.array([[cos, sin], [-sin, cos]])


@pytest.mark.parametrize(
    ("shape", "turn", "ahead"),
    [
        pytest.param(bags.box(2.0, 4.0), 0.0, 0.0, id="box-across"),
        pytest.param(footprint(rectangle(2.0, 4.0)), 0.0, 0.0, id="across"),
        pytest.param(
            footprint(rectangle(4.0, 2.0, 3.0)), np.pi / 2, 3.0, id="placed-by-quaternion"
        ),
        pytest.param(footprint(rectangle(4.0, 2.0, 3.0, np.pi / 2)), None, 3.0, id="no-quaternion"),
        pytest.param(footprint(rectangle(4.0, 2.0, 0.0, 0.7)), np.pi / 2 - 0.7, 0.0, id="askew"),
    ],
)
def test_an_object_of_unknown_heading_is_long_where_it_moves(
    tmp_path: Path, shape: bags.Message, turn: float | None, ahead: float
) -> None:
    def turned(_: int, message: bags.Message) -> bags.Message:
        for one in message["objects"]:
            told = one["kinematics"]["pose_with_covariance"]["pose"]
            told["orientation"] = bags.pose(0.0, 0.0, turn or 0.0)["orientation"]
            if turn is None:
                told["orientation"]["w"] = 0.0
        return message

    entries = bags.drive((NORTH,), yaw_told=UNAVAILABLE, shape=shape)
    made = read(tmp_path, changed(entries, bags.OBJECTS, turned))
    expected = [110.0, 204.0 + ahead, np.pi / 2, 4.0, 2.0]
    np.testing.assert_allclose(made.state[0, 0], expected, atol=1e-5)


def test_a_footprint_on_a_line_has_no_size(tmp_path: Path) -> None:
    shape = footprint([(-1.0, -1.0), (0.0, 0.0), (2.0, 2.0)])
    made = read(tmp_path, bags.drive((NORTH,), yaw_told=UNAVAILABLE, shape=shape))
    assert np.isnan(made.state[0, :, 3:]).all()


@pytest.mark.parametrize("wrong", [NAN, -1.0, INF])
@pytest.mark.parametrize("first", [True, False])
def test_a_class_probability_that_is_none_is_refused(
    tmp_path: Path, wrong: float, first: bool
) -> None:
    said = [{"label": bags.CAR, "probability": wrong}, {"label": 7, "probability": 0.9}]
    said = said if first else said[::-1]
    with pytest.raises(DataError, match=f"got a class probability of {wrong:g} at "):
        read(tmp_path, of_objects(lambda one: one.update(classification=said)))


@pytest.mark.parametrize("wrong", [NAN, -0.1, 1.1])
def test_an_existence_that_is_none_is_not_called_damage(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(DataError, match=r"existence probability of .*publishes it") as caught:
        read(tmp_path, of_objects(lambda one: one.update(existence_probability=wrong)))
    assert "recover" not in str(caught.value)


def test_an_ego_without_a_heading_is_not_called_damage(tmp_path: Path) -> None:
    nothing = dict.fromkeys("xyzw", 0.0)
    with pytest.raises(DataError, match=r"a pose .* without a heading at .*publishes") as caught:
        read(tmp_path, of_odometry(lambda at: at.update(orientation=nothing), bags.drive()))
    assert "recover" not in str(caught.value)


@pytest.mark.parametrize("count", [255, 256])
def test_labels_that_rasters_cannot_hold_are_refused(tmp_path: Path, count: int) -> None:
    def many(_: int, message: bags.Message) -> bags.Message:
        x, y, yaw = bags.EGO_CAR.state(np.array([0.5]))[0, :3]
        things = [
            bags.thing((x + 2.0 * (n % 16), y + 2.0 * (n // 16), yaw, 1.0, 1.0), n, n)
            for n in range(count)
        ]
        return {**message, "objects": things}

    entries = changed(bags.detections(seconds=1.0), bags.DETECTIONS, many)
    if count > 255:
        with pytest.raises(DataError, match="255 labels at most; got 256 in "):
            read(tmp_path, entries, objects=bags.DETECTIONS)
        return
    made = read(tmp_path, entries, objects=bags.DETECTIONS)
    assert set(np.unique(made.semantic)) == set(range(256))


def test_frames_begin_at_the_first_object_and_end_with_the_last(tmp_path: Path) -> None:
    def emptied(number: int, message: bags.Message) -> bags.Message:
        return message if 10 <= number <= 40 else {**message, "objects": []}

    made = read(tmp_path, changed(bags.drive(), bags.OBJECTS, emptied))
    np.testing.assert_allclose(made.time_s[[0, -1]], bags.START_S + np.array([1.0, 4.0]), atol=1e-6)
