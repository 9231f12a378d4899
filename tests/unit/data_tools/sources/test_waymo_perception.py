"""The waymo-perception source: boxes from the frame of the vehicle to that of the world."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from data_tools.sources.waymo_perception import WaymoPerception
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.fuzz import fuzzed
from tests.support.mutation import mutated
from tests.support.recordings import assert_read_from_elsewhere, assert_read_or_refused
from tests.support.stores import Mover
from tests.support.waymo_perception import (
    BOX_SCHEMA,
    CAR,
    EGO,
    FRAMES,
    POSE_SCHEMA,
    SEGMENT,
    START_US,
    WALKER,
    box_rows,
    pose_rows,
    times_us,
    write_segment,
)

KIND, HEADING = "[LiDARBoxComponent].type", "[LiDARBoxComponent].box.heading"
TIME, SIZE = "key.frame_timestamp_micros", "[LiDARBoxComponent].box.size.x"
TRANSFORM = POSE_SCHEMA.names[2]


def read(unit, dt_s=0.5):
    return WaymoPerception().read(unit, dt_s)


def test_segments_are_found_by_their_boxes(tmp_path):
    units = [write_segment(tmp_path / part) for part in ("training", "validation")]
    assert source("waymo-perception").find([str(tmp_path)]) == units
    with pytest.raises(DataError, match="a folder lidar_box"):
        WaymoPerception().find([str(tmp_path / "training/vehicle_pose")])


def test_boxes_are_moved_from_the_frame_of_the_vehicle_to_the_world(tmp_path):
    made = read(write_segment(tmp_path), 0.1)
    since_s = (times_us() - START_US) * 1e-6
    assert made.name == SEGMENT
    assert made.track_id == ("car", "walker")
    assert made.track_class == ("TYPE_VEHICLE", "TYPE_PEDESTRIAN")
    np.testing.assert_allclose(made.time_s, 0.1 * np.arange(FRAMES))
    for got, mover in zip(made.state, (CAR, WALKER), strict=True):
        truth = mover.state(since_s)
        # Upright boxes on a tilted road: what is a metre above it is some centimetres beside.
        np.testing.assert_allclose(got[:, :2], truth[:, :2], atol=1e-6)
        assert np.abs(wrap_angle(got[:, 2] - truth[:, 2])).max() < 1e-3
        np.testing.assert_allclose(got[:, 3:], truth[:, 3:])
    truth = EGO.state(since_s)
    np.testing.assert_allclose(made.ego_pose[:, :2], truth[:, :2], atol=1e-6)
    assert np.abs(wrap_angle(made.ego_pose[:, 2] - truth[:, 2])).max() < 2e-3
    assert made.notes["ego without a box"] == 1
    assert made.map == ()


def test_one_box_agrees_with_a_calculation_by_hand(tmp_path):
    unit = write_segment(tmp_path)
    made = read(unit, 0.1)
    boxes, poses = (
        pd.read_parquet(tmp_path / f"{part}/{SEGMENT}.parquet")
        for part in ("lidar_box", "vehicle_pose")
    )
    assert int(np.isfinite(made.state[..., 0]).sum()) == len(boxes)
    row = boxes.iloc[57]
    matrix = poses[poses[TIME] == row[TIME]].iloc[0][TRANSFORM].reshape(4, 4)
    centre = [row[f"[LiDARBoxComponent].box.center.{axis}"] for axis in "xyz"]
    tip = np.add(centre, [np.cos(row[HEADING]), np.sin(row[HEADING]), 0.0])
    at, ahead = (matrix @ [*point, 1.0] for point in (centre, tip))
    frame = sorted(poses[TIME]).index(row[TIME])
    got = made.state[made.track_id.index(row["key.laser_object_id"]), frame]
    np.testing.assert_allclose(got[:2], at[:2], atol=1e-9)
    assert got[2] == pytest.approx(np.arctan2(*(ahead - at)[1::-1]))


def test_every_fifth_frame_is_kept_and_all_are_observed(tmp_path):
    made = read(write_segment(tmp_path))
    np.testing.assert_allclose(made.time_s, np.arange(9) * 0.5)
    assert made.observed is not None
    assert made.observed.state.shape == (2, FRAMES, 5)


def test_the_order_of_rows_means_nothing(tmp_path):
    unit = write_segment(tmp_path / "a")
    shuffled = random.Random(0)
    boxes, poses = box_rows(times_us()), pose_rows(times_us())
    shuffled.shuffle(boxes)
    shuffled.shuffle(poses)
    first, second = read(unit), read(write_segment(tmp_path / "b", boxes, poses))
    order = [second.track_id.index(name) for name in first.track_id]
    np.testing.assert_array_equal(first.state, second.state[order])
    np.testing.assert_array_equal(first.ego_pose, second.ego_pose)


def test_frames_without_boxes_stay_and_frames_without_a_pose_are_gaps(tmp_path):
    time_us = times_us()
    made = read(write_segment(tmp_path / "a", box_rows(time_us[5:])), 0.1)
    assert np.isnan(made.state[:, :5]).all()
    assert np.isfinite(made.ego_pose).all()
    assert made.notes["frames without annotations"] == 5
    there = np.delete(time_us, 20)
    made = read(write_segment(tmp_path / "b", box_rows(there), pose_rows(there)), 0.1)
    assert np.flatnonzero(np.isnan(made.ego_pose[:, 0])).tolist() == [20]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 16), pa.list_(pa.float64())])
def test_transforms_come_in_several_types(tmp_path, kind):
    poses = pa.Table.from_pylist(pose_rows(times_us()), POSE_SCHEMA)
    poses = poses.set_column(2, TRANSFORM, poses[TRANSFORM].cast(kind))
    made = read(write_segment(tmp_path, poses=poses), 0.1)
    truth = EGO.state((times_us() - START_US) * 1e-6)
    np.testing.assert_allclose(made.ego_pose[:, :2], truth[:, :2], atol=2e-3)


def test_names_may_be_a_dictionary_of_them(tmp_path):
    boxes = pa.Table.from_pylist(box_rows(times_us()), BOX_SCHEMA)
    boxes = boxes.set_column(0, BOX_SCHEMA.names[0], boxes[0].dictionary_encode())
    assert read(write_segment(tmp_path, boxes)).name == SEGMENT


def test_all_types_have_a_class(tmp_path):
    agents = {str(kind): (kind, Mover(865.0, 15560.0 + 3 * kind)) for kind in range(5)}
    write_segment(tmp_path, box_rows(times_us(), agents))
    out = str(tmp_path / "out.zarr")
    options = PrepareOptions(classes=("vehicle", "pedestrian", "cyclist", "sign", "unknown"))
    prepare("waymo-perception", [str(tmp_path)], out, options)
    store, _ = open_sequence_store(out)
    assert sorted(store["track_class"].values[0].tolist()) == [1, 2, 3, 4, 5]


def test_segments_are_read_from_elsewhere(tmp_path):
    write_segment(tmp_path)
    assert_read_from_elsewhere(WaymoPerception(), tmp_path)


def changed(rows, column, value, row=3):
    rows[row] = rows[row] | {column: value}
    return rows


def boxes():
    return box_rows(times_us())


def poses():
    return pose_rows(times_us())


UP = [1.0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (changed(boxes(), KIND, 5), "a type of 0 to 4; got 5"),
        (changed(boxes(), KIND, -1), "a type of 0 to 4"),
        (changed(boxes(), KIND, None), "row 4 of"),
        (changed(boxes(), HEADING, float("nan")), "row 4 of"),
        (changed(boxes(), SIZE, None), "row 4 of"),
        (changed(boxes(), TIME, 5), "a vehicle pose for every box; got none for row 4"),
        (changed(boxes(), TIME, int(times_us()[0])), "ascending within a track"),
        (changed(boxes(), BOX_SCHEMA.names[0], "other"), "of one segment; got 2"),
        ([], "agents"),
        (pa.table({"x": [1]}), "Parquet"),
    ],
)
def test_boxes_of_another_kind_are_refused(tmp_path, boxes, message):
    unit = write_segment(tmp_path, boxes)
    with pytest.raises(DataError, match=message) as caught:
        read(unit)
    assert f"{SEGMENT}.parquet" in str(caught.value)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (changed(poses(), TRANSFORM, UP), "turns and moves; got others in row 4"),
        (changed(poses(), TRANSFORM, [0.0] * 16), "row 4"),
        (changed(poses(), TRANSFORM, [float("nan")] * 16), "row 4"),
        (changed(poses(), TRANSFORM, [1e308] * 16), "row 4"),
        (changed(poses(), TRANSFORM, [None] * 16), "row 4"),
        (changed(poses(), TRANSFORM, None), "row 4"),
        (changed(poses(), TIME, int(times_us()[2])), r"frames 0\.1 s apart"),
        (changed(poses(), TIME, 2**62), "a vehicle pose for every box|s apart"),
        ([], "frames with annotations"),
        (pa.table({"x": [1]}), "Parquet"),
    ],
)
def test_poses_of_another_kind_are_refused(tmp_path, poses, message):
    try:
        unit = write_segment(tmp_path, poses=poses)
    except pa.ArrowNotImplementedError:
        pytest.skip("this release of pyarrow writes no such table")
    with pytest.raises(DataError, match=message) as caught:
        read(unit)
    assert f"{SEGMENT}.parquet" in str(caught.value)


def test_a_transform_of_another_length_is_refused(tmp_path):
    table = pa.Table.from_pylist(poses(), POSE_SCHEMA)
    short = pa.array([row[:12] for row in table[TRANSFORM].to_pylist()], pa.list_(pa.float64()))
    unit = write_segment(tmp_path, poses=table.set_column(2, TRANSFORM, short))
    with pytest.raises(DataError, match="vehicle_pose"):
        read(unit)


def test_a_missing_table_of_poses_is_named(tmp_path):
    unit = write_segment(tmp_path)
    (tmp_path / f"vehicle_pose/{SEGMENT}.parquet").unlink()
    with pytest.raises(DataError, match="vehicle_pose"):
        read(unit)


@fuzzed
@given(st.integers(0, 2**32))
def test_any_damage_gives_a_scene_or_one_error(tmp_path, seed):
    chance = random.Random(seed)
    unit = write_segment(tmp_path)
    victim = chance.choice(sorted(tmp_path.rglob("*.parquet")))
    Path(victim).write_bytes(mutated(victim, chance))
    assert_read_or_refused(WaymoPerception(), unit, str(tmp_path))
