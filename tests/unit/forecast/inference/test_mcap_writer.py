"""Forecasts as a ROS 2 bag: what another library reads there is what the forecast store says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import xarray as xr
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from forecast.errors import DataError
from forecast.inference.mcap_writer import write_mcap
from forecast.schema import SequenceMeta
from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support.stores import GRID, Mover, content, forecast_store, sequence_dataset

MOVERS = [
    Mover(0.0, 0.0, yaw=0.3, speed=4.0, turn_rate=0.2),
    Mover(5.0, 5.0, label=2, length=0.8, width=0.6),
    Mover(-6.0, -4.0, yaw=3.1, speed=3.0, label=3),
]
START_S = 1_700_000_000.123457
LEADS = np.arange(7) * 0.5


Bag = dict[str, list[tuple[int, Any]]]  # by topic, messages with their log times


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, xr.Dataset]:
    """A sequence store of two scenes, half a second apart, and its perfect forecast."""
    folder = tmp_path_factory.mktemp("stores")
    data = sequence_dataset([MOVERS, MOVERS[:2]])
    data["init_time"].values[:] = START_S + 0.5 * np.arange(2)
    data.to_zarr(folder / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    made = open_forecast_store(forecast_store(folder / "f.zarr", str(folder / "s.zarr")))
    return made.load(), open_sequence_store(str(folder / "s.zarr"))[0].load()


@pytest.fixture
def forecast(perfect: tuple[xr.Dataset, xr.Dataset]) -> xr.Dataset:
    """The forecast of the first scene, to be changed."""
    return perfect[0].isel(sequence=[0]).copy(deep=True)


@pytest.fixture
def source(perfect: tuple[xr.Dataset, xr.Dataset]) -> xr.Dataset:
    """The first scene, to be changed."""
    return perfect[1].isel(sequence=[0]).copy(deep=True)


def written(path: Path, forecast: xr.Dataset, source: xr.Dataset) -> Bag:
    """What rosbags reads in the bag of a forecast."""
    meta = SequenceMeta.from_attrs(source.attrs, "tests")
    write_mcap(str(path / "a.mcap"), forecast, source, meta)
    return messages(path / "a.mcap")


def messages(path: Path) -> Bag:
    found: Bag = {}
    with AnyReader([path]) as bag:
        for on, log_ns, raw in bag.messages():
            found.setdefault(on.topic, []).append((log_ns, bag.deserialize(raw, on.msgtype)))
    return found


def yaw_of(pose: Any) -> float:
    turned = pose.orientation
    assert abs(turned.z**2 + turned.w**2 - 1) < 1e-9
    return float(2 * np.arctan2(turned.z, turned.w))


def poses(path: Any) -> np.ndarray:
    return np.array([(p.position.x, p.position.y, yaw_of(p)) for p in path.path])


@pytest.fixture(scope="module")
def one(perfect: tuple[xr.Dataset, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> Bag:
    """The bag of the first scene alone."""
    made, data = (every.isel(sequence=[0]) for every in perfect)
    return written(tmp_path_factory.mktemp("bag"), made, data)


def test_objects_are_where_the_forecast_has_them(one: Bag) -> None:
    ((log_ns, message),) = one["/forecast/objects"]
    assert log_ns == 1_700_000_000_123_457_000
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_457_000)
    assert message.header.frame_id == "base_link"
    assert len(message.objects) == 3
    for thing, mover in zip(message.objects, MOVERS, strict=True):
        truth = mover.state(LEADS)
        (path,) = thing.kinematics.predicted_paths
        found = poses(path)
        np.testing.assert_allclose(found[:, :2], truth[:, :2], atol=1e-5)
        np.testing.assert_allclose(np.exp(1j * found[:, 2]), np.exp(1j * truth[:, 2]), atol=1e-5)
        assert path.confidence == 1.0
        assert (path.time_step.sec, path.time_step.nanosec) == (0, 500_000_000)
        initial = thing.kinematics.initial_pose_with_covariance.pose
        assert (initial.position.x, initial.position.y) == tuple(found[0, :2])
        size = thing.shape.dimensions
        np.testing.assert_allclose([size.x, size.y], [mover.length, mover.width], rtol=1e-6)
        assert (thing.shape.type, thing.existence_probability) == (0, 1.0)
    assert [thing.classification[0].label for thing in message.objects] == [1, 7, 6]


def test_velocities_are_those_of_the_first_step(one: Bag) -> None:
    ((_, message),) = one["/forecast/objects"]
    first, second, third = (
        thing.kinematics.initial_twist_with_covariance.twist for thing in message.objects
    )
    np.testing.assert_allclose([first.linear.x, first.angular.z], [4.0, 0.2], atol=0.01)
    np.testing.assert_allclose(first.linear.y, 0.2, atol=0.01)  # it turns left
    assert abs(second.linear.x) < 1e-6
    np.testing.assert_allclose(third.linear.x, 3.0, atol=1e-4)


def test_grids_are_the_occupancy_of_any_class(one: Bag, forecast: xr.Dataset) -> None:
    occupancy = forecast["occupancy"].values[0]
    assert len(one) == 7
    for lead in range(1, 7):
        ((_, grid),) = one[f"/forecast/occupancy/lead_{lead}"]
        assert (grid.info.height, grid.info.width) == GRID.shape
        assert grid.info.resolution == 0.5
        assert (grid.info.origin.position.x, grid.info.origin.position.y) == (-16.0, -12.0)
        assert grid.header.stamp.sec == grid.info.map_load_time.sec == 1_700_000_000
        drawn = grid.data.reshape(GRID.shape)
        np.testing.assert_array_equal(drawn, 100 * occupancy[lead - 1].max(axis=0))
        assert 0 < (drawn == 100).mean() < 0.1


def test_probabilities_of_classes_are_joined(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    forecast["occupancy"].values[0, 0, :, 0, 0] = (0.5, 0.5, 0.2)
    ((_, grid),) = written(tmp_path, forecast, source)["/forecast/occupancy/lead_1"]
    assert grid.data[0] == 80


def test_every_realization_is_a_path_with_its_share(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    futures = np.repeat(forecast["pose"].values[:, None], 4, axis=1)
    futures += np.arange(4, dtype=np.float32)[:, None, None, None]
    futures[0, 3, 2:, 1] = np.nan  # of one future the second agent leaves
    dims = ("sequence", "realization", "lead", "track", "pose")
    forecast["realization_pose"] = dims, futures
    ((_, message),) = written(tmp_path, forecast, source)["/forecast/objects"]
    for track, thing in enumerate(message.objects):
        paths = thing.kinematics.predicted_paths
        assert [path.confidence for path in paths] == [0.25] * 4
        for number, path in enumerate(paths):
            steps = 2 if (track, number) == (1, 3) else 6
            assert len(path.path) == 1 + steps
            found, truth = poses(path), futures[0, number, :steps, track, :2]
            np.testing.assert_allclose(found[1:, :2], truth, atol=1e-5)
            np.testing.assert_array_equal(found[0], poses(paths[0])[0])


def test_who_leaves_at_once_in_one_realization_is_there_in_the_others(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    futures = np.repeat(forecast["pose"].values[:, None], 4, axis=1)
    futures[0, 1, :, 0] = np.nan  # of one future the first agent leaves before the first lead
    futures[0, 2, 0, 0, :2] = 0.0, 0.0  # and in one it stands
    futures[0, :3, :, 2] = np.nan  # the third is there only in one that cannot be
    dims = ("sequence", "realization", "lead", "track", "pose")
    forecast["realization_pose"] = dims, futures
    forecast["realization_weight"] = ("sequence", "realization"), np.array([[3.0, 4.0, 1.0, 0.0]])
    ((_, message),) = written(tmp_path, forecast, source)["/forecast/objects"]
    assert [thing.object_id.uuid[-1] for thing in message.objects] == [1, 2]
    first = message.objects[0].kinematics
    assert [len(path.path) for path in first.predicted_paths] == [7, 1, 7, 7]
    assert [path.confidence for path in first.predicted_paths] == [0.375, 0.5, 0.125, 0.0]
    twist = first.initial_twist_with_covariance.twist
    np.testing.assert_allclose(twist.linear.x, 0.75 * 4.0, atol=0.01)
    np.testing.assert_allclose(twist.angular.z, 0.2, atol=1e-4)


def test_realizations_may_have_weights(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    dims = ("sequence", "realization", "lead", "track", "pose")
    forecast["realization_pose"] = dims, np.repeat(forecast["pose"].values[:, None], 2, axis=1)
    forecast["realization_weight"] = ("sequence", "realization"), np.array([[1.0, 3.0]])
    ((_, message),) = written(tmp_path, forecast, source)["/forecast/objects"]
    for thing in message.objects:
        assert [path.confidence for path in thing.kinematics.predicted_paths] == [0.25, 0.75]


def test_scenes_are_told_apart_and_ids_by_their_sequence(
    perfect: tuple[xr.Dataset, xr.Dataset], tmp_path: Path
) -> None:
    found = written(tmp_path, *perfect)
    ids = [
        bytes(thing.object_id.uuid)
        for number in (0, 1)
        for _, message in found[f"/forecast/scene_{number}/objects"]
        for thing in message.objects
    ]
    assert len(set(ids)) == len(ids) == 5
    assert [int.from_bytes(one[12:], "big") for one in ids] == [1, 2, 3, 1, 2]
    assert len({one[:12] for one in ids}) == 2
    with (tmp_path / "a.mcap").open("rb") as file:
        (about,) = make_reader(file).iter_metadata()
    assert about.name == "forecast"
    assert about.metadata["model"] == "perfect"
    assert (about.metadata["scene_0"], about.metadata["scene_1"]) == ("scene-0", "scene-1")


def test_an_object_keeps_the_id_of_its_track_in_all_sequences_of_a_recording(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    tracker = "0f1d4c2e-9d55-4c43-8a7e-9a4a4f0b6a01"
    forecast, source = (one.isel(sequence=[0, 0]) for one in (forecast, source))
    names = np.array([[tracker, "7", ""], ["7", tracker, "8"]], dtype=object)
    source["track_name"] = ("sequence", "track"), names
    first, second = (
        [bytes(thing.object_id.uuid) for thing in message.objects]
        for _, message in written(tmp_path, forecast, source)["/forecast/objects"]
    )
    assert str(UUID(bytes=first[0])) == tracker
    assert second[:2] == [first[1], first[0]]
    assert len({*first, *second}) == 4


def test_who_was_never_seen_or_is_not_forecast_has_no_object(
    forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    source["track_state"].values[0, 0, :3] = np.nan  # comes after the present
    forecast["pose"].values[0, :, 2] = np.nan
    ((_, message),) = written(tmp_path, forecast, source)["/forecast/objects"]
    assert [thing.object_id.uuid[-1] for thing in message.objects] == [2]


@pytest.mark.parametrize("lost_s", [0.0, 0.7, 1.6])
def test_the_present_is_what_was_observed_and_not_what_the_recording_knows_of_it(
    lost_s: float, forecast: xr.Dataset, source: xr.Dataset, tmp_path: Path
) -> None:
    time_s = np.array([np.nan, -1.6, -0.7, 0.0])
    mover = Mover(0.0, 0.0, speed=4.0, length=5.5, width=2.5)
    observed = np.full((1, 3, 4, 5), np.nan)
    observed[0, 0, time_s <= -lost_s] = mover.state(time_s[time_s <= -lost_s])
    source["track_history"] = ("sequence", "track", "sample", "state"), observed
    source["sample_time"] = ("sequence", "sample"), time_s[None]
    source["track_state"].values[0, 0, :, 1] += 3.0  # the truth is elsewhere
    forecast["pose"].values[0, :, 0] = mover.state(LEADS[1:])[:, :3]
    ((_, message),) = written(tmp_path, forecast, source)["/forecast/objects"]
    (thing,) = message.objects  # the tracker has never seen the others
    np.testing.assert_allclose([thing.shape.dimensions.x, thing.shape.dimensions.y], [5.5, 2.5])
    (path,) = thing.kinematics.predicted_paths
    np.testing.assert_allclose(poses(path), mover.state(LEADS)[:, :3], atol=1e-5)
    twist = thing.kinematics.initial_twist_with_covariance.twist
    np.testing.assert_allclose(
        [twist.linear.x, twist.linear.y, twist.angular.z], [4, 0, 0], atol=1e-5
    )


def test_nothing_is_left_of_a_bag_that_cannot_be_finished(
    perfect: tuple[xr.Dataset, xr.Dataset], tmp_path: Path
) -> None:
    forecast = perfect[0].copy(deep=True)
    forecast["init_time"].values[1] = -3.0
    with pytest.raises(DataError, match="for stamps; got an init_time of -3 s"):
        written(tmp_path, forecast, perfect[1])
    assert not content(tmp_path)
    (tmp_path / "a.mcap").write_text("mine")
    with pytest.raises(DataError, match="which exists"):
        written(tmp_path, *perfect)
    assert (tmp_path / "a.mcap").read_text() == "mine"
