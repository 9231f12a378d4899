"""Tables without headings, and with the speeds and scores that trackers have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from data_tools.sources.presets import OWN
from data_tools.sources.tracks import Tracks
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store

TIMES = np.arange(61) * 0.1
LANE = '{"type": "LineString", "coordinates": [[100, 3], [-100, 3]]}'
MAP = (
    '{"type": "FeatureCollection", "features": [{"type": "Feature", '
    f'"properties": {{"layer": "lane_centre"}}, "geometry": {LANE}}}]}}'
)


def drive(track="car", speed=8.0, y=0.0, kind="vehicle", **columns):
    """Rows of a track along x without headings."""
    rows = {"scene": "s", "time_s": TIMES, "track_id": track, "class": kind}
    return pd.DataFrame(rows | {"x_m": speed * TIMES, "y_m": y} | columns)


def jitter(seed=0):
    return np.random.default_rng(seed).normal(size=61) * 0.05


def read(folder, *tables, lanes=False):
    path = folder / "drive.csv"
    pd.concat(tables).to_csv(path, index=False)
    if lanes:
        (folder / "drive.csv.geojson").write_text(MAP)
    return Tracks().read(f"{path}#s", 0.5)


def test_a_parked_car_faces_the_way_of_its_lane_and_without_one_along_x(tmp_path):
    parked = drive("parked", 0.0, x_m=20 + jitter(0), y_m=4.0 + jitter(1))
    far = drive("far", 0.0, x_m=20 + jitter(2), y_m=9.0 + jitter(3))
    walker = drive("walker", 0.0, x_m=20 + jitter(4), y_m=3.0 + jitter(5), kind="pedestrian")
    scene = read(tmp_path, drive(), parked, far, walker, lanes=True)
    np.testing.assert_allclose(np.abs(scene.state[1, :, 2]), np.pi)
    np.testing.assert_array_equal(scene.state[2:, :, 2], 0.0)
    np.testing.assert_allclose(np.abs(scene.observed.state[1, :, 2]), np.pi)
    assert scene.notes["tracks with yaw from their motion"] == 4
    assert scene.notes["tracks that never move and have no yaw, that of their lane"] == 1
    assert scene.notes["tracks that never move and have no yaw, heading 0"] == 2


def test_what_will_move_is_as_its_lane_until_then_and_as_it_moved_for_the_truth(tmp_path):
    way = np.maximum(0.0, TIMES - 3.0) ** 2
    scene = read(tmp_path, drive(), drive("late", x_m=5.0, y_m=4.0 + way), lanes=True)
    np.testing.assert_allclose(scene.state[1, :, 2], np.pi / 2, atol=0.1)
    seen = scene.observed.state[1, :, 2]
    np.testing.assert_allclose(np.abs(seen[:36]), np.pi)
    np.testing.assert_allclose(seen[-10:], np.pi / 2, atol=0.1)


def test_nothing_after_the_present_is_in_what_a_table_was_observed_to_be(tmp_path):
    tables = [drive(), drive("b", 3.0, y_m=3.0 + jitter(1)), drive("c", 0.0, y=8.0)]
    sizes = {"length_m": np.where(TIMES > 3.0, 6.0, 4.0), "width_m": 2.0}
    tables = [table.assign(**sizes) for table in tables]
    changed = [table.copy() for table in tables]
    for table in changed:
        table.loc[TIMES > 3.05, "y_m"] += 2.0 * (TIMES[TIMES > 3.05] - 3.0)
        table.loc[TIMES > 3.05, "length_m"] = 9.0
    before, after = read(tmp_path, *tables), read(tmp_path, *changed)
    past = before.observed.time_s <= 3.0
    assert before.observed.state[:, past].tobytes() == after.observed.state[:, past].tobytes()
    assert (before.observed.state[..., 3][:, past] == 4.0).all()
    assert (before.state[..., 3] == before.state[0, 0, 3]).all()
    assert (before.state[:, :6] != after.state[:, :6]).any()  # the truth knows the whole track


@pytest.mark.parametrize("place", [1e300, 1.7e308])
def test_a_place_beyond_the_earth_costs_its_row_only(tmp_path, place):
    x = np.where(np.arange(61) == 30, place, 8.0 * TIMES)
    scene = read(tmp_path, drive(x_m=x, vx_mps=8.0, vy_mps=0.0), drive("b", 4.0, y=4.0))
    np.testing.assert_allclose(scene.state[:, :, 2], 0.0, atol=0.01)


def test_a_yaw_that_is_given_is_kept_and_others_are_found_from_it(tmp_path):
    yaw = np.where(np.arange(61) % 20 == 0, 0.25, np.nan)
    scene = read(tmp_path, drive(), drive("parked", 0.0, y=4.0, yaw_rad=yaw), lanes=True)
    np.testing.assert_allclose(scene.state[1, :, 2], 0.25, atol=0.01)


@pytest.mark.parametrize("names", [("speed_mps",), ("vx_mps", "vy_mps")])
def test_speeds_in_another_unit_are_refused(tmp_path, names):
    for factor in (3.6, 2.24, 0.01):
        columns = dict(zip(names, (8.0 * factor, 0.0), strict=False))
        with pytest.raises(
            DataError, match=f"{names[0]}.* in metres a second; got {factor:.2g} times"
        ):
            read(tmp_path, drive(**columns))
    columns = dict(zip(names, (8.4, 0.1), strict=False))
    assert read(tmp_path, drive(**columns)).state.shape == (1, 13, 5)


def test_velocities_in_the_agents_own_frame_are_refused(tmp_path):
    north = drive(x_m=0.0, y_m=8.0 * TIMES, vx_mps=8.0, vy_mps=0.0)
    with pytest.raises(DataError, match="in the frame of x_m and y_m; got 90 degrees"):
        read(tmp_path, north)


def test_a_velocity_tells_the_heading_from_the_first_row_on(tmp_path):
    slow = drive("slow", x_m=5.0 - 1.5 * TIMES, y_m=4.0, vx_mps=-1.5, vy_mps=0.0)
    scene = read(tmp_path, drive(), slow)
    assert np.abs(wrap_angle(scene.observed.state[1, :, 2] - np.pi)).max() < 0.02
    without = read(tmp_path, drive(), slow.drop(columns=["vx_mps", "vy_mps"]))
    assert without.observed.state[1, 0, 2] == 0.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vx_mps": 8.0}, "vx_mps and vy_mps together; got vx_mps alone"),
        ({"score": 93.0}, "a score from 0 to 1; got 93.0 in column score, row 1"),
        ({"score": -0.1}, "a score from 0 to 1; got -0.1"),
        ({"score": "high"}, "a finite number; got 'high' in column score"),
        ({"score": np.inf}, "a finite number; got 'inf' in column score"),
        ({"vy_mps": -1e300, "vx_mps": 0.0}, "a speed up to 1000 m/s; got -1e\\+300"),
        (
            {"vx_mps": "1" * 5000 + "x", "vy_mps": 0.0},
            "a finite number; got '1{79}\\.\\.\\. in column",
        ),
        ({"speed_mps": "fast"}, "a finite number; got 'fast' in column speed_mps"),
    ],
)
def test_faulty_speeds_and_scores_are_refused_by_column_and_row(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, drive(**columns))


def test_a_score_is_that_of_the_last_row_before_each_frame_where_the_track_is_seen(tmp_path):
    score = np.linspace(0.0, 0.6, 61)
    late = drive("late", y=4.0, score=0.5).iloc[12:]
    scene = read(tmp_path, drive(score=score), late)
    np.testing.assert_allclose(scene.score[0], score[::5])
    assert np.isnan(scene.score[1, :3]).all()
    np.testing.assert_array_equal(scene.score[1, 3:], 0.5)
    assert scene.notes["rows without a score"] == 0
    assert read(tmp_path, drive()).score is None


@pytest.mark.parametrize("name", ["drive.csv", "drive.parquet"])
def test_scores_that_are_nan_are_not_given_and_counted(tmp_path, name):
    score = np.full(61, 0.9)
    score[20:26] = np.nan
    table, path = drive(score=score), tmp_path / name
    if name.endswith("csv"):
        table.astype({"score": str}).to_csv(path, index=False)  # "nan", as programs write it
    else:
        table.to_parquet(path)
    out = str(tmp_path / "out.zarr")
    report = prepare("tracks", [str(path)], out, PrepareOptions())
    assert report.notes["rows without a score"] == 6
    dataset, _ = open_sequence_store(out)
    assert dataset["track_score"].dims == ("sequence", "track", "time")
    first = dataset["track_score"].values[0, 0]
    assert np.flatnonzero(np.isnan(first)).tolist() == [4, 5]  # 2.0 s and 2.5 s
    np.testing.assert_allclose(first[[0, 8]], 0.9, rtol=1e-6)


def test_a_store_of_a_table_has_what_was_observed_at_the_tables_own_rate(tmp_path):
    path, out = tmp_path / "drive.csv", str(tmp_path / "out.zarr")
    given = {"yaw_rad": 0.0, "length_m": 4.0, "width_m": 2.0}
    pd.concat([drive(**given), drive("b", 4.0, y=3.5, **given)]).to_csv(path, index=False)
    prepare("tracks", [str(path)], out, PrepareOptions())
    dataset, _ = open_sequence_store(out)
    assert dataset.sizes["sample"] == 21
    time_s = dataset["sample_time"].values
    assert np.isfinite(time_s).sum(axis=1).tolist() == [11, 16, 21, 21, 21]
    np.testing.assert_allclose(time_s[-1], 0.1 * np.arange(-20, 1), atol=1e-6)
    now = dataset["track_history"].values[:, :, -1]
    np.testing.assert_array_equal(now, dataset["track_state"].values[:, :, 2])


@pytest.mark.parametrize("step_s", [1e-9, 1e-300, 1e-320])
def test_speeds_are_compared_however_close_the_times_are(tmp_path, step_s):
    rows = drive(speed_mps=0.0).assign(time_s=step_s * np.arange(61), x_m=0.0)
    assert read(tmp_path, rows).time_s.tolist() == [0.0]


LABELS = {"PKW": "vehicle", "LKW": "bus", "Fuss": "pedestrian"}
USUAL = {"PKW": "car", "LKW": "bus", "Fuss": "person"}


def of_own_labels(**columns):
    """A car that backs out, one that comes back under another label, and a walker further off."""
    out_and_back = np.where(TIMES < 3, 2 * TIMES, 6 - 1.5 * (TIMES - 3))
    changes = drive("changes", 5.0, y=4.0).iloc[[*range(20), *range(40, 61)]]
    changes["class"] = np.where(changes["time_s"] < 3, "PKW", "LKW")
    walker = drive("walker", 9.0, y=8.0, kind="Fuss")
    backing = drive("backing", x_m=out_and_back, kind="PKW")
    return pd.concat([backing, changes, walker]).assign(**columns)


@pytest.mark.parametrize("position", ["centre", "front"])
def test_labels_that_the_user_maps_are_read_as_their_class_in_everything(tmp_path, position):
    preset = OWN.model_copy(update={"position": position})
    table, path = of_own_labels(), tmp_path / "drive.csv"
    table.to_csv(path, index=False)
    mapped = replace(source("tracks", map_classes=tuple(LABELS.items())), preset=preset)
    found = mapped.read(f"{path}#s", 0.5)
    table.assign(**{"class": table["class"].map(USUAL)}).to_csv(path, index=False)
    usual = Tracks(preset=preset).read(f"{path}#s", 0.5)
    assert found.track_id == usual.track_id == ("backing", "changes", "walker")
    assert found.ego_tracks == usual.ego_tracks
    np.testing.assert_array_equal(found.state, usual.state)
    np.testing.assert_array_equal(found.observed.state, usual.observed.state)


def test_a_car_of_a_label_that_prepare_maps_is_not_turned_round_by_reversing(tmp_path):
    path, out = tmp_path / "drive.csv", str(tmp_path / "out.zarr")
    of_own_labels(length_m=4.0, width_m=2.0).to_csv(path, index=False)
    chosen = tuple((label, "pedestrian" if label == "Fuss" else "vehicle") for label in LABELS)
    prepare("tracks", [str(path)], out, PrepareOptions(map_classes=chosen))
    dataset, _ = open_sequence_store(out)
    cars = dataset["track_class"].values == 1
    assert cars.any()
    assert np.nanmax(np.abs(dataset["track_state"].values[..., 2][cars])) < 0.1
