"""Each preset of the package against another reading of the same files, by the csv module.

Only INTERACTION's files are recordings. The others are written here as their publishers describe
them: argoverse.org and its API, apolloscape.auto/trajectory.html, the TrajNet challenge, the data
dictionary of NGSIM at data.transportation.gov, and Format.md of SinD.
"""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.sources import source
from data_tools.sources.presets import Preset
from data_tools.sources.tracks import Tracks
from data_tools.sources.tracks_table import scene_table
from forecast.angles import wrap_angle
from forecast.errors import DataError
from tests.support.fuzz import damaged, fuzzed
from tests.support.presets import FOOT_M, NGSIM, ngsim_rows
from tests.support.recordings import assert_read_or_refused, needs, recording
from tests.support.tables import assert_seen_where_rows_are, drives, read, rows_of, state_at

ARGOVERSE = "TIMESTAMP,TRACK_ID,OBJECT_TYPE,X,Y,CITY_NAME"


@needs("interaction_csv")
@pytest.mark.parametrize("number", ["000", "003", "004", "008", "013"])
def test_interaction(tmp_path, number):
    name = f"k729_vehicle_tracks_{number}.csv"
    path = tmp_path / name  # alone, without its map
    path.write_bytes((recording("interaction_csv") / name).read_bytes())
    scene = read("interaction", tmp_path, dt_s=0.1)
    assert scene.name == name
    rows = rows_of(path)
    kinds, sizes = {}, defaultdict(list)
    for row in rows:
        state = state_at(scene, row["track_id"], int(row["timestamp_ms"]) / 1000)
        assert state[:2] == pytest.approx((float(row["x"]), float(row["y"])), abs=1e-9)
        assert abs(wrap_angle(state[2] - float(row["psi_rad"]))) < 1e-9
        kinds[row["track_id"]] = row["agent_type"]
        sizes[row["track_id"]].append((float(row["length"]), float(row["width"])))
    assert dict(zip(scene.track_id, scene.track_class, strict=True)) == kinds
    for track, size in sizes.items():
        known = scene.state[scene.track_id.index(track), :, 3:]
        assert np.nanmax(known, axis=0) == pytest.approx(np.median(size, axis=0))
    ends = [int(row["timestamp_ms"]) for row in rows]
    assert len(scene.time_s) == (max(ends) - min(ends)) // 100 + 1


def test_interaction_with_pedestrians_in_a_table_of_their_own(tmp_path):
    header = "track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"
    path = drives(2, 30)
    vehicles = [f"{header},psi_rad,length,width"]
    walkers = [header]
    for frame in range(30):
        x, y, yaw = path[0, frame]
        vx, vy = 10 * (path[0, min(frame + 1, 29), :2] - path[0, min(frame, 28), :2])
        vehicles.append(f"1,{frame + 1},{100 * frame + 100},car,{x},{y},{vx},{vy},{yaw},4.4,1.8")
        walkers.append(
            f"P1,{frame + 1},{100 * frame + 100},pedestrian/bicycle,{0.1 * frame},5,1.0,0.0"
        )
    (tmp_path / "vehicle_tracks_007.csv").write_text("\n".join(vehicles))
    (tmp_path / "pedestrian_tracks_007.csv").write_text("\n".join(walkers))
    scene = read("interaction", tmp_path, dt_s=0.1)
    assert_seen_where_rows_are(scene, {"1": 30, "P1": 30})
    assert scene.track_class == ("car", "pedestrian")
    assert state_at(scene, "P1", 1.6)[:3] == pytest.approx([1.5, 5.0, 0.0], abs=1e-2)
    assert np.isnan(scene.state[1, :, 3:]).all(), "its size is left to its class"
    assert state_at(scene, "1", 1.6) == pytest.approx([*path[0, 15], 4.4, 1.8])

    (tmp_path / "pedestrian_tracks_007.csv").write_text("\n".join([*walkers, walkers[1]]))
    with pytest.raises(DataError, match=r"row 31 of .*/pedestrian_tracks_007\.csv"):
        read("interaction", tmp_path, dt_s=0.1)
    (tmp_path / "pedestrian_tracks_007.csv").write_text("\n".join(walkers).replace("P1", "1"))
    with pytest.raises(DataError, match=r"ids of their own.* got track_id '1', which .*vehicle"):
        read("interaction", tmp_path, dt_s=0.1)


