"""The py123d source: Arrow logs in the layout of version 0.7.0."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from data_tools.classes import class_of
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from data_tools.sources.py123d import Py123D
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.fuzz import fuzzed
from tests.support.mutation import mutated
from tests.support.py123d import (
    CAR,
    EGO,
    FRAMES,
    START_US,
    VEHICLE,
    WALKER,
    box_rows,
    city,
    ego_rows,
    packed,
    times_us,
    write_log,
    write_map,
)
from tests.support.recordings import assert_read_from_elsewhere, assert_read_or_refused

SINCE_S = (times_us() - START_US) * 1e-6


def read(unit, dt_s=0.5):
    return Py123D().read(unit, dt_s)


def test_logs_are_found_by_their_boxes(tmp_path):
    units = [write_log(tmp_path, name=name) for name in "ab"]
    assert source("py123d").find([str(tmp_path)]) == units


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_agents_and_ego_have_the_poses_sizes_and_classes_of_the_tables(tmp_path, compression):
    made = read(write_log(tmp_path, compression=compression), 0.1)
    assert made.name == "a"
    assert made.track_id == ("car", "walker", "ego")
    assert made.track_class == ("NuPlan.VEHICLE", "NuPlan.PEDESTRIAN", "Default.EGO")
    np.testing.assert_allclose(made.time_s, 0.1 * np.arange(FRAMES))
    for got, mover in zip(made.state, (CAR, WALKER), strict=False):
        np.testing.assert_allclose(got, mover.state(SINCE_S), atol=1e-9)
    truth = EGO.state(SINCE_S)
    np.testing.assert_allclose(made.ego_pose[:, :2], truth[:, :2], atol=1e-9)
    assert np.abs(wrap_angle(made.ego_pose[:, 2] - truth[:, 2])).max() < 1e-9
    np.testing.assert_array_equal(made.state[2, :, :3], made.ego_pose)
    np.testing.assert_array_equal(made.state[2, :, 3:], np.tile([5.176, 2.297], (FRAMES, 1)))


def test_the_tables_say_the_same_to_another_reader(tmp_path):
    unit = write_log(tmp_path)
    made = read(unit, 0.1)
    rows = feather.read_table(unit).to_pylist()
    count = 0
    for frame, row in enumerate(rows):
        names = row["box_detections_se3.track_token"]
        for track, box in zip(names, row["box_detections_se3.bounding_box_se3"], strict=True):
            got = made.state[made.track_id.index(track), frame]
            assert [*got[:2], *got[3:]] == [*box[:2], *box[7:9]]
            assert got[2] == pytest.approx(2 * np.arctan2(box[6], box[3]), abs=1e-9)
            count += 1
    assert count == int(np.isfinite(made.state[:2, :, 0]).sum()) == 2 * FRAMES


def test_every_fifth_frame_is_kept_and_all_are_observed(tmp_path):
    made = read(write_log(tmp_path))
    np.testing.assert_allclose(made.time_s, np.arange(9) * 0.5)
    assert made.observed is not None
    assert made.observed.state.shape == (3, FRAMES, 5)


@pytest.mark.parametrize("step_us", [50_000, 100_000, 500_000])
def test_logs_have_a_rate_of_their_own(tmp_path, step_us):
    moments = times_us(step_us=step_us)
    made = read(write_log(tmp_path, box_rows(moments), ego_rows(moments)))
    assert made.observed is not None
    np.testing.assert_allclose(np.diff(made.observed.time_s), step_us * 1e-6)


def test_the_ego_at_another_rate_is_interpolated(tmp_path):
    moments = np.arange(START_US - 7_000, START_US + 4_500_000, 10_000)
    made = read(write_log(tmp_path, ego=ego_rows(moments)), 0.1)
    truth = EGO.state(SINCE_S)
    np.testing.assert_allclose(made.ego_pose[:, :2], truth[:, :2], atol=1e-4)
    assert np.abs(wrap_angle(made.ego_pose[:, 2] - truth[:, 2])).max() < 1e-6


def test_where_the_ego_is_not_known_it_is_absent(tmp_path):
    ego = ego_rows(times_us())
    made = read(write_log(tmp_path, ego=ego[:10] + ego[20:40]), 0.1)
    assert np.flatnonzero(np.isnan(made.ego_pose[:, 0])).tolist() == [
        *range(10, 20),
        *range(40, 45),
    ]
    assert made.notes["frames without a pose of the ego"] == 15
    assert np.isnan(made.state[2, 10:20]).all()


def test_frames_without_boxes_stay(tmp_path):
    boxes = box_rows(times_us())
    for row in boxes[:7]:
        row |= {name: [] for name in row if name != "timestamp_us"}
    made = read(write_log(tmp_path, boxes), 0.1)
    assert np.isnan(made.state[:2, :7]).all()
    assert np.isfinite(made.ego_pose).all()


def test_labels_of_a_list_that_is_not_known_are_named_by_number_and_counted(tmp_path):
    made = read(write_log(tmp_path, labels="my.NewBoxDetectionLabel"))
    assert made.track_class[:2] == ("New.0", "New.2")
    assert made.notes["boxes whose labels have no names"] == 2 * FRAMES


@pytest.mark.parametrize(
    ("native", "ours"),
    [
        ("AV2Sensor.BICYCLIST", "cyclist"),
        ("AV2Sensor.BICYCLE", "av2sensor.bicycle"),
        ("NuScenes.VEHICLE_TRAILER", "vehicle"),
        ("WODPerception.TYPE_CYCLIST", "cyclist"),
        ("PhysicalAIAV.AUTOMOBILE", "vehicle"),
        ("KITTI360.PERSON", "pedestrian"),
    ],
)
def test_labels_become_classes(native, ours):
    assert class_of("py123d", native) == ours


# Maps


def test_the_map_lies_in_the_log_or_serves_many(tmp_path):
    unit = write_log(tmp_path / "own")
    assert read(unit).notes["scenes without a map"] == 1
    write_map(Path(unit).with_name("map.arrow"))
    shared = write_log(tmp_path / "shared")
    write_map(tmp_path / "shared/maps/nuplan/nuplan_sg-one-north.arrow")
    elsewhere = write_log(tmp_path / "elsewhere")
    write_map(tmp_path / "m/nuplan/nuplan_sg-one-north.arrow")
    given = source("py123d", {"maps": f"{tmp_path}/m"})
    for made in (read(unit), read(shared), given.read(elsewhere, 0.5)):
        layers = Counter((element.layer, element.closed) for element in made.map)
        assert layers == {
            ("lane_centre", False): 2,
            ("drivable", True): 2,
            ("crosswalk", True): 1,
            ("road_edge", False): 1,
        }
        lane = next(e.points for e in made.map if e.layer == "lane_centre")
        np.testing.assert_array_equal(lane, [(470, 198), (500, 198), (530, 198)])
        drawn = [shapely.Polygon(e.points) for e in made.map if e.layer == "drivable"]
        assert shapely.union_all(drawn).area == 480 + 400
    with pytest.raises(DataError, match="correct --set maps"):
        source("py123d", {"maps": str(tmp_path)}).read(elsewhere, 0.5)


NOWHERE = packed([(np.nan, 0), (1, 1)])
LINE = {"lane_type": 2, "centerline": packed([(0, 0), (1, 1)])}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ((0, {}, shapely.box(0, 0, 1, 1)), "centerline"),
        ((0, b"\xc1", shapely.box(0, 0, 1, 1)), "a map of py123d"),
        ((0, LINE, b"\x01\x02"), "a map of py123d"),
        ((0, LINE | {"centerline": [1, 2]}, shapely.box(0, 0, 1, 1)), "a map of py123d"),
        ((0, {**LINE, "centerline": packed([1, 2])}, shapely.box(0, 0, 1, 1)), "a map of py123d"),
        ((3, {}, shapely.Point(0, 0)), "a Polygon; got Point"),
        ((8, {}, shapely.box(0, 0, 1, 1)), "a LineString; got Polygon"),
        ((3, {}, shapely.box(0, 0, 1e9, 1)), "coordinates of the map"),
        ((0, LINE | {"centerline": NOWHERE}, shapely.box(0, 0, 1, 1)), "not finite"),
    ],
)
def test_a_map_of_another_kind_is_refused(tmp_path, changed, message):
    unit = write_log(tmp_path)
    write_map(Path(unit).with_name("map.arrow"), [*city(), changed])
    with pytest.raises(DataError, match=message) as caught:
        read(unit)
    assert "map.arrow" in str(caught.value)


# Bad logs


def changed(row, **values):
    rows = box_rows(times_us())
    rows[row] = rows[row] | values
    return rows


BOX = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 4.0, 2.0, 1.5]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (changed(3, label=[0]), "a track and a label for every box"),
        (changed(3, label=[0, 7]), "labels of 0 to 6; got 7"),
        (changed(3, label=[0, None]), "values in every box"),
        (changed(3, track_token=["car", None]), "values in every box"),
        (changed(3, track_token=["car", "car"]), "ascending within a track"),
        (changed(3, label=None), "values in every row"),
        (changed(3, bounding_box_se3=[BOX, None]), "values in every box"),
        (changed(3, bounding_box_se3=[BOX, [np.nan] * 10]), "others in row 4"),
        (changed(3, bounding_box_se3=[BOX, [0.0] * 10]), "a quaternion"),
        (changed(3, timestamp_us=int(times_us()[2])), "ascending in time"),
        (changed(3, timestamp_us=None), "values in every row"),
        (changed(44, timestamp_us=2**62), "apart"),
        (box_rows(times_us())[:1], "frames up to 10 s apart"),
        ([], "frames up to 10 s apart|values"),
    ],
)
def test_boxes_of_another_kind_are_refused(tmp_path, boxes, message):
    unit = write_log(tmp_path, boxes)
    with pytest.raises(DataError, match=message) as caught:
        read(unit)
    assert "box_detections_se3.arrow" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": None}, "the name of the list of labels"),
        ({"labels": "x" * 5000}, "the name of the list of labels"),
        ({"vehicle": []}, "metadata"),
        ({"vehicle": {}}, "length"),
        ({"vehicle": VEHICLE | {"center_to_imu_se3": [0.0] * 6}}, "middle"),
        ({"vehicle": VEHICLE | {"center_to_imu_se3": [0.0] * 7}}, "a quaternion"),
        ({"vehicle": VEHICLE | {"width": "broad"}}, "middle"),
        ({"vehicle": VEHICLE | {"width": float("nan")}}, "finite size"),
        ({"ego": []}, "poses in the order of time"),
        ({"ego": ego_rows(times_us())[::-1]}, "poses in the order of time"),
        ({"ego": ego_rows(times_us() + 10**9)}, "the ego at the time of the boxes"),
    ],
)
def test_other_content_of_a_log_is_refused(tmp_path, settings, message):
    with pytest.raises(DataError, match=message) as caught:
        read(write_log(tmp_path, **settings))
    assert "_se3.arrow" in str(caught.value)


def test_a_missing_table_of_the_ego_is_named(tmp_path):
    unit = write_log(tmp_path)
    Path(unit).with_name("ego_state_se3.arrow").unlink()
    with pytest.raises(DataError, match=r"ego_state_se3\.arrow"):
        read(unit)


def test_logs_become_a_store_and_are_read_from_elsewhere(tmp_path):
    unit = write_log(tmp_path)
    write_map(Path(unit).with_name("map.arrow"))
    prepare("py123d", [str(tmp_path)], str(tmp_path / "out.zarr"), PrepareOptions())
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert sorted(store["track_class"].values[0].tolist()) == [1, 1, 2]
    assert_read_from_elsewhere(Py123D(), tmp_path / "logs")


@fuzzed
@given(st.integers(0, 2**32))
def test_any_damage_gives_a_scene_or_one_error(tmp_path, seed):
    chance = random.Random(seed)
    root = tmp_path / str(seed)
    unit = write_log(root)
    write_map(Path(unit).with_name("map.arrow"))
    victim = chance.choice(sorted(Path(unit).parent.iterdir()))
    victim.write_bytes(mutated(victim, chance))
    assert_read_or_refused(Py123D(), unit, str(root))
