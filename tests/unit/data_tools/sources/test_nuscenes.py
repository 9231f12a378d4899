"""The nuscenes source: from tables full of tokens to scenes."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from data_tools.sources.nuscenes import NuScenes
from data_tools.sources.nuscenes_map import arc_line, read_map
from forecast.angles import wrap_angle
from forecast.errors import ConfigError, DataError
from forecast.storage.stores import open_sequence_store
from tests.support.fuzz import damaged, documents, fuzzed
from tests.support.nuscenes import (
    CAR,
    EGO,
    FRAMES,
    map_expansion,
    version,
    write_map,
    write_version,
)
from tests.support.recordings import assert_read_or_refused
from tests.support.stores import Mover

WAY = np.array([[400.0, 1100.0], [420.0, 1100.0]])


def read(root, tables=None, dt_s=0.5, **settings):
    return NuScenes(**settings).read(f"{write_version(root, tables)}#scene-0061", dt_s)


def test_boxes_and_ego_are_those_of_the_keyframes(tmp_path):
    made = read(tmp_path)
    assert made.name == "scene-0061"
    assert made.track_class == ("vehicle.car",)
    np.testing.assert_allclose(made.time_s, 0.5 * np.arange(FRAMES))
    for found, mover in ((made.state[0, :, :3], CAR), (made.ego_pose, EGO)):
        truth = mover.state(made.time_s)
        np.testing.assert_allclose(found[:, :2], truth[:, :2])
        np.testing.assert_allclose(wrap_angle(found[:, 2] - truth[:, 2]), 0.0, atol=1e-9)
    # The table has width before length.
    np.testing.assert_allclose(made.state[0, :, 3:], [[4.5, 2.0]] * FRAMES)
    assert made.map == ()


def every(step_us, tables=None):
    """The tables with other times between keyframes, one or one after the other."""
    tables = tables or version()
    times = np.cumsum(np.resize(step_us, len(tables["sample"])))
    for sample, time in zip(tables["sample"], times, strict=True):
        sample["timestamp"] = int(time)
    return tables


@pytest.mark.parametrize(
    ("step_s", "dt_s", "frames"), [(0.4, 0.4, 1), (0.6, 0.6, 1), (0.1, 0.5, 5)]
)
def test_keyframes_of_another_rate_keep_their_own_step(tmp_path, step_s, dt_s, frames):
    made = read(tmp_path, every(round(step_s * 1e6)), dt_s=dt_s)
    np.testing.assert_allclose(made.time_s, dt_s * np.arange(len(made.time_s)))
    truth = CAR.state(0.5 * frames * np.arange(len(made.time_s)))  # by frame, not by time
    np.testing.assert_allclose(made.state[0, :, :2], truth[:, :2])


@pytest.mark.parametrize("step_s", [0.4, 0.44, 0.56, 0.6])
def test_keyframes_of_another_rate_are_not_taken_as_half_a_second_apart(tmp_path, step_s):
    with pytest.raises(DataError, match=rf"divides 0\.5 s; got {step_s} s"):
        read(tmp_path, every(round(step_s * 1e6)))


def test_keyframes_that_are_half_a_second_apart_only_now_and_then_are_refused(tmp_path):
    with pytest.raises(DataError, match="on average"):
        read(tmp_path, every([620_000] * 6 + [460_000] * 6))


def test_keyframes_by_a_clock_of_whole_sweeps_are_half_a_second_apart(tmp_path):
    made = read(tmp_path, every([450_000, 450_000, 550_000, 550_000]))
    np.testing.assert_allclose(made.time_s, 0.5 * np.arange(FRAMES))


def test_a_version_of_which_one_table_changed_is_read_again(tmp_path):
    assert read(tmp_path).track_class == ("vehicle.car",)
    table = tmp_path / "v1.0-mini" / "category.json"
    table.write_text(table.read_text().replace('"name": "vehicle.car"', '"name": "vehicle.truck"'))
    assert NuScenes().read(f"{table.parent}#scene-0061", 0.5).track_class == ("vehicle.truck",)


def test_every_scene_of_every_version_is_found_from_the_root_down(tmp_path):
    agents = {"car": ("vehicle.car", CAR)}
    mini = write_version(tmp_path, version({"scene-0061": agents, "scene 2#": agents}))
    rest = write_version(tmp_path, name="v1.0-trainval")
    expected = [f"{mini}#scene-0061", f"{mini}#scene%202%23"]
    assert NuScenes().find([mini]) == expected
    assert NuScenes().find([str(tmp_path)]) == [*expected, f"{rest}#scene-0061"]
    assert NuScenes().find([f"{mini}/scene.json"]) == expected
    assert NuScenes().read(expected[1], 0.5).name == "scene 2#"
    assert NuScenes().read(f"file://{expected[0]}", 0.5).name == "scene-0061"


def test_a_place_without_a_version_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a nuScenes version"):
        NuScenes().find([str(tmp_path)])


def test_boxes_less_visible_than_asked_for_are_left_out_and_counted(tmp_path):
    tables = version()
    for box in tables["sample_annotation"][:3]:
        box["visibility_token"] = "1"
    assert np.isfinite(read(tmp_path, tables).state[0, :, 0]).all()
    made = read(tmp_path, tables, min_visibility=2)
    assert np.flatnonzero(np.isnan(made.state[0, :, 0])).tolist() == [0, 1, 2]
    assert made.notes["boxes less visible than asked for"] == 3


def test_hardly_visible_boxes_stay_in_the_tracks_and_are_marked(tmp_path):
    tables = version()
    for box, level in zip(tables["sample_annotation"][:3], "121", strict=True):
        box["visibility_token"] = level
    made = read(tmp_path, tables)
    assert np.isfinite(made.state[0, :, 0]).all()
    assert np.flatnonzero(made.hidden[0]).tolist() == [0, 2]


def test_settings_come_from_text_and_are_checked():
    assert source("nuscenes", {"min_visibility": "2"}) == NuScenes(min_visibility=2)
    for wrong in ({"min_visibility": "5"}, {"min_visibility": "much"}, {"visible": "2"}):
        with pytest.raises(ConfigError, match="correct --set"):
            source("nuscenes", wrong)
    with pytest.raises(ConfigError, match="a setting: none"):
        source("waymo-json", {"min_visibility": "2"})


def test_a_store_has_its_classes_its_settings_and_its_map(tmp_path):
    agents = {
        "car": ("vehicle.car", CAR),
        "walker": ("human.pedestrian.adult", Mover(405, 1104)),
        "bike": ("vehicle.bicycle", Mover(405, 1096)),
        "cone": ("movable_object.trafficcone", Mover(400, 1100)),
    }
    write_version(tmp_path, version({"scene-0061": agents}))
    write_map(tmp_path)
    out = str(tmp_path / "out.zarr")
    options = PrepareOptions(
        map_classes=(("vehicle.car", "car"),),
        classes=("car", "pedestrian", "cyclist"),
        settings=(("min_visibility", "2"),),
    )
    prepare("nuscenes", [str(tmp_path)], out, options)
    dataset, _ = open_sequence_store(out)
    assert sorted(dataset["track_class"].values[0]) == [1, 2, 3]
    assert dataset.attrs["notes"] == {
        "agents human.pedestrian.adult, kept as pedestrian": 1,
        "agents movable_object.trafficcone, left out": 1,
        "agents vehicle.bicycle, kept as cyclist": 1,
        "agents vehicle.car, kept as car": 1,
    }
    assert dataset["map"].sel(map_layer="lane_centre").values.any()


def test_a_keyframe_that_is_missing_leaves_a_gap(tmp_path):
    tables = version()
    tables["sample"][4]["next"] = tables["sample"][6]["token"]
    del tables["sample"][5]
    tables["scene"][0]["nbr_samples"] = FRAMES - 1
    made = read(tmp_path, tables)
    assert np.flatnonzero(np.isnan(made.ego_pose[:, 0])).tolist() == [5]
    assert np.isnan(made.state[0, 5]).all()


# The map expansion.


def test_the_map_around_the_way_is_read_with_holes_and_without_what_is_far(tmp_path):
    elements = read_map(str(write_map(tmp_path)), WAY)
    kinds = Counter(element.layer for element in elements)
    assert kinds["lane_centre"] == 2
    assert kinds["crosswalk"] == 1
    assert kinds["road_edge"] == 2  # the outer edge and the hole's
    drivable = [shapely.Polygon(e.points) for e in elements if e.layer == "drivable"]
    assert sum(polygon.area for polygon in drivable) == pytest.approx(60 * 40 - 10 * 10)
    assert not any(polygon.contains(shapely.Point(405, 1109)) for polygon in drivable)
    assert max(element.points[:, 0].max() for element in elements) < 1000


def test_arcs_bend_to_the_side_and_by_the_length_that_they_say():
    quarter = 10.0 * np.pi / 2
    left = {"start_pose": [0.0, 0.0, 0.0], "shape": "LSR", "radius": 10.0}
    line = arc_line([left | {"segment_length": [quarter, 5.0, quarter]}])
    np.testing.assert_allclose(line[0], [0, 0])
    np.testing.assert_allclose(line[-1], [20, 25], atol=1e-9)
    radius = np.linalg.norm(line[line[:, 1] < 10] - [0, 10], axis=1)
    np.testing.assert_allclose(radius, 10.0)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).max() <= 2.0


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        map_expansion(node=[]),
        map_expansion(polygon=[{"token": "area"}]),
        map_expansion(node=[{"token": "area0", "x": float("nan"), "y": 0}]),
        map_expansion(arcline_path_3={"lane": [{"start_pose": [0, 0, 0]}]}),
        map_expansion(
            arcline_path_3={
                "lane": [
                    {
                        "start_pose": [0, 0, 0],
                        "shape": "LSR",
                        "radius": 0.0,
                        "segment_length": [1, 1, 1],
                    }
                ]
            }
        ),
        map_expansion(
            arcline_path_3={
                "lane": [
                    {
                        "start_pose": [0, 0, 0],
                        "shape": "SSS",
                        "radius": 9.0,
                        "segment_length": [1e30, 1, 1],
                    }
                ]
            }
        ),
    ],
)
def test_a_map_of_another_shape_is_refused(tmp_path, content):
    path = write_map(tmp_path, content)
    with pytest.raises(DataError, match=r"singapore-onenorth\.json"):
        read_map(str(path), WAY)


# Bad input.


def change(table, place, **fields):
    tables = version()
    tables[table][place] |= fields
    return tables


def twice(table):
    tables = version()
    tables[table].append(tables[table][0])
    return tables


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (change("sample_annotation", 2, translation=[0, float("nan"), 0]), "record 3 of .*_annot"),
        (change("sample_annotation", 2, size=[1.0, 2.0]), "record 3 of .*sample_annotation"),
        (change("sample_annotation", 2, size="big"), "record 3 of .*sample_annotation"),
        (change("sample_annotation", 2, rotation=[0, 0, 0, 0]), "quaternion"),
        (change("sample_annotation", 2, visibility_token="9"), "record 3 of .*sample_annotation"),
        (change("sample_annotation", 2, instance_token="none"), "every instance; got none of none"),
        (
            change("sample_annotation", 2, sample_token="scene-0061-sample-1"),
            "track scene-0061-car",
        ),
        (change("ego_pose", 3, translation=[1e300, 0, 0]), "record 4 of .*ego_pose"),
        (change("ego_pose", 3, token="other"), "an ego pose .*scene-0061-sample-1"),
        (change("sample_data", 3, is_key_frame=False), "an ego pose .*scene-0061-sample-1"),
        (change("sample", 3, timestamp=0), "s apart"),
        (change("sample", 3, timestamp=float("inf")), "record 4 of .*sample.json"),
        (change("sample", 3, timestamp=10**400), "record 4 of .*sample.json"),
        (change("sample", 3, next="none"), "12 samples of the scene.*'none' after 4"),
        (change("sample", 3, next=""), "12 samples; got 4"),
        (change("sample", 3, next="scene-0061-sample-0"), "12 samples of the scene"),
        (change("sample", 3, scene_token="other"), "12 samples of the scene"),
        (change("log", 0, location="../../secret"), r"location; got '\.\./\.\./secret'"),
        (change("log", 0, location=3), "record 1 of .*log.json"),
        (change("log", 0, token="other"), "location"),
        (change("instance", 0, category_token="none"), "record 1 of .*instance.json"),
        (change("calibrated_sensor", 0, sensor_token="x"), "record 1 of .*calibrated_sensor"),
        (version() | {"sample_annotation": []}, "agents; got none"),
        (version() | {"sample": {}}, "sample.json"),
        (version() | {"sample": [3]}, "sample.json"),
        (twice("sample"), "'scene-0061-sample-0' twice"),
        (twice("scene"), "'scene-0061' twice"),
        (twice("sample_data"), "'scene-0061-sample-0' twice"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, tables, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, tables)


@pytest.mark.parametrize("name", sorted(set(version()) - {"attribute"}))
@pytest.mark.parametrize("content", [None, b"", b'[{"token": "a"', b"[" * 100_000, b"\xff" * 1000])
def test_a_table_that_is_missing_or_junk_is_named(tmp_path, name, content):
    path = Path(write_version(tmp_path)) / f"{name}.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=rf"/{name}\.json"):
        NuScenes().read(f"{path.parent}#scene-0061", 0.5)


def test_a_version_without_readable_scenes_is_a_unit_that_says_why(tmp_path):
    folder = write_version(tmp_path)
    Path(folder, "scene.json").write_text("[")
    assert NuScenes().find([folder]) == [folder]
    with pytest.raises(DataError, match=r"scene\.json"):
        NuScenes().read(folder, 0.5)


def test_one_faulty_scene_costs_no_other(tmp_path):
    agents = {"car": ("vehicle.car", CAR)}
    tables = version({"scene-0061": agents, "scene-0103": agents})
    tables["sample"][3]["next"] = ""
    write_version(tmp_path, tables)
    report = prepare("nuscenes", [str(tmp_path)], str(tmp_path / "out.zarr"), PrepareOptions())
    assert (report.scenes, len(report.skipped)) == (1, 1)
    assert report.skipped[0][0].endswith("#scene-0061")


@fuzzed
@given(st.data())
def test_any_damage_gives_a_scene_or_one_error(tmp_path, data):
    folder = Path(write_version(tmp_path))
    maps = write_map(tmp_path)
    victim = data.draw(st.sampled_from([*sorted(folder.glob("*.json")), maps]))
    victim.write_bytes(data.draw(damaged(victim.read_bytes())))
    assert_read_or_refused(NuScenes(), f"{folder}#scene-0061", str(tmp_path))


NAMES = ("node", "polygon", "arcline_path_3", "drivable_area", "ped_crossing", "token", "x", "y")


@fuzzed
@given(documents(*NAMES, "start_pose", "shape", "radius", "segment_length", "holes"))
def test_any_json_gives_a_map_or_one_error(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(content))
    with suppress(DataError):
        assert all(np.isfinite(e.points).all() for e in read_map(str(path), WAY))