def test_argoverse1(tmp_path):
    kinds = ["AV", "AGENT", "OTHERS"]
    start = 315968663.4598101
    lines = [ARGOVERSE]
    for frame in range(50):
        for agent, kind in enumerate(kinds):
            x, y, _ = drives(3, 50)[agent, frame]
            lines.append(f"{start + 0.1 * frame},0000-{agent},{kind},{x + 400},{y + 1100},PIT")
    path = tmp_path / "12345.csv"
    path.write_text("\n".join(lines))
    scene = read("argoverse1", path, dt_s=0.1)
    for row in rows_of(path):
        state = state_at(scene, row["TRACK_ID"], float(row["TIMESTAMP"]))
        assert state[:2] == pytest.approx((float(row["X"]), float(row["Y"])), abs=1e-5)
    assert_seen_where_rows_are(scene, {"0000-0": 50, "0000-1": 50, "0000-2": 50})
    assert scene.track_class == ("vehicle",) * 3
    assert [scene.track_id[place] for place in scene.ego_tracks] == ["0000-0"]
    moving = np.abs(wrap_angle(scene.state[:, 20:, 2] - drives(3, 50)[:, 20:, 2]))
    assert np.median(moving) < 0.02, "headings come from the motion"


def test_apolloscape(tmp_path):
    types = {1: "car", 2: "truck", 3: "pedestrian", 4: "cyclist", 5: "other"}
    header = "frame_id,object_id,object_type,position_x,position_y,position_z,object_length"
    header += ",object_width,object_height,heading"
    lines = []
    for frame in range(12):
        for kind in types:
            x, y, yaw = drives(5, 60)[kind - 1, 5 * frame]
            lines.append(f"{frame + 3} {40 + kind} {kind} {x:.3f} {y:.3f} -3.5 4.{kind} 1.{kind} 2")
            lines[-1] += f" {yaw:.3f} "
    path = tmp_path / "result_9048_1_frame.txt"
    path.write_text("\n".join(lines))
    scene = read("apolloscape", tmp_path, dt_s=0.5)
    for row in rows_of(path, header, " "):
        state = state_at(scene, row["object_id"], int(row["frame_id"]) / 2)
        wanted = ("position_x", "position_y", "heading", "object_length", "object_width")
        assert state == pytest.approx([float(row[name]) for name in wanted], abs=1e-9)
        kind = scene.track_class[scene.track_id.index(row["object_id"])]
        assert kind == types[int(row["object_type"])]
    assert_seen_where_rows_are(scene, {str(40 + kind): 12 for kind in types})
    assert len(scene.time_s) == 12


@pytest.mark.parametrize(
    ("first", "step", "between"), [(780, 6, "\t"), (0, 12, " "), (3, 10, "  ")]
)
def test_trajnet(tmp_path, first, step, between):
    lines = []
    for frame in range(20):
        for walker in range(3):
            if (walker, frame) in [(0, 7), (0, 8), (0, 9)]:
                continue  # out of sight for 1.6 s
            x, y, _ = drives(3, 80)[walker, 4 * frame] / 8
            lines.append(between.join(map(str, (first + step * frame, f"{walker + 1}.0", x, y))))
    path = tmp_path / "biwi_eth.txt"
    path.write_text("\n".join(lines))
    scene = read("trajnet", path, dt_s=0.4)
    for row in rows_of(path, "frame,ped,x,y", " "):
        since_s = 0.4 * (int(row["frame"]) - first) / step
        state = state_at(scene, row["ped"], scene.time_s[0] + since_s)
        assert state[:2] == pytest.approx((float(row["x"]), float(row["y"])), abs=1e-9)
    assert_seen_where_rows_are(scene, {"1.0": 17, "2.0": 20, "3.0": 20})
    assert set(scene.track_class) == {"pedestrian"}
    assert len(scene.time_s) == 20
    path.write_text("\n".join([*lines, f"{first + 20 * step} 3.0 ? ?"]))
    with pytest.raises(DataError, match=r"a finite number; got '\?' in column x, row 58 of"):
        read("trajnet", path, dt_s=0.4)


