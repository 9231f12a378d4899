"""The mcap source: a scene says what the bag says, and bags that are not as they should be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.formats.lanelet2 import Projection
from data_tools.formats.ros_messages import ODOMETRY, PREDICTED, TRACKED, definition
from data_tools.geometry import poses_to_frame
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.scene import DenseScene, Scene
from data_tools.sources import source
from data_tools.sources.mcap import SHAPES, TURNED, Mcap
from data_tools.sources.mcap_frames import NOWHERE, UNPLACED
from data_tools.sources.mcap_objects import LATE, TWICE
from forecast.errors import ConfigError, DataError
from forecast.storage.stores import lacks_ids, open_sequence_store
from tests.support import mcap_bags as bags
from tests.support.lanelets import Map
from tests.support.recordings import assert_read_from_elsewhere
from tests.support.scenarios import write as write_json
from tests.support.stores import GRID, Mover, draw

FRAMES = np.arange(11) * 0.5
SAMPLES = np.arange(51) * 0.1
TRUTH = bags.states(bags.MOVERS, FRAMES)
ONE = (Mover(110.0, 204.0, yaw=0.6, speed=6.0),)
HALF_TURN = np.pi


def read(path: Path, entries: list[bags.Entry], **settings: str) -> Any:
    return Mcap(**settings).read(bags.write_bag(path / "a.mcap", entries), 0.5)


def changed(
    entries: list[bags.Entry], topic: str, change: Callable[[int, bags.Message], bags.Message]
) -> list[bags.Entry]:
    """The same with each message of a topic replaced by what ``change`` makes of it."""
    numbers = iter(range(len(entries)))
    return [
        (on, kind, change(next(numbers), message) if on == topic else message)
        for on, kind, message in entries
    ]


def test_a_scene_has_the_objects_of_the_bag_at_their_stamps(tmp_path: Path) -> None:
    made = read(tmp_path, bags.drive())
    assert isinstance(made, Scene)
    assert made.name == "a"
    assert made.track_id == tuple(map(bags.name_of, range(4)))
    assert made.track_class == ("CAR", "PEDESTRIAN", "BICYCLE", "CAR")
    np.testing.assert_allclose(made.time_s, bags.START_S + FRAMES, atol=1e-6)
    np.testing.assert_allclose(made.state, TRUTH, atol=1e-6)
    np.testing.assert_allclose(made.ego_pose, bags.EGO_CAR.state(FRAMES)[:, :3], atol=1e-6)
    assert made.score is not None
    assert (made.score == 0.75).all()
    assert made.observed is not None
    np.testing.assert_allclose(made.observed.time_s, bags.START_S + SAMPLES, atol=1e-6)
    np.testing.assert_allclose(made.observed.state, bags.states(bags.MOVERS, SAMPLES), atol=1e-6)
    assert not made.warnings


@pytest.mark.parametrize("packing", ["zstd", "lz4", "none", "unindexed"])
def test_it_does_not_matter_how_a_bag_is_packed(tmp_path: Path, packing: str) -> None:
    from mcap.writer import CompressionType

    kind = {"lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}.get(packing)
    path = bags.write_bag(
        tmp_path / "a.mcap", bags.drive(), compression=kind or CompressionType.NONE, chunk_size=9000
    )
    if packing == "unindexed":
        bags.without_index(Path(path))
    np.testing.assert_allclose(Mcap().read(path, 0.5).state, TRUTH, atol=1e-6)


def test_stamps_count_and_not_the_order_of_recording(tmp_path: Path) -> None:
    entries = bags.drive()
    shuffled = [*entries[1::2], *entries[::2], entries[0]]  # and one twice
    made = read(tmp_path, shuffled)
    np.testing.assert_allclose(made.state, TRUTH, atol=1e-6)
    assert made.notes[LATE] >= 1
    assert made.notes[TWICE] == 1


def test_an_agent_is_absent_where_the_tracker_did_not_see_it(tmp_path: Path) -> None:
    def without(_: int, message: bags.Message) -> bags.Message:
        seconds = bags.stamp_ns(message) / 1e9 - bags.START_S
        hidden = 1.45 < seconds < 3.05
        return {**message, "objects": message["objects"][hidden:]}

    made = read(tmp_path, changed(bags.drive(), bags.OBJECTS, without))
    seen = np.isfinite(made.state[..., 0])
    assert seen[1:].all()
    np.testing.assert_array_equal(seen[0], (FRAMES < 1.45) | (FRAMES > 3.05))
    assert np.isnan(made.score[0][~seen[0]]).all()


def test_objects_in_the_frame_of_the_ego_are_moved_by_the_odometry(tmp_path: Path) -> None:
    entries = []
    for on, kind, message in bags.drive():
        if on == bags.OBJECTS:
            at = np.array([bags.stamp_ns(message) / 1e9 - bags.START_S])
            x, y, yaw = bags.EGO_CAR.state(at)[0, :3]
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            boxes = bags.states(bags.MOVERS, at)[:, 0]
            boxes[:, :2] = (boxes[:, :2] - (x, y)) @ turn.T
            boxes[:, 2] -= yaw
            things = [bags.thing(box, number) for number, box in enumerate(boxes)]
            message = bags.objects(float(at[0]), things, frame="base_link")
        entries.append((on, kind, message))
    made = read(tmp_path, entries)
    np.testing.assert_allclose(made.state, TRUTH, atol=1e-5)
    late = [e for e in entries if e[0] == bags.OBJECTS or bags.stamp_ns(e[2]) % 10**9 == 0]
    assert read(tmp_path, late[5:]).notes[UNPLACED] > 0


def test_a_cylinder_and_a_polygon_have_the_box_around_them(tmp_path: Path) -> None:
    points = [(-1.0, -0.5), (3.0, -0.5), (3.0, 0.5), (-1.0, 0.7)]
    footprint = {"points": [{"x": x, "y": y, "z": 0.0} for x, y in points]}
    polygon = {"type": 2, "footprint": footprint, "dimensions": {"x": 0.0, "y": 0.0, "z": 1.0}}
    cylinder = {"type": 1, "dimensions": {"x": 0.6, "y": 0.0, "z": 1.8}}
    stands = (Mover(110.0, 204.0, yaw=np.pi / 2),)
    made = read(tmp_path, bags.drive(stands, shape=polygon))
    # 1 m ahead of its own place and 0.1 m to its left, and it faces along y.
    np.testing.assert_allclose(made.state[0, 0], [109.9, 205.0, np.pi / 2, 4.0, 1.2], atol=1e-5)
    assert made.notes[SHAPES] == 51
    made = read(tmp_path, bags.drive(stands, shape=cylinder))
    np.testing.assert_allclose(made.state[0, 0, 3:], [0.6, 0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("yaw_told", "forward", "off"),
    [(0, 0.0, 2.0), (1, -6.0, HALF_TURN), (1, 6.0, 0.0), (2, -6.0, 0.0)],
)
def test_headings_that_are_not_sure_come_from_motion(
    tmp_path: Path, yaw_told: int, forward: float, off: float
) -> None:
    def turned(_: int, message: bags.Message) -> bags.Message:
        for one in message["objects"]:
            told = one["kinematics"]["pose_with_covariance"]["pose"]
            told["orientation"] = bags.pose(0.0, 0.0, ONE[0].yaw + off)["orientation"]
        return message

    entries = bags.drive(ONE, yaw_told=yaw_told, forward=forward)
    made = read(tmp_path, changed(entries, bags.OBJECTS, turned))
    np.testing.assert_allclose(made.state[0, :, 2], ONE[0].yaw, atol=0.02)
    assert made.notes[TURNED] == (yaw_told == 1)


def test_a_topic_is_the_usual_the_only_or_the_chosen_one(tmp_path: Path) -> None:
    other = [("/other", kind, message) for on, kind, message in bags.drive(ONE) if kind == TRACKED]
    assert len(read(tmp_path, bags.drive() + other).track_id) == 4
    assert len(read(tmp_path, bags.drive() + other, objects="/other").track_id) == 1
    ego = [entry for entry in bags.drive() if entry[0] == bags.EGO]
    assert len(read(tmp_path, ego + other).track_id) == 1
    third = [("/third", kind, message) for _, kind, message in other]
    with pytest.raises(DataError, match=r"one topic of TrackedObjects; got /other, /third in .*"):
        read(tmp_path, ego + other + third)


def test_detections_become_rasters_without_ids(tmp_path: Path) -> None:
    made = read(tmp_path, bags.detections(), objects=bags.DETECTIONS)
    assert isinstance(made, DenseScene)
    assert made.native == ("BICYCLE", "CAR", "PEDESTRIAN")
    assert made.instance is None
    store = str(tmp_path / "out.zarr")
    options = PrepareOptions(grid=GRID, settings=(("objects", bags.DETECTIONS),))
    prepare("mcap", [str(tmp_path / "a.mcap")], store, options)
    data, meta = open_sequence_store(store)
    assert lacks_ids(data, meta)
    now = bags.EGO_CAR.state(np.ones(1))[0, :3]
    boxes = poses_to_frame(bags.states(bags.MOVERS, np.ones(1))[:, 0], now)
    drawn = data["semantic"].values[0, meta.history - 1]
    label = np.array([0, *(mover.label for mover in bags.MOVERS)])
    np.testing.assert_array_equal(drawn, label[draw(GRID, boxes)])
    np.testing.assert_allclose(data["init_time"][0], bags.START_S + 1.0)


@pytest.mark.parametrize("near", [0, 1])
def test_detections_without_odometry_near_them_are_refused(tmp_path: Path, near: int) -> None:
    entries = [
        (on, kind, message)
        for on, kind, message in bags.detections(seconds=1.0)
        if on == bags.DETECTIONS or bags.stamp_ns(message) < (bags.START_S + near * 0.06) * 10**9
    ]
    alone = bags.odometry(500.0, POSE)
    said = f"two messages or more; got {near} in .*, {11 - near} more had no odometry near them"
    with pytest.raises(DataError, match=said):
        read(tmp_path, [*entries, (bags.EGO, ODOMETRY, alone)], objects=bags.DETECTIONS)


def test_sequences_have_the_scores_and_times_of_the_bag(tmp_path: Path) -> None:
    bags.write_bag(tmp_path / "a.mcap", bags.drive())
    report = prepare("mcap", [str(tmp_path)], str(tmp_path / "o.zarr"), PrepareOptions(grid=GRID))
    assert report.sequences == 3
    data, meta = open_sequence_store(str(tmp_path / "o.zarr"))
    assert meta.source == "mcap"
    np.testing.assert_allclose(data["init_time"], bags.START_S + 1.0 + np.arange(3) * 0.5)
    seen = np.isfinite(data["track_state"].values[..., 0])
    assert (data["track_score"].values[seen] == 0.75).all()
    assert set(np.unique(data["track_class"])) >= {1, 2, 3}
    assert report.notes["agents CAR, kept as vehicle"] == 2


def test_the_map_beside_a_bag_is_read(tmp_path: Path) -> None:
    line = {"type": "LineString", "coordinates": [[100.0, 200.0], [130.0, 216.0]]}
    feature = {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": line}
    content = {"type": "FeatureCollection", "features": [feature]}
    write_json(tmp_path / "a.mcap.geojson", content)
    made = read(tmp_path, bags.drive())
    assert [element.layer for element in made.map] == ["lane_centre"]
    assert not made.warnings


@pytest.mark.parametrize("name", ["a.osm", "lanelet2_map.osm"])
def test_a_lanelet2_map_begins_in_the_corner_of_its_mgrs_square(tmp_path: Path, name: str) -> None:
    square = Projection(32654, (300_000.0, 3_900_000.0))
    made = Map(square)
    left, right = ([(60_080.0, y), (60_140.0, y)] for y in (70_202.0, 70_198.0))
    made.lanelet(left, right, subtype="road")
    made.write(tmp_path / name)
    scene = read(tmp_path, bags.drive())
    (lane,) = [element for element in scene.map if element.layer == "lane_centre"]
    ends = [(60_080.0, 70_200.0), (60_140.0, 70_200.0)]
    np.testing.assert_allclose(lane.points[[0, -1]], ends, atol=1e-4)
    away = read(tmp_path, bags.drive(), origin="35.2,139.0")
    (lane,) = [element for element in away.map if element.layer == "lane_centre"]
    assert abs(lane.points[0, 0] - 60_080.0) > 1000.0
    with pytest.raises(DataError, match="origin=LATITUDE,LONGITUDE; got 'tokyo'"):
        read(tmp_path, bags.drive(), origin="tokyo")


OLD = definition(TRACKED).replace("float32 existence_probability\n", "")
TWO = [bags.thing(TRUTH[0, 0], 1), bags.thing(TRUTH[1, 0], 1)]
POSE = bags.EGO_CAR.state(np.zeros(1))[0]
UNKNOWN = "shape_msgs/msg/Mesh"


def only(*topics: str) -> list[bags.Entry]:
    return [entry for entry in bags.drive(seconds=1.0) if entry[0] in topics]


def all_in(frame: str) -> list[bags.Entry]:
    def framed(_: int, message: bags.Message) -> bags.Message:
        return {**message, "header": {**message["header"], "frame_id": frame}}

    return changed(bags.drive(seconds=1.0), bags.OBJECTS, framed)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        pytest.param(
            only(bags.OBJECTS), r"a topic of Odometry; got \S*TrackedObjects in ", id="ego"
        ),
        pytest.param(
            only(bags.EGO), r"a topic of TrackedObjects; got \S*Odometry in ", id="objects"
        ),
        pytest.param(
            [("/forecast/objects", PREDICTED, bags.objects(0.0, []))],
            r"a bag of what a stack recorded; got \S*, a bag of forecasts such as",
            id="forecasts",
        ),
        pytest.param([], "a topic of Odometry; got no messages in ", id="nothing"),
        pytest.param(
            bags.detections(seconds=1.0), f"add --set objects={bags.DETECTIONS}", id="detected"
        ),
        pytest.param(
            all_in("odom"),
            r"objects in the frame of the odometry, 'map' or 'base_link'; got objects in 'odom'",
            id="third-frame",
        ),
        pytest.param(
            [*all_in("map"), (bags.OBJECTS, TRACKED, bags.objects(9.0, [], frame="odom"))],
            "one frame of reference; got 'map' and 'odom' on /perception",
            id="two-frames",
        ),
        pytest.param(
            [*all_in("map"), (bags.EGO, ODOMETRY, bags.odometry(0.0, (1.0, 2.0, 0.0)))],
            "one message a time; got two different ones at 1700000000.0",
            id="two-egos",
        ),
        pytest.param(
            [*all_in("map"), (bags.OBJECTS, TRACKED, bags.objects(9.0, TWO))],
            f"got two objects {bags.name_of(1)} in a message at 1700000009.0{{9}} s in .*mend",
            id="one-id-twice",
        ),
        pytest.param(
            [*all_in("map"), (bags.OBJECTS, TRACKED, bags.objects(90_000.0, TWO[:1]))],
            "a bag of a day at most; got 90000 s",
            id="two-days",
        ),
    ],
)
def test_what_a_bag_lacks_is_said_in_one_line(
    tmp_path: Path, entries: list[bags.Entry], said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, entries)
    assert str(tmp_path / "a.mcap") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_messages_of_other_fields_are_refused_and_not_misread(tmp_path: Path) -> None:
    entries = bags.drive(seconds=1.0)
    path = bags.write_bag(tmp_path / "a.mcap", entries, {TRACKED: OLD})
    with pytest.raises(DataError, match=r"as published; got autoware_perception_msgs/TrackedObj"):
        Mcap().read(path, 0.5)


def test_messages_of_an_unknown_type_are_let_be_unless_asked_for(tmp_path: Path) -> None:
    entries = [*bags.drive(), ("/mesh", UNKNOWN, {"header": bags.header(0.0), "points": 3})]
    text = "std_msgs/Header header\nuint32 points\n" + definition(ODOMETRY).partition("twist\n")[2]
    path = bags.write_bag(tmp_path / "a.mcap", entries, {UNKNOWN: text})
    assert len(Mcap().read(path, 0.5).track_id) == 4
    with pytest.raises(DataError, match=f"DetectedObjects on /mesh; got {UNKNOWN} in .*--set obj"):
        Mcap(objects="/mesh").read(path, 0.5)
    with pytest.raises(DataError, match="on /gone; got no such topic in"):
        Mcap(odometry="/gone").read(path, 0.5)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_a_bag_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = Path(bags.write_bag(tmp_path / "a.mcap", bags.drive(seconds=2.0), chunk_size=2000))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"got {path}.*mcap recover"):
        Mcap().read(str(path), 0.5)
    without = Path(bags.write_bag(path, bags.drive(seconds=2.0)))
    bags.without_index(without)
    without.write_bytes(without.read_bytes()[: int(share * without.stat().st_size)])
    with pytest.raises(DataError, match=rf"got {path}.*mcap recover"):
        Mcap().read(str(path), 0.5)


def test_a_changed_byte_of_a_chunk_is_noticed(tmp_path: Path) -> None:
    from mcap.writer import CompressionType

    path = Path(bags.write_bag(tmp_path / "a.mcap", bags.drive(), compression=CompressionType.NONE))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged .crc validation failed in Chunk"):
        Mcap().read(str(path), 0.5)


def test_places_that_are_none_are_left_out_and_counted(tmp_path: Path) -> None:
    def astray(number: int, message: bags.Message) -> bags.Message:
        if number == 5:
            place = message["objects"][0]["kinematics"]["pose_with_covariance"]["pose"]["position"]
            place["x"] = float("nan")
        return message

    made = read(tmp_path, changed(bags.drive(), bags.OBJECTS, astray))
    assert made.notes[NOWHERE] == 1
    np.testing.assert_allclose(made.state, TRUTH, atol=1e-6)


def test_bags_are_found_and_read_from_elsewhere(tmp_path: Path) -> None:
    bags.write_bag(tmp_path / "a.mcap", bags.drive(seconds=1.0))
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information:\n")
    assert source("mcap").find([str(tmp_path)]) == [str(tmp_path / "a.mcap")]
    assert_read_from_elsewhere(Mcap(), tmp_path)


def test_without_the_packages_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags.write_bag(tmp_path / "a.mcap", bags.drive(seconds=1.0))
    monkeypatch.setattr(sys, "path", [])
    for name in ("mcap", "mcap_ros2"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'bev-forecast\[ros\]'"):
        Mcap().find([str(tmp_path)])
