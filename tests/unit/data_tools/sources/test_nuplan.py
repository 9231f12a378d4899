"""The nuplan source: logs in the published tables, read by SQL of the tests' own to compare."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from data_tools.formats import databases
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import source
from data_tools.sources.nuplan import NuPlan
from forecast.angles import wrap_angle
from forecast.errors import ConfigError, DataError
from forecast.storage.stores import open_sequence_store
from tests.support.fuzz import fuzzed
from tests.support.mutation import mutated
from tests.support.nuplan import (
    CAR,
    CENTRE,
    EGO,
    FRAMES,
    START_US,
    WALKER,
    city,
    scene_token,
    times_us,
    write_log,
    write_map,
)
from tests.support.recordings import assert_read_from_elsewhere, assert_read_or_refused
from tests.support.stores import Mover


def log(folder, **changes):
    return write_log(folder / "nuplan-v1.1/splits/mini/a.db", **changes)


def first(path):
    return f"{path}#{scene_token().hex()}"


def read(folder, dt_s=0.5, **changes):
    return NuPlan().read(first(log(folder, **changes)), dt_s)


def test_scenes_are_found_in_the_order_of_time(tmp_path):
    path = log(tmp_path, scenes=3, frames=20)
    found = source("nuplan").find([str(tmp_path)])
    assert found == [f"{path}#{scene_token(number).hex()}" for number in range(3)]


def test_agents_have_the_poses_sizes_and_classes_of_the_tables(tmp_path):
    made = read(tmp_path, 0.05)
    since_s = (times_us(FRAMES) - START_US) * 1e-6
    assert made.name == "a-scene-0000"
    assert made.track_class == ("vehicle", "pedestrian", "ego")
    assert len(made.time_s) == FRAMES
    np.testing.assert_allclose(made.time_s, 0.05 * np.arange(FRAMES))
    for got, mover in zip(made.state, (CAR, WALKER), strict=False):
        np.testing.assert_allclose(got, mover.state(since_s), atol=1e-6)


def test_the_tables_say_the_same_to_sql_of_the_tests_own(tmp_path):
    path = log(tmp_path, scenes=2, frames=40)
    made = NuPlan().read(f"{path}#{scene_token(1).hex()}", 0.1)
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute(
            "SELECT p.timestamp, hex(b.track_token), b.x, b.y, b.yaw, b.length, b.width, c.name"
            " FROM lidar_box b, lidar_pc p, track t, category c"
            " WHERE p.token = b.lidar_pc_token AND t.token = b.track_token"
            " AND c.token = t.category_token AND p.scene_token = ? ORDER BY 1",
            (scene_token(1),),
        ).fetchall()
    moments = sorted({row[0] for row in rows})
    kept = moments[::2]
    assert int(np.isfinite(made.state[:2, :, 0]).sum()) == 2 * len(kept) == 40
    for moment, track, *box, kind in rows:
        if moment in kept:
            place = made.track_id.index(track.lower())
            assert made.track_class[place] == kind
            assert made.state[place, kept.index(moment)].tolist() == box


def test_the_ego_is_a_track_around_the_middle_of_the_car(tmp_path):
    made = read(tmp_path, 0.05)
    truth = EGO.state((times_us(FRAMES) - START_US) * 1e-6)
    ego = made.state[made.track_id.index("ego")]
    assert np.abs(wrap_angle(ego[:, 2] - truth[:, 2])).max() < 2e-3  # the road is tilted
    # nuPlan's toolkit: 4.049 m of the car are ahead of the rear axle, 1.127 m behind it.
    ahead = (4.049 - 1.127) / 2
    heading = np.stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])], axis=-1)
    np.testing.assert_allclose(ego[:, :2] - ahead * heading, truth[:, :2], atol=1e-6)
    np.testing.assert_allclose(ego[:, 3:], np.tile([4.049 + 1.127, 2 * 1.1485], (FRAMES, 1)))
    np.testing.assert_array_equal(made.ego_pose, ego[:, :3])


def test_every_tenth_sweep_is_a_frame_and_all_are_observed(tmp_path):
    made = read(tmp_path)
    np.testing.assert_allclose(made.time_s, np.arange(9) * 0.5)
    assert made.observed is not None
    assert made.observed.state.shape == (3, FRAMES, 5)
    np.testing.assert_array_equal(made.observed.state[:, ::10], made.state)


def test_confidence_is_the_score_where_it_is_one(tmp_path):
    change = "UPDATE lidar_box SET confidence = 7 WHERE track_token = x'74726b2d00000001'"
    made = read(tmp_path, after=[change])
    np.testing.assert_array_equal(made.score[0], 0.25)
    assert np.isnan(made.score[1:]).all()


def test_a_sweep_that_is_missing_is_a_gap(tmp_path):
    gap = "DELETE FROM lidar_pc WHERE filename = '20.pcd'"
    lost = "DELETE FROM lidar_box WHERE lidar_pc_token = x'70632d2d00000014'"
    made = read(tmp_path, 0.05, after=[gap, lost])
    assert np.flatnonzero(np.isnan(made.ego_pose[:, 0])).tolist() == [20]
    assert np.isnan(made.state[:, 20]).all()
    assert made.notes["frames without annotations"] == 1


def test_the_order_of_rows_means_nothing(tmp_path):
    shuffle = "UPDATE lidar_box SET rowid = -rowid"
    np.testing.assert_array_equal(
        np.sort(read(tmp_path / "a", after=[shuffle]).state, axis=0),
        np.sort(read(tmp_path / "b").state, axis=0),
    )


def test_all_categories_have_a_class(tmp_path):
    agents = {
        "cyclist": ("bicycle", Mover(*(CENTRE + 3), speed=4.0)),
        "cone": ("traffic_cone", Mover(*(CENTRE + 5), length=0.4, width=0.4)),
        "sign": ("czone_sign", Mover(*(CENTRE + 7), length=0.4, width=0.4)),
    }
    log(tmp_path, agents=agents)
    options = PrepareOptions(classes=("vehicle", "cyclist", "cone", "czone_sign"))
    prepare("nuplan", [str(tmp_path)], str(tmp_path / "out.zarr"), options)
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert sorted(store["track_class"].values[0].tolist()) == [1, 2, 3, 4]


# Maps


@pytest.mark.parametrize("srs_id", [4326, 32648])
def test_the_map_is_in_the_frame_of_the_poses(tmp_path, srs_id):
    write_map(tmp_path, srs_id=srs_id)
    made = read(tmp_path)
    layers = Counter((element.layer, element.closed) for element in made.map)
    assert layers == {
        ("lane_centre", False): 2,
        ("drivable", True): 4,
        ("crosswalk", True): 1,
        ("road_edge", False): 1,
    }
    assert made.notes["scenes without a map"] == 0
    lanes = [e.points - CENTRE for e in made.map if e.layer == "lane_centre"]
    np.testing.assert_allclose(lanes[0], [(-30, -2), (0, -2), (30, -2)], atol=2e-6)
    np.testing.assert_allclose(lanes[1], [(30, -2), (38, 2), (40, 10)], atol=2e-6)
    drawn = [shapely.Polygon(e.points) for e in made.map if e.layer == "drivable"]
    assert shapely.union_all(drawn).area == pytest.approx(480 + 400 + 60 + 40, abs=1e-3)
    (crossing,) = (shapely.Polygon(e.points) for e in made.map if e.layer == "crosswalk")
    assert crossing.area == pytest.approx(24, abs=1e-4)


def test_what_is_far_from_the_way_of_the_ego_is_left_out(tmp_path):
    far = shapely.box(5000, 0, 5010, 10)
    write_map(tmp_path, city() | {"crosswalks": [(far, (None, None, None, 1))]}, srs_id=32648)
    assert "crosswalk" not in {element.layer for element in read(tmp_path).map}


def test_a_scene_whose_map_is_nowhere_has_none_and_is_counted(tmp_path):
    made = read(tmp_path)
    assert made.map == ()
    assert made.notes["scenes without a map"] == 1


def test_the_map_of_a_log_is_found_from_a_relative_path(tmp_path, monkeypatch):
    write_log(tmp_path / "logs/a.db")
    write_map(tmp_path)
    for here, path in ((tmp_path, "logs/a.db"), (tmp_path / "logs", "a.db")):
        monkeypatch.chdir(here)
        (unit,) = source("nuplan").find([path])
        assert source("nuplan").read(unit, 0.5).map


def test_maps_may_lie_elsewhere(tmp_path):
    write_map(tmp_path / "elsewhere")
    unit = first(log(tmp_path / "logs"))
    assert NuPlan().read(unit, 0.5).map == ()
    assert source("nuplan", {"maps": f"{tmp_path}/elsewhere/maps"}).read(unit, 0.5).map
    with pytest.raises(DataError, match="correct --set maps"):
        source("nuplan", {"maps": str(tmp_path)}).read(unit, 0.5)
    with pytest.raises(ConfigError, match="maps"):
        source("nuplan", {"map": str(tmp_path)})


def test_a_map_of_the_name_with_its_ending_is_found(tmp_path):
    write_map(tmp_path, srs_id=32648)
    assert read(tmp_path, map_version="sg-one-north.gpkg").map


def test_of_two_versions_of_a_map_none_is_taken(tmp_path):
    path = Path(write_map(tmp_path))
    (path.parents[1] / "8.0").mkdir()
    (path.parents[1] / "8.0/map.gpkg").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"one version of the map; got 2 in .*sg-one-north"):
        read(tmp_path)


BAD_SHAPE = "UPDATE baseline_paths SET geom = {} WHERE fid = 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE crosswalks", "no table crosswalks"),
        ("DROP TABLE meta", "no table meta"),
        ("ALTER TABLE baseline_paths RENAME lane_fid TO lane", "no column lane_fid"),
        ("UPDATE meta SET value = 'epsg:3857'", "a UTM zone as projectedCoordSystem"),
        ("UPDATE meta SET value = x'00'", "a UTM zone as projectedCoordSystem"),
        ("DELETE FROM meta", "a UTM zone as projectedCoordSystem"),
        ("UPDATE meta SET value = 'epsg:32619'", "near the zone"),
        ("UPDATE gpkg_spatial_ref_sys SET organization = 'NONE'", "by an EPSG number"),
        ("UPDATE gpkg_spatial_ref_sys SET organization_coordsys_id = 3857", "EPSG 3857"),
        ("DELETE FROM gpkg_geometry_columns", "one geometry"),
        ("UPDATE gpkg_geometry_columns SET column_name = 'a\"b'", "one geometry"),
        (BAD_SHAPE.format("x'00'"), "GeoPackage geometry; got none in row 2 of layer baseline"),
        (BAD_SHAPE.format("'text'"), "GeoPackage geometry"),
        (BAD_SHAPE.format("7"), "GeoPackage geometry"),
        (BAD_SHAPE.format("x'47500001E610000001'"), "WKB"),
        (BAD_SHAPE.format("x'4750000BE610000001'"), "envelope"),
        (BAD_SHAPE.format("x'47500021E610000001'"), "GeoPackage geometry"),
        (BAD_SHAPE.format("(SELECT geom FROM crosswalks)"), "a LineString; got a Polygon"),
        ("UPDATE crosswalks SET geom = (SELECT geom FROM baseline_paths)", "a Polygon; got a"),
    ],
)
def test_a_map_of_another_kind_is_refused(tmp_path, change, message):
    write_map(tmp_path, after=[change])
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "map.gpkg" in str(caught.value)


def test_shapes_that_are_missing_or_empty_are_passed_over(tmp_path):
    empty = "UPDATE crosswalks SET geom = x'47500011E6100000010700000000000000'"
    write_map(tmp_path, after=["UPDATE intersections SET geom = NULL", empty])
    layers = Counter(element.layer for element in read(tmp_path).map)
    assert (layers["crosswalk"], layers["drivable"]) == (0, 3)


def test_more_geometry_than_any_city_has_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("data_tools.formats.geopackage.MAX_BYTES", 100)
    write_map(tmp_path)
    with pytest.raises(DataError, match="bytes of geometry at most"):
        read(tmp_path)


# Bad logs


VIEW = "CREATE VIEW lidar_box AS SELECT * FROM boxes"
ENDLESS = """CREATE VIEW scene AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT i AS token, i AS name FROM n"""
COMPUTED = "ALTER TABLE scene ADD COLUMN name TEXT GENERATED ALWAYS AS (hex(zeroblob(9))) VIRTUAL"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (["DROP TABLE ego_pose"], "no table ego_pose"),
        (["ALTER TABLE lidar_box RENAME yaw TO heading"], "no column yaw in lidar_box"),
        (["ALTER TABLE lidar_box RENAME TO boxes", VIEW], "no table lidar_box"),
        (["DROP TABLE scene", ENDLESS], "no table scene"),
        (["ALTER TABLE scene DROP COLUMN name", COMPUTED], "no column name in scene"),
        (["DROP TABLE track", "CREATE VIRTUAL TABLE track USING rtree(token, a, b)"], "track"),
        (["DELETE FROM log"], "one log"),
        (["UPDATE log SET map_version = '../secret'"], r"map_version; got '\.\./secret'"),
        (["UPDATE log SET map_version = NULL"], "map_version"),
        (["DELETE FROM scene"], "a scene of that token"),
        (["DELETE FROM lidar_pc"], "frames with annotations"),
        (["DELETE FROM ego_pose WHERE x'65676f2d00000003' = token"], "row 4 of the sweeps"),
        (["UPDATE ego_pose SET x = NULL"], "row 1 of the sweeps and ego poses"),
        (["UPDATE ego_pose SET x = 9e999"], "row 1 of the sweeps and ego poses"),
        (["UPDATE ego_pose SET qw = 0, qx = 0, qy = 0, qz = 0"], "a quaternion"),
        (["UPDATE lidar_pc SET timestamp = 'now'"], "row 1 of the sweeps"),
        (["UPDATE lidar_pc SET timestamp = 5"], r"frames 0\.05 s apart"),
        (["UPDATE lidar_pc SET timestamp = timestamp * 1.4"], r"frames 0\.05 s apart"),
        (["UPDATE lidar_box SET x = 'left'"], "row 1 of the boxes"),
        (["UPDATE lidar_box SET yaw = NULL"], "row 1 of the boxes"),
        (["DELETE FROM track"], "a track with a category"),
        (["DELETE FROM category"], "a track with a category"),
        (["UPDATE category SET name = x'ff'"], "a track with a category"),
        (["UPDATE category SET name = CAST(x'ff' AS TEXT)"], "UTF-8"),
        (["UPDATE lidar_box SET track_token = x'74726b2d00000000'"], "ascending within a track"),
    ],
)
def test_a_log_of_another_kind_is_refused_in_one_line(tmp_path, after, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, after=after)
    assert "a.db" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dt_s", [0.03, 0.12])
def test_a_step_that_is_no_multiple_is_refused(tmp_path, dt_s):
    with pytest.raises(DataError, match="a step that divides"):
        read(tmp_path, dt_s)


@pytest.mark.parametrize("unit", ["a.db", "a.db#", "a.db#xyz", "a.db#00ff", "#00ff"])
def test_units_that_name_no_scene_are_refused(tmp_path, monkeypatch, unit):
    write_log(tmp_path / "a.db")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        NuPlan().read(unit, 0.5)


def test_a_file_that_is_no_log_costs_no_other_log(tmp_path):
    log(tmp_path)
    bad = tmp_path / "b.db"
    bad.write_bytes(b"SQLite format 3\0" + bytes(5000))
    (tmp_path / "c.db").write_text("nothing")
    (tmp_path / "d.db").write_text("version https://git-lfs.github.com/spec/v1\noid\nsize 5\n")
    report = prepare("nuplan", [str(tmp_path)], str(tmp_path / "out.zarr"), PrepareOptions())
    assert report.scenes == 1
    said = dict(report.skipped)
    assert set(said) == {str(tmp_path / f"{name}.db") for name in "bcd"}
    assert "begins otherwise" in said[str(tmp_path / "c.db")]
    assert "git lfs pull" in said[str(tmp_path / "d.db")]


def test_what_is_still_in_a_journal_is_not_overlooked(tmp_path):
    path = log(tmp_path)
    Path(f"{path}-wal").write_bytes(b"frames")
    with pytest.raises(DataError, match=r"without a journal; got .*-wal"):
        NuPlan().read(first(path), 0.5)


def test_a_log_is_left_as_it_was(tmp_path):
    path = Path(log(tmp_path))
    before, names = path.read_bytes(), sorted(path.parent.iterdir())
    NuPlan().read(first(str(path)), 0.5)
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == names


def test_work_and_answers_have_an_end(tmp_path, monkeypatch):
    unit = first(log(tmp_path))
    monkeypatch.setattr(databases, "MAX_ROWS", 50)
    with pytest.raises(DataError, match="more than 50 rows"):
        NuPlan().read(unit, 0.5)
    monkeypatch.undo()
    monkeypatch.setattr(databases, "BLOCK", 10)
    monkeypatch.setattr(databases, "MAX_BLOCKS", 10)
    with pytest.raises(DataError, match="interrupted"):
        NuPlan().read(unit, 0.5)


def test_logs_and_maps_are_read_from_elsewhere(tmp_path):
    write_map(tmp_path, srs_id=32648)
    log(tmp_path)
    assert_read_from_elsewhere(NuPlan(), tmp_path)


@fuzzed
@given(st.integers(0, 2**32))
def test_any_damage_gives_a_scene_or_one_error(tmp_path, seed):
    chance = random.Random(seed)
    files = [write_log(tmp_path / "a.db", frames=25), write_map(tmp_path, srs_id=32648)]
    victim = Path(chance.choice(files))
    victim.write_bytes(mutated(victim, chance))
    assert_read_or_refused(NuPlan(), first(f"{tmp_path}/a.db"), str(tmp_path))
    for path in files:
        Path(path).unlink()