@pytest.mark.parametrize("text", [False, True])
def test_ngsim(tmp_path, text):
    rows = ngsim_rows()
    if text:
        path = tmp_path / "trajectories-0750am-0805am.txt"
        path.write_text("\n".join("   ".join(map(str, row)) for row in rows))
        found = rows_of(path, NGSIM, " ")
    else:
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
        rows.append(rows[3])  # the published table has rows twice
        path = tmp_path / "us-101.csv"
        header = f"{NGSIM},Location".replace("v_Length", "v_length")
        path.write_text(
            "\n".join([header, *(",".join(map(str, [*row, "us-101"])) for row in rows)])
        )
        found = rows_of(path)
    scene = read("ngsim-txt" if text else "ngsim", path, dt_s=0.1)
    assert scene.name == path.name + ("" if text else "#us-101")
    for row in found:
        if row["Vehicle_ID"] == "6":  # straight along y: the centre is half a length behind
            state = state_at(scene, "6", int(row["Global_Time"]) / 1000)
            y = (float(row["Local_Y"]) - 52.0 / 2) * FOOT_M
            assert state[:2] == pytest.approx((float(row["Local_X"]) * FOOT_M, y), abs=0.02)
            assert state[2:] == pytest.approx([math.pi / 2, 52.0 * FOOT_M, 8.5 * FOOT_M], abs=1e-3)
    for number, length in ((0, 14.5), (2, 7.2)):  # in bends the front leads beside the heading
        centre = scene.state[scene.track_id.index(str(5 + number)), :, :2]
        off = np.hypot(*(centre - drives(3, 40, seed=4)[number, :, :2]).T)
        assert np.median(off) < length * FOOT_M / 2 / 5
    assert_seen_where_rows_are(scene, {"5": 40, "6": 40, "7": 40})
    kinds = dict(zip(scene.track_id, scene.track_class, strict=True))
    assert kinds == {"5": "car", "6": "truck", "7": "motorcycle"}


def test_what_was_seen_of_a_front_is_moved_by_the_heading_known_then(tmp_path):
    path = tmp_path / "trajectories.txt"
    path.write_text("\n".join(" ".join(map(str, row)) for row in ngsim_rows()))
    origin = source("tracks", {}, "ngsim-txt")
    (unit,) = origin.find([str(path)])
    whole = origin.read(unit, 0.1)
    path.write_text("\n".join(" ".join(map(str, row)) for row in ngsim_rows()[:60]))
    half = origin.read(unit, 0.1)
    assert whole.observed is not None
    assert half.observed is not None
    np.testing.assert_allclose(whole.observed.state[:, :20], half.observed.state[:, :20])


def test_ngsim_of_one_recording_is_a_scene_named_after_its_file(tmp_path):
    path = tmp_path / "trajectories-0400-0415.csv"
    path.write_text("\n".join([NGSIM, *(",".join(map(str, row)) for row in ngsim_rows())]))
    scene = read("ngsim", path, dt_s=0.1)
    assert scene.name == "trajectories-0400-0415.csv"
    assert len(scene.track_id) == 3


def test_sind(tmp_path):
    kinds = ["car", "truck", "bus", "motorcycle", "bicycle", "tricycle"]
    header = "track_id,frame_id,timestamp_ms,agent_type,x,y,vx,vy"
    vehicles = [f"{header},yaw_rad,heading_rad,length,width,ax,ay,v_lon,v_lat,a_lon,a_lat"]
    walkers = [f"{header},ax,ay"]
    ms = 1000 * 3 / 29.97
    path = drives(6, 50)
    for number, kind in enumerate(kinds):
        for frame in range(50):
            x, y, yaw = path[number, frame]
            velocity = (path[number, 1, :2] - path[number, 0, :2]) * 10
            speed = np.hypot(*velocity)
            vehicles.append(
                f"{number + 1},{frame},{frame * ms},{kind},{x},{y},{speed * math.cos(yaw)},"
                f"{speed * math.sin(yaw)},{yaw},{yaw + 0.02},{4 + number},{1.5 + number / 10}"
                ",0,0,0,0,0,0"
            )
    for frame in range(50):
        walkers.append(f"P1,{frame},{frame * ms},pedestrain,{0.1 * frame},3.0,1.0,0.0,0,0")
    folder = tmp_path / "8_2_1"
    folder.mkdir()
    (folder / "Veh_smoothed_tracks.csv").write_text("\n".join(vehicles))
    (folder / "Ped_smoothed_tracks.csv").write_text("\n".join(walkers))
    scene = read("sind", tmp_path, dt_s=ms / 1000)
    for row in rows_of(folder / "Veh_smoothed_tracks.csv"):
        state = state_at(scene, row["track_id"], float(row["timestamp_ms"]) / 1000)
        wanted = [float(row[name]) for name in ("x", "y", "yaw_rad", "length", "width")]
        assert state == pytest.approx(wanted, abs=1e-6)
    named = ("car", "truck", "bus", "motorcycle", "bicycle", "cyclist", "pedestrian")
    assert scene.track_class == named
    assert_seen_where_rows_are(scene, dict.fromkeys([*"123456", "P1"], 50))
    assert state_at(scene, "P1", 20 * ms / 1000)[:2] == pytest.approx([2.0, 3.0])


