"""Users' own tables: what is read, filled in, left absent or refused."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.scene import Scene
from data_tools.sources.tracks import Tracks
from forecast.cli.console import print_prepare_report
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store

TIMES = np.arange(61) * 0.1


def drive(track="car", speed=8.0, times=TIMES, y=0.0, kind="vehicle", **columns) -> pd.DataFrame:
    rows = {"scene": "s", "time_s": times, "track_id": track, "class": kind}
    rows |= {"x_m": speed * times, "y_m": y, "yaw_rad": 0.0, "length_m": 4.5, "width_m": 1.9}
    return pd.DataFrame(rows | columns)


def written(folder: Path, *tables: pd.DataFrame, name: str = "drive.csv") -> str:
    path = folder / name
    table = pd.concat(tables)
    if name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


def read(folder: Path, *tables: pd.DataFrame, dt_s: float = 0.5) -> Scene:
    source = Tracks()
    (unit,) = source.find([written(folder, *tables)])
    return source.read(unit, dt_s)


@pytest.mark.parametrize("name", ["drive.csv", "drive.csv.gz", "drive.parquet"])
def test_a_table_becomes_a_scene_whatever_its_format(tmp_path, name):
    table = pd.concat([drive(is_ego=True), drive("walker", 1.2, y=5.0, kind="pedestrian")])
    source = Tracks()
    (unit,) = source.find([written(tmp_path, table, name=name)])
    scene = source.read(unit, 0.5)
    assert unit.endswith(f"{name}#s")
    assert scene.name == f"{name}#s"
    assert scene.track_id == ("car", "walker")
    assert scene.track_class == ("vehicle", "pedestrian")
    np.testing.assert_allclose(scene.time_s, np.arange(13) * 0.5)
    np.testing.assert_allclose(scene.state[0, :, 0], 4.0 * np.arange(13), atol=1e-9)
    np.testing.assert_allclose(scene.state[1, :, 1:], np.tile([5.0, 0.0, 4.5, 1.9], (13, 1)))
    np.testing.assert_allclose(scene.ego_pose, scene.state[0, :, :3])


def test_each_scene_of_each_table_is_a_unit_with_a_name_of_its_own(tmp_path):
    first = written(tmp_path, drive(scene="b/1 #x"), drive(scene="a"), name="one.csv")
    second = written(tmp_path, drive(scene="a"), name="two.parquet")
    source = Tracks()
    units = source.find([str(tmp_path)])
    assert len(units) == len(set(units)) == 3
    assert [unit.startswith(first) for unit in units] == [True, True, False]
    assert units[2] == f"{second}#a"
    names = [source.read(unit, 0.5).name for unit in units]
    assert names == ["one.csv#b/1 #x", "one.csv#a", "two.parquet#a"]


def test_a_changed_table_is_read_again(tmp_path):
    assert read(tmp_path, drive(speed=1.0)).state[0, -1, 0] == pytest.approx(6.0)
    assert read(tmp_path, drive(speed=2.0)).state[0, -1, 0] == pytest.approx(12.0)


def test_numbers_as_ids_and_scenes_are_names(tmp_path):
    table = drive(track=7, scene=3)
    path = written(tmp_path, table, name="numbers.parquet")
    assert Tracks().find([path]) == [f"{path}#3"]
    assert Tracks().read(f"{path}#3", 0.5).track_id == ("7",)


def test_a_short_gap_is_bridged_and_a_long_one_is_not(tmp_path):
    short = drive("short", times=np.delete(TIMES, slice(11, 20)))  # 1.0 s without
    long = drive("long", times=np.delete(TIMES, slice(11, 21)))  # 1.1 s without
    scene = read(tmp_path, drive(), short, long)
    assert np.isfinite(scene.state[1]).all()
    np.testing.assert_allclose(scene.state[1, 3, 0], 8.0 * 1.5)
    absent = np.isnan(scene.state[2]).all(axis=-1)
    assert np.flatnonzero(absent).tolist() == [3, 4]  # 1.5 s and 2.0 s; seen again at 2.1 s


def test_nothing_is_made_up_before_the_first_or_after_the_last_observation(tmp_path):
    scene = read(tmp_path, drive(), drive("late", times=TIMES[12:33]))
    present = np.isfinite(scene.state[1]).all(axis=-1)
    np.testing.assert_array_equal(scene.time_s[present], [1.5, 2.0, 2.5, 3.0])


def test_missing_yaw_comes_from_motion_and_missing_sizes_are_left_to_the_class(tmp_path):
    turn = 0.3 * TIMES
    circle = drive("turning", x_m=20 * np.sin(turn), y_m=20 * (1 - np.cos(turn)))
    scene = read(tmp_path, circle[["scene", "time_s", "track_id", "class", "x_m", "y_m"]])
    np.testing.assert_allclose(scene.state[0, 2:, 2], 0.3 * scene.time_s[2:], atol=0.02)
    assert np.isnan(scene.state[0, :, 3:]).all()
    assert scene.notes["tracks with yaw from their motion"] == 1


def test_without_a_marked_ego_it_is_the_vehicle_that_moves_furthest(tmp_path):
    runner = drive("runner", speed=30.0, y=9.0, kind="pedestrian")
    scene = read(tmp_path, drive("slow", speed=1.0), drive("fast", y=4.0), runner)
    np.testing.assert_allclose(scene.ego_pose[:, 1], 4.0)
    assert scene.notes["no ego named"] == 1
    walkers = read(tmp_path, runner, drive("other", speed=1.0, kind="pedestrian"))
    np.testing.assert_allclose(walkers.ego_pose[:, 1], 9.0)


def test_an_unmarked_ego_is_seen_long_enough_for_a_sequence(tmp_path):
    brief = drive("brief", speed=20.0, times=TIMES[:31], y=4.0)
    table = pd.concat([brief, drive("long", speed=2.0), drive("parked", speed=0.0, y=9.0)])
    report = prepare(
        "tracks", [written(tmp_path, table)], str(tmp_path / "out.zarr"), PrepareOptions()
    )
    assert report.sequences == 5
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    np.testing.assert_allclose(store["ego_pose"].values[:, 0, 0], -2.0)  # 2 m/s for 1 s


def test_where_no_ego_is_seen_for_a_sequence_another_centre_is_named(tmp_path):
    path = written(tmp_path, drive(times=TIMES[:31]), drive("w", kind="pedestrian", y=5.0))
    with pytest.raises(DataError, match=r"none in the 13 frames.* try --centre moving"):
        prepare("tracks", [path], str(tmp_path / "out.zarr"), PrepareOptions())
    options = PrepareOptions(centre="moving")
    assert prepare("tracks", [path], str(tmp_path / "out.zarr"), options).sequences == 5


@pytest.mark.parametrize(
    ("kind", "classes", "name"),
    [
        ("car", ("vehicle", "pedestrian"), "vehicle"),
        ("Truck", ("vehicle", "pedestrian"), "vehicle"),
        ("motorcycle", ("vehicle", "cyclist"), "cyclist"),
        ("car", ("vehicle", "Car"), "car"),
        ("zebra", ("vehicle", "zebra"), "zebra"),
    ],
)
def test_usual_names_become_the_default_classes_unless_they_are_asked_for(
    tmp_path, kind, classes, name
):
    table = pd.concat([drive(), drive("other", kind=kind, y=4.0, length_m=5.0)])
    options = PrepareOptions(classes=classes, history=3, horizon=6, workers=1)
    report = prepare("tracks", [written(tmp_path, table)], str(tmp_path / "out.zarr"), options)
    assert report.notes[f"agents {kind}, kept as {name}"] == 1


def test_the_ego_is_a_vehicle_by_a_usual_name_too(tmp_path):
    runner = drive("runner", 12.0, y=9.0, kind="pedestrian")
    car = drive(kind="Car", length_m=np.nan, width_m=np.nan, y=4.0)
    scene = read(tmp_path, runner, car)
    np.testing.assert_allclose(scene.ego_pose[:, 1], 4.0)


def test_the_report_says_how_agents_of_an_unknown_label_are_kept(tmp_path, capsys):
    kinds = [drive("a", kind="my cat", y=4.0), drive("b", kind="pedestrian", y=8.0)]
    table, output = written(tmp_path, drive(), *kinds), str(tmp_path / "out.zarr")
    options = PrepareOptions(classes=("vehicle",), history=3, horizon=6, workers=1)
    print_prepare_report(prepare("tracks", [table], output, options), output)
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    hint = "; to keep them, add --map-class 'my cat=CLASS'"
    assert f"  agents my cat, left out: 1{hint}" in lines
    assert "  agents pedestrian, left out: 1" in lines
    assert not shown.err


def test_a_flickering_class_is_settled_by_its_majority(tmp_path):
    kinds = np.where(np.arange(61) % 5 == 0, "pedestrian", "cyclist")
    scene = read(tmp_path, drive(), drive("bike", kind=kinds, y=4.0))
    assert scene.track_class[1] == "cyclist"
    assert scene.notes["tracks of more than one class, the most frequent taken"] == 1


def test_an_id_that_goes_to_another_agent_is_two_tracks(tmp_path):
    parked = drive("7", speed=0.0, times=TIMES[:25], x_m=6.0, y=3.0, kind="Car")
    walker = drive("7", times=TIMES[45:], y=9.0, kind="person", length_m=0.6, width_m=0.6)
    scene = read(tmp_path, drive(is_ego=True), pd.concat([parked, walker]))
    assert scene.track_id == ("car", "7", "7#2")
    assert scene.track_class == ("vehicle", "Car", "person")
    np.testing.assert_array_equal(np.nanmax(scene.state[1:, :, 3], axis=1), [4.5, 0.6])
    assert np.isfinite(scene.state[1:, :, 0]).sum(axis=1).tolist() == [5, 4]
    assert scene.notes["ids that another agent has later, a track of its own"] == 1
    assert not scene.notes["tracks of more than one class, the most frequent taken"]


def test_a_marked_ego_that_is_two_agents_is_followed_in_turn(tmp_path):
    time = np.arange(121) * 0.1
    jump = drive(times=time, x_m=8.0 * time + 150.0 * (time >= 6.0), is_ego=True)
    path, out = written(tmp_path, jump), str(tmp_path / "out.zarr")
    assert prepare("tracks", [path], out, PrepareOptions()).sequences == 4 + 5
    ego = open_sequence_store(out)[0]["ego_pose"].values
    np.testing.assert_allclose(np.diff(ego[..., 0], axis=1), 4.0, atol=1e-6)


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    order = [*range(10), 11, 10, *range(12, len(table))]
    return table.iloc[order]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (drive().drop(columns=["x_m", "class"]), "no class, x_m in"),
        (drive().iloc[:0], "expected rows; got none"),
        (drive(x_m=[*TIMES[:60], np.nan]), "got nothing in column x_m, row 61"),
        (drive(y_m=[*["1.0"] * 60, "NaN"]), "'NaN' in column y_m, row 61"),
        (drive(time_s=["soon", *TIMES[1:]]), "a finite number; got 'soon' in column time_s, row 1"),
        (drive(x_m=np.inf), "'inf' in column x_m, row 1"),
        (drive(yaw_rad=["left", *[0.0] * 60]), "'left' in column yaw_rad, row 1"),
        (drive(yaw_rad=90.0), "yaw in radians .* got 90.0 in column yaw_rad, row 1"),
        (drive(length_m=[4.0, 0.0, *[4.0] * 59]), "above 0; got 0.0 in column length_m, row 2"),
        (drive(width_m=-1.0), "a size above 0; got -1.0 in column width_m"),
        (drive(track_id=[*["a"] * 60, ""]), "a track_id; got nothing in column track_id, row 61"),
        (drive(**{"class": [" ", *["vehicle"] * 60]}), "a class; got ' ' in column class, row 1"),
        (drive(is_ego="maybe"), "true, false, 1 or 0; got 'maybe' in column is_ego"),
        (pd.concat([drive(is_ego=1), drive("b", is_ego=1)]), "one ego a scene; got tracks b, car"),
        (pd.concat([drive(), drive().iloc[-1:]]), "each time of a track once; got 6.0 .* row 62"),
        (swapped(drive()), "times that ascend within a track; got 1.0 in column time_s, row 12"),
        (drive(time_s=TIMES * 1e3), "in seconds.* got 100 from one .* 1e3 .milliseconds"),
        (drive(time_s=TIMES * 1e9), "in seconds.* got 1e\\+08 from one to the next"),
        (drive(time_s=[*TIMES[:30], *TIMES[30:] + 1e5]), "a day at most"),
    ],
)  # fmt: skip
def test_a_faulty_table_is_refused_by_column_and_row(tmp_path, table, message):
    path = written(tmp_path, table)
    (unit,) = Tracks().find([path])  # found all the same: prepare skips and reports it
    with pytest.raises(DataError, match=message) as refused:
        Tracks().read(unit, 0.5)
    assert "drive.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time_s": pd.date_range("2026-01-01", periods=61)}, "numbers in column time_s"),
        ({"x_m": [[1.0]] * 61}, "numbers in column x_m"),
        ({"yaw_rad": [b"0"] * 61}, "numbers in column yaw_rad"),
    ],
)  # fmt: skip
def test_parquet_columns_of_other_types_are_refused(tmp_path, columns, message):
    path = written(tmp_path, drive(**columns), name="drive.parquet")
    with pytest.raises(DataError, match=message):
        Tracks().read(f"{path}#s", 0.5)


def test_an_index_that_pandas_does_not_know_is_refused(tmp_path):
    table = pa.Table.from_pandas(drive().set_index(pd.Index(TIMES, name="row")))
    half = table["row"].cast(pa.float16())
    table = table.set_column(table.column_names.index("row"), "row", half)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet \(float16"):
        Tracks().read(f"{tmp_path}/a.parquet#s", 0.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.csv", b'scene,time_s\n"1,2\n'),
        ("a.csv.gz", b"no gzip"),
        ("a.csv.gz", gzip.compress(b"scene,time_s" * 99, mtime=0)[:-20]),
        ("a.csv.gz", gzip.compress(b"scene,time_s", mtime=0)[:10] + b"\xff" * 40),
        ("a.parquet", b"PAR1 no parquet"),
    ],
)
def test_a_file_that_is_no_table_is_found_and_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    (unit,) = Tracks().find([str(path)])
    with pytest.raises(DataError, match=name):
        Tracks().read(unit, 0.5)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_table_that_is_not_separated_by_commas_is_told_what_it_is(tmp_path, separator, name):
    path = tmp_path / "a.csv"
    drive().to_csv(path, sep=separator, decimal=",", index=False)
    with pytest.raises(DataError, match=f"separated by commas; got one separated by {name} at"):
        Tracks().read(str(path), 0.5)


def test_a_missing_file_or_scene_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nothing at .*none\.csv"):
        Tracks().find([str(tmp_path / "none.csv")])
    path = written(tmp_path, drive())
    with pytest.raises(DataError, match="rows of scene 'other'"):
        Tracks().read(f"{path}#other", 0.5)
    with pytest.raises(DataError, match="path#scene"):
        Tracks().read(path, 0.5)


def test_tables_go_all_the_way_to_a_store_with_their_map(tmp_path):
    written(tmp_path, drive(is_ego=True), drive("b", speed=4.0, y=3.5), name="good.csv")
    written(tmp_path, drive(x_m="?"), name="bad.csv")
    line = '{"type": "LineString", "coordinates": [[-50, 0], [100, 0]]}'
    (tmp_path / "good.map.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", '
        f'"properties": {{"layer": "lane_centre"}}, "geometry": {line}}}]}}'
    )
    output = str(tmp_path / "out.zarr")
    report = prepare("tracks", [str(tmp_path)], output, PrepareOptions(stride=2))
    assert (report.sequences, report.scenes) == (3, 1)
    ((unit, reason),) = report.skipped
    assert unit.endswith("bad.csv#s")
    assert "column x_m, row 1" in reason
    dataset, meta = open_sequence_store(output)
    assert meta.source == "tracks"
    assert dataset["map"].sel(map_layer="lane_centre").values.any()
    np.testing.assert_allclose(
        dataset["ego_pose"][:, :, 0], np.tile(np.arange(-2, 7) * 4.0, (3, 1))
    )
    state = dataset["track_state"].values
    moving = np.nanmax(np.abs(np.diff(state[..., 0], axis=2)), axis=2)
    assert {2.0, 4.0} <= set(np.unique(np.round(moving, 4)))


@pytest.mark.parametrize(("folder", "scene", "warned"), [("", "s", 1), ("b", "s", 0), ("", "t", 0)])
def test_a_scene_in_parts_over_tables_of_a_folder_is_warned_of(tmp_path, folder, scene, warned):
    (tmp_path / folder).mkdir(exist_ok=True)
    written(tmp_path, drive(is_ego=True), name="part-0.csv")
    written(tmp_path / folder, drive("b", y=3.5, scene=scene), name="part-1.csv")
    report = prepare("tracks", [str(tmp_path)], str(tmp_path / "out.zarr"), PrepareOptions())
    assert report.scenes == 2
    assert len(report.warnings) == warned
    assert all("if it is one, put its rows into one" in line for line in report.warnings)
    assert all("(s: part-0.csv, part-1.csv)" in line for line in report.warnings)
