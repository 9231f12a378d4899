"""The argoverse2-sensor source: boxes from the ego's frame to the city's, at the right moment."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather
from scipy.spatial.transform import Rotation

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources.argoverse2_map import read_map
from data_tools.sources.argoverse2_sensor import Argoverse2Sensor
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.argoverse2 import (
    CAR,
    EGO,
    FRAMES,
    START_NS,
    annotations,
    points,
    poses,
    times_ns,
    vector_map,
    write_log,
)
from tests.support.fuzz import damaged, documents, fuzzed
from tests.support.recordings import (
    assert_read_or_refused,
    heading_errors,
    lane_errors,
    needs,
    recording,
)
from tests.support.stores import Mover

RECORDINGS = recording("argoverse2_sensor")
real = needs("argoverse2_sensor")


def read(unit, dt_s=0.5):
    return Argoverse2Sensor().read(unit, dt_s)


def test_boxes_are_moved_from_the_ego_frame_of_their_moment_to_the_city(tmp_path):
    made = read(write_log(tmp_path / "log"), 0.1)
    assert made.name == "log"
    assert made.track_class == ("REGULAR_VEHICLE",)
    since_s = (times_ns() - START_NS) * 1e-9
    truth = CAR.state(since_s)
    np.testing.assert_allclose(made.state[0][:, [0, 1, 3, 4]], truth[:, [0, 1, 3, 4]], atol=1e-6)
    assert np.abs(wrap_angle(made.state[0, :, 2] - truth[:, 2])).max() < 1e-6
    np.testing.assert_allclose(made.ego_pose[:, :2], EGO.state(since_s)[:, :2], atol=1e-6)
    error = wrap_angle(made.ego_pose[:, 2] - EGO.state(since_s)[:, 2])
    assert np.abs(error).max() < 2e-3  # the tilt of the road turns the heading a little
    assert made.notes["ego without a box"] == 1


def test_every_fifth_frame_is_kept_at_half_a_second(tmp_path):
    made = read(write_log(tmp_path))
    np.testing.assert_allclose(made.time_s, np.arange(9) * 0.5)
    assert made.state.shape == (1, 9, 5)


def test_a_frame_that_is_missing_has_no_ego_and_no_agents(tmp_path):
    time_ns = np.delete(times_ns(), 20)
    boxes = annotations({"car": ("BUS", CAR)}, time_ns)
    made = read(write_log(tmp_path, boxes, poses(times_ns())), 0.1)
    assert len(made.time_s) == FRAMES
    assert np.flatnonzero(np.isnan(made.ego_pose[:, 0])).tolist() == [20]
    assert np.isnan(made.state[0, 20]).all()
    assert made.notes["frames without annotations"] == 1


def test_tracks_are_absent_where_they_were_not_annotated(tmp_path):
    time_ns = times_ns()
    late = annotations({"late": ("PEDESTRIAN", Mover(505, 205))}, time_ns[10:30])
    both = {k: v + late[k] for k, v in annotations({"car": ("BUS", CAR)}, time_ns).items()}
    made = read(write_log(tmp_path, both), 0.1)
    assert made.track_id == ("car", "late")
    seen = np.isfinite(made.state[1]).all(axis=-1)
    assert np.flatnonzero(seen).tolist() == list(range(10, 30))
    assert np.isnan(made.state[1][~seen]).all()


def test_the_map_has_lanes_in_their_direction_areas_their_outline_and_crossings(tmp_path):
    made = read(write_log(tmp_path))
    layers = Counter((element.layer, element.closed) for element in made.map)
    assert layers == {
        ("lane_centre", False): 2,
        ("drivable", True): 2,
        ("crosswalk", True): 1,
        ("road_edge", False): 1,
    }
    middle, bike = (element.points for element in made.map if element.layer == "lane_centre")
    np.testing.assert_allclose(middle[:, 1], 202.0)
    assert (np.diff(middle[:, 0]) > 0).all()
    np.testing.assert_array_equal(bike, [[540, 198], [500, 198]])
    (edge,) = (element.points for element in made.map if element.layer == "road_edge")
    # One outline around both areas: the side that they share is no edge.
    np.testing.assert_allclose([edge.min(axis=0), edge.max(axis=0)], [[500, 200], [540, 204]])
    assert not ((abs(edge[:, 0] - 520) < 1) & (abs(edge[:, 1] - 202) < 1)).any()
    crossing = next(e.points for e in made.map if e.layer == "crosswalk")
    np.testing.assert_array_equal(crossing, [[510, 200], [510, 204], [513, 204], [513, 200]])


def test_logs_are_found_once_with_the_ego_where_both_files_are_there(tmp_path):
    first = write_log(tmp_path / "a")
    second = write_log(tmp_path / "b")
    write_log(tmp_path / "b", name="annotations_with_ego.feather")
    found = Argoverse2Sensor().find([str(tmp_path)])
    assert found == [first, second.replace("annotations", "annotations_with_ego")]


def test_a_log_is_read_from_a_url_and_from_a_name_with_brackets(tmp_path):
    unit = write_log(tmp_path / "log [1]")
    assert read(f"file://{unit}").name == "log [1]"


def test_riders_are_cyclists_and_what_they_ride_is_not_counted_twice(tmp_path):
    agents = {
        "rider": ("BICYCLIST", CAR),
        "bike": ("BICYCLE", CAR),
        "cone": ("CONSTRUCTION_CONE", Mover(501, 201)),
    }
    write_log(tmp_path / "log", annotations(agents, times_ns()))
    out = str(tmp_path / "out.zarr")
    options = PrepareOptions(classes=("vehicle", "cyclist", "cone"))
    prepare("argoverse2-sensor", [str(tmp_path / "log")], out, options)
    dataset, _ = open_sequence_store(out)
    assert dataset["track_class"].values[0].tolist() == [2, 3]
    assert dataset.attrs["notes"]["agents BICYCLIST, kept as cyclist"] == 1
    assert dataset.attrs["notes"]["agents BICYCLE, left out"] == 1


# Bad input: one line that names the file, and the row or moment where there is one.


def changed(**columns):
    boxes = annotations({"car": ("BUS", CAR)}, times_ns())
    for name, change in columns.items():
        boxes[name] = change(list(boxes[name]))
    return boxes


def put(row, value):
    return lambda values: [*values[:row], value, *values[row + 1 :]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (changed(tx_m=put(3, np.nan)), r"row 4 of .*annotations\.feather"),
        (changed(length_m=put(3, np.inf)), r"row 4 of .*annotations\.feather"),
        (changed(track_uuid=put(3, None)), r"row 4 of .*annotations\.feather"),
        (changed(qw=put(3, 0), qx=put(3, 0), qy=put(3, 0), qz=put(3, 0)), "row 4 of"),
        (changed(qw=put(3, 1e308), qx=put(3, 1e308)), "row 4 of"),
        (changed(timestamp_ns=lambda t: [t[1], t[0], *t[2:]]), "ascending within a track"),
        (changed(timestamp_ns=lambda t: [t[1], *t[1:]]), "frame 0 of track car in row 2"),
        (changed(timestamp_ns=put(44, START_NS + 4_450_000_000)), r"s apart.*frame 44"),
        (changed(timestamp_ns=put(44, 2**62)), "s apart"),
        (changed(timestamp_ns=put(44, START_NS + 7_000_000_000)), "an ego pose for every"),
        ({k: pa.array(v)[:0] for k, v in changed().items()}, "frames with annotations"),
        (changed(tx_m=lambda v: ["left"] * len(v)), "Feather"),
        ({k: v for k, v in changed().items() if k != "category"}, "category"),
    ],
)
def test_faulty_annotations_are_refused(tmp_path, boxes, message):
    unit = write_log(tmp_path, boxes)
    with pytest.raises(DataError, match=message):
        read(unit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ego: {k: v[::-1] for k, v in ego.items()}, "row 2 of .*city_SE3"),
        (lambda ego: {k: v[:10] for k, v in ego.items()}, "an ego pose for every frame"),
        (lambda ego: {k: v[:0] for k, v in ego.items()}, "an ego pose for every frame"),
        (lambda ego: ego | {"qz": np.full(FRAMES, np.nan)}, "row 1 of .*city_SE3"),
    ],
)
def test_faulty_ego_poses_are_refused(tmp_path, change, message):
    unit = write_log(tmp_path, ego=change(poses(times_ns())))
    with pytest.raises(DataError, match=message):
        read(unit)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"lane_segments": {}, "drivable_areas": {}},
        vector_map(lane_segments={"1": {"id": 1}}),
        vector_map(drivable_areas=[3]),
        vector_map(drivable_areas={"3": {"area_boundary": [{"x": 1e308, "y": 0}] * 3}}),
        vector_map(drivable_areas={"3": {"area_boundary": [{"x": 10**400, "y": 0}] * 3}}),
        vector_map(lane_segments={"1": {"centerline": points((0, 0), (9e6, 0))}}),
        vector_map(drivable_areas={"3": {"area_boundary": [{"x": "left", "y": 0}] * 3}}),
        vector_map(drivable_areas={"3": {"area_boundary": [{"x": float("nan"), "y": 0}] * 3}}),
    ],
)
def test_a_map_of_another_shape_is_refused(tmp_path, content):
    unit = write_log(tmp_path, content=content)
    with pytest.raises(DataError, match=r"log_map_archive_x____PIT_city_1\.json"):
        read(unit)


@pytest.mark.parametrize("gone", ["city_SE3_egovehicle.feather", "map/*.json", "map"])
def test_a_missing_sidecar_is_named(tmp_path, gone):
    unit = write_log(tmp_path)
    for path in [*tmp_path.glob(f"{gone}/*"), *tmp_path.glob(gone)]:
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=r"city_SE3|log_map_archive"):
        read(unit)


def test_a_log_that_is_damaged_costs_no_other_log(tmp_path):
    write_log(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "annotations.feather").write_bytes(b"ARROW1\0\0" + bytes(1000))
    report = prepare(
        "argoverse2-sensor", [str(tmp_path)], str(tmp_path / "out.zarr"), PrepareOptions()
    )
    assert report.scenes == 1
    assert [name for name, _ in report.skipped] == [str(tmp_path / "b/annotations.feather")]


@fuzzed
@given(st.data())
def test_any_damage_gives_a_scene_or_one_error(tmp_path, data):
    unit = Path(write_log(tmp_path))
    files = [unit, unit.with_name("city_SE3_egovehicle.feather"), *tmp_path.glob("map/*")]
    victim = data.draw(st.sampled_from(files))
    victim.write_bytes(data.draw(damaged(victim.read_bytes())))
    assert_read_or_refused(Argoverse2Sensor(), str(unit), str(tmp_path))


NAMES = ("lane_segments", "drivable_areas", "pedestrian_crossings", "area_boundary", "x", "y")


@fuzzed
@given(documents(*NAMES, "left_lane_boundary", "right_lane_boundary", "edge1", "edge2"))
def test_any_json_gives_a_map_or_one_error(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(content))
    with suppress(DataError):
        assert all(np.isfinite(element.points).all() for element in read_map(str(path)))


@real
@pytest.mark.parametrize("log", sorted(p.name for p in RECORDINGS.glob("val/*")))
def test_real_logs_hold_what_their_tables_hold(log):
    (path,) = (RECORDINGS / "val" / log).glob("annotations*.feather")
    table = feather.read_table(path).to_pandas()
    made = read(str(path), 0.1)
    assert set(made.track_id) == set(table.track_uuid)
    assert int(np.isfinite(made.state[..., 0]).sum()) == len(table)
    assert len(made.time_s) == table.timestamp_ns.nunique()
    # One box, moved by hand: with the rotation matrices of the file's own quaternions.
    row = table.iloc[len(table) // 2]
    pose = feather.read_table(path.with_name("city_SE3_egovehicle.feather")).to_pandas()
    pose = pose[pose.timestamp_ns == row.timestamp_ns].iloc[0]
    turned = Rotation.from_quat([pose.qx, pose.qy, pose.qz, pose.qw]).as_matrix()
    place = turned @ [row.tx_m, row.ty_m, row.tz_m] + [pose.tx_m, pose.ty_m, pose.tz_m]
    frame = sorted(table.timestamp_ns.unique()).index(row.timestamp_ns)
    found = made.state[made.track_id.index(row.track_uuid), frame]
    np.testing.assert_allclose(found[:2], place[:2], atol=1e-6)


@real
def test_in_real_logs_headings_agree_with_motion_and_lanes():
    for unit in Argoverse2Sensor().find([str(RECORDINGS)]):
        made = read(unit)
        cars = made.state[[kind == "REGULAR_VEHICLE" for kind in made.track_class]]
        to_motion, to_lane = heading_errors(cars), lane_errors(made, "REGULAR_VEHICLE")
        assert np.median(to_motion) < np.radians(3), unit
        assert len(to_lane) > 0.6 * len(to_motion), unit
        assert (to_lane < 0.5).mean() > 0.85, unit