@pytest.mark.parametrize(
    ("preset", "name", "content", "expected"),
    [
        ("argoverse1", "a.csv", "TIMESTAMP,TRACK_ID,X,Y\n0,1,2,3\n", "no OBJECT_TYPE in"),
        ("argoverse1", "a.csv", "TIMESTAMP;TRACK_ID\n", "one separated by semicolons at"),
        ("trajnet", "a.txt", "1,2,3,4\n5,6,7,8\n", "rows of 4 fields between white space.*got 1"),
        ("apolloscape", "a.txt", "1 2 3 4\n", "rows of 10 fields .* got 4 in the first row"),
        ("trajnet", "a.txt", "1 2 3 4\n1 2 3\n", "a finite number; got nothing in column y, row 2"),
        ("trajnet", "a.txt", "1 2 3 4\n1 2 3 4 5\n", "a.txt"),
        ("trajnet", "a.txt", "", "a.txt"),
        ("argoverse1", "a.csv", f"{ARGOVERSE}\n0,1,AV,2,3,P\n1,1,AV,2,5,3,P\n", "in line 3, saw 7"),
        ("ngsim", "a.csv", "Vehicle_ID\n1\n", "no v_Class, Global_Time, Local_X, "),
        ("sind", "a.csv", "track_id,vx\n", "columns track_id, agent_type, timestamp_ms, x, y"),
        ("ngsim", "a.parquet", "no parquet", "a CSV or Parquet table; got .*a.parquet"),
    ],
)
def test_tables_of_another_kind_are_refused(tmp_path, preset, name, content, expected):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=expected):
        read(preset, tmp_path / name, dt_s=0.5)


def test_a_unit_that_is_wrong_is_noticed(tmp_path):
    path = tmp_path / "us-101.csv"
    rows = [",".join(map(str, row)) for row in ngsim_rows()]
    path.write_text("\n".join([NGSIM, *rows]))
    said = source("tracks", {}, "ngsim").preset.model_dump(by_alias=True)  # type: ignore[attr-defined]
    said["columns"]["time_s"] = {"column": "Global_Time"}
    with pytest.raises(DataError, match=r"time_s in seconds.* divide time_s by 1e3"):
        scene_table(str(path), None, Preset.model_validate(said))
    said["columns"]["time_s"] = {"column": "Global_Time", "unit": "ms"}
    said["columns"]["speed_mps"]["unit"] = "m/s"
    origin = Tracks(preset=Preset.model_validate(said))
    with pytest.raises(DataError, match=r"speed_mps in metres a second; got 3\.3 times"):
        origin.read(origin.find([str(path)])[0], 0.5)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("8,100,2.0,0,-14.5,3", r"a size above 0; got -14\.5 ft in column long, row 3 of .*a\.csv"),
        ("8,100,2.0,0,14.5,9e3", r"up to 1000 m/s; got 9000\.0 km/h in column fast, row 3 of"),
        ("8,100,2.0,5000,14.5,3", r"yaw within four turns; got 5000\.0 deg in column turn, row 3"),
        ("7,200,2.0,0,14.5,3", r"each time of a track once; got 200\.0 ms in column t, row 3 of"),
    ],
)
def test_what_is_wrong_is_quoted_as_the_file_has_it(tmp_path, columns, expected):
    path = tmp_path / "a.csv"
    path.write_text(f"id,t,x,turn,long,fast\n7,100,1.0,90,14.5,3\n7,200,2.0,90,14.5,3\n{columns}")
    said = {
        "track_id": "id",
        "class": {"value": "car"},
        "time_s": {"column": "t", "unit": "ms"},
        "x_m": {"column": "x", "unit": "ft"},
        "y_m": {"column": "x", "unit": "ft"},
        "yaw_rad": {"column": "turn", "unit": "deg"},
        "length_m": {"column": "long", "unit": "ft"},
        "speed_mps": {"column": "fast", "unit": "km/h"},
    }
    with pytest.raises(DataError, match=expected):
        scene_table(str(path), None, Preset.model_validate({"files": ["*"], "columns": said}))


def test_columns_of_an_unpublished_kind_are_found_in_parquet_too(tmp_path):
    import pandas as pd

    pd.DataFrame({"ID": [1, 1], "t": [0, 1], "X": [0.0, 1.0], "y": [0.0, 0.0]}).to_parquet(
        tmp_path / "a.parquet"
    )
    said = {"track_id": "id", "class": {"value": "car"}, "time_s": "t", "x_m": "x", "y_m": "y"}
    preset = Preset.model_validate({"files": ["*"], "any_case": True, "columns": said})
    table = scene_table(str(tmp_path / "a.parquet"), None, preset)
    assert table["x_m"].tolist() == [0.0, 1.0]
    assert table["track_id"].tolist() == ["1", "1"]


def test_numbers_of_classes_are_whole_however_parquet_holds_them(tmp_path):
    import pandas as pd

    one = {"id": [7.0, 7.0], "kind": [2.0, 2.0], "t": [0, 1], "x": [0.0, 1.0], "y": [0.0, 0.0]}
    pd.DataFrame(one).to_parquet(tmp_path / "a.parquet")
    said = {"track_id": "id", "class": "kind", "time_s": "t", "x_m": "x", "y_m": "y"}
    preset = Preset.model_validate({"files": ["*"], "classes": {"2": "car"}, "columns": said})
    table = scene_table(str(tmp_path / "a.parquet"), None, preset)
    assert table["class"].tolist() == ["car", "car"]
    assert table["track_id"].tolist() == ["7", "7"]
    pd.DataFrame(one | {"id": [1e300, 1e300]}).to_parquet(tmp_path / "b.parquet")
    table = scene_table(str(tmp_path / "b.parquet"), None, preset)
    assert table["track_id"].tolist() == ["1e+300", "1e+300"]


@given(
    degrees=st.floats(-720, 720),
    zero=st.sampled_from("xy"),
    turn=st.sampled_from(["clockwise", "counterclockwise"]),
    down=st.booleans(),
    unit=st.sampled_from(["m", "cm", "ft"]),
)
@settings(deadline=None, max_examples=60)
def test_headings_lead_the_way_that_their_table_says(
    tmp_path_factory, degrees, zero, turn, down, unit
):
    """A vehicle drives the way that its heading says on the table's own axes."""
    radians = math.radians(-degrees if turn == "clockwise" else degrees)
    way = (math.cos(radians), math.sin(radians))
    if zero == "y":
        way = (-way[1], way[0])  # a quarter to the left of what it would be from x
    path = tmp_path_factory.getbasetemp() / "heading.csv"
    rows = [f"1,{t},{way[0] * t!r},{way[1] * t!r},{degrees!r}" for t in range(1, 4)]
    path.write_text("\n".join(["id,t,x,y,heading", *rows]))
    said = {
        "track_id": "id",
        "class": {"value": "vehicle"},
        "time_s": {"column": "t", "frames_per_s": 4},
        "x_m": {"column": "x", "unit": unit},
        "y_m": {"column": "y", "unit": unit},
        "yaw_rad": {"column": "heading", "unit": "deg", "zero": zero, "turn": turn},
        "length_m": {"value": 4.0},
    }
    preset = Preset.model_validate({"files": ["*.csv"], "y_down": down, "columns": said})
    table = scene_table(str(path), None, preset)
    moved = np.array([np.diff(table[name])[0] for name in ("x_m", "y_m")])
    assert np.hypot(*moved) == pytest.approx({"m": 1.0, "cm": 0.01, "ft": 0.3048}[unit])
    assert abs(wrap_angle(np.arctan2(moved[1], moved[0]) - table["yaw_rad"][0])) < 1e-6
    assert table["time_s"].tolist() == [0.25, 0.5, 0.75]
    assert table["length_m"].tolist() == [4.0] * 3


@given(data=st.data(), preset=st.sampled_from(["trajnet", "ngsim", "ngsim-txt"]))
@fuzzed
def test_a_damaged_table_is_read_or_refused_with_its_name(tmp_path_factory, data, preset):
    folder = tmp_path_factory.mktemp("damaged")
    rows = ngsim_rows(12)
    if preset == "ngsim":
        content = "\n".join([NGSIM, *(",".join(map(str, row)) for row in rows)])
    else:
        places = (1, 0, 4, 5) if preset == "trajnet" else range(len(rows[0]))
        content = "\n".join(" ".join(str(row[place]) for place in places) for row in rows)
    path = folder / "table.csv"
    path.write_bytes(data.draw(damaged(content.encode())))
    origin = source("tracks", {}, preset)
    for unit in origin.find([str(path)])[:2]:
        assert_read_or_refused(origin, unit, "table.csv", 0.4)
