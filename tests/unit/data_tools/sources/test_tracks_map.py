"""Maps beside tables of tracks, where presets say that they are."""

import json
from collections import Counter

import fsspec
import numpy as np
import pandas as pd
import pytest

from data_tools.formats.lanelet2 import centred
from data_tools.sources import source
from data_tools.sources.presets import Preset, load_preset
from data_tools.sources.tracks import Tracks
from data_tools.sources.tracks_map import preset_map
from forecast.errors import DataError
from tests.support.lanelets import Map

ORIGIN = (49.01, 8.44)
COLUMNS = {"track_id": "id", "class": "kind", "time_s": "t", "x_m": "x", "y_m": "y"}


def preset(*files):
    said = {"files": ["*.csv"], "columns": COLUMNS, "map": {"files": files, "origin": ORIGIN}}
    return Preset.model_validate(said)


def write_map(path, x=0.0, place=ORIGIN):
    drawn = Map(centred(*place))
    drawn.lanelet([(x, 4), (x + 90, 4)], [(x, 0), (x + 90, 0)])
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.write(path)


def starts(path, chosen):
    found = preset_map(str(path), chosen, Counter())
    return [round(e.points[0, 0], 3) for e in found if e.layer == "lane_centre"]


def test_the_first_place_that_has_a_map_counts(tmp_path):
    table = tmp_path / "recorded/crossing/tracks_1.csv"
    table.parent.mkdir(parents=True)
    chosen = preset("../../maps/{folder}.osm", "here.osm")
    assert starts(table, chosen) == []
    write_map(table.parent / "here.osm", 1.0)
    assert starts(table, chosen) == [1.0]
    write_map(tmp_path / "maps/crossing.osm", 2.0)
    assert starts(table, chosen) == [2.0]
    assert starts(table, preset("none.osm")) == []
    assert starts(table, preset("here.osm").model_copy(update={"map": None})) == []


def test_of_several_maps_the_one_that_the_table_is_named_after_counts(tmp_path):
    for name, x in (("k7", 1.0), ("k72", 2.0), ("k729_", 3.0), ("k8", 4.0), ("tracks", 5.0)):
        write_map(tmp_path / f"{name}.osm", x)
    assert starts(tmp_path / "k729_tracks.csv", preset("*.osm")) == [3.0]
    assert starts(tmp_path / "k720_tracks.csv", preset("*.osm")) == [2.0]
    assert starts(tmp_path / "k9_tracks.csv", preset("*.osm")) == []


def test_a_table_named_without_its_folder_has_the_map_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "crossing"
    write_map(tmp_path / "crossing.osm", 3.0)
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert starts("tracks.csv", preset("../{folder}.osm")) == [3.0]


def test_maps_above_a_table_are_found_in_object_stores_and_in_folders_of_any_name(tmp_path):
    write_map(tmp_path / "[1]/maps/k7.osm", 4.0)
    assert starts(tmp_path / "[1]/k7.csv", preset("maps/*.osm")) == [4.0]
    memory = fsspec.filesystem("memory")
    memory.pipe("/place/maps/k7.osm", (tmp_path / "[1]/maps/k7.osm").read_bytes())
    try:
        for pattern in ("../../maps/k7.osm", "../../maps/*.osm"):
            assert starts("memory://place/tracks/k7/k7.csv", preset(pattern)) == [4.0]
    finally:
        memory.rm("/place", recursive=True)


def test_what_is_left_out_of_a_map_is_counted_every_time_it_is_read(tmp_path):
    drawn = Map(centred(*ORIGIN))
    drawn.lanelet([(0, 4), (9, 4)], [(0, 0), (9, 0)])
    drawn.relation([("left", "1")], type="lanelet")
    drawn.write(tmp_path / "a.osm")
    for _ in range(2):
        notes = Counter()
        preset_map(str(tmp_path / "a.csv"), preset("a.osm"), notes)
        assert notes["lanelets of the map without whole borders, left out"] == 1


def test_a_map_that_changed_is_read_anew(tmp_path):
    for x in (1.0, 2.0):
        (tmp_path / "a.osm").unlink(missing_ok=True)
        write_map(tmp_path / "a.osm", x)
        assert starts(tmp_path / "a.csv", preset("a.osm")) == [x]


def interaction(folder, place=(0.0, 0.0)):
    """A recording and its map where INTERACTION has them."""
    step = np.arange(60)
    table = folder / "recorded_trackfiles/DR_TEST/vehicle_tracks_000.csv"
    table.parent.mkdir(parents=True)
    said = {"track_id": 1, "frame_id": step, "timestamp_ms": 100 * step, "agent_type": "car"}
    said |= {"x": 1010.0 + step, "y": 1002.0, "vx": 10.0, "vy": 0.0, "psi_rad": 0.0}
    pd.DataFrame(said | {"length": 4.5, "width": 1.9}).to_csv(table, index=False)
    drawn = Map(centred(*place))
    drawn.lanelet([(1000, 1004), (1090, 1004)], [(1000, 1000), (1090, 1000)])
    (folder / "maps").mkdir()
    drawn.write(folder / "maps/DR_TEST.osm")
    return str(table)


def test_a_map_of_interaction_is_drawn_around_latitude_and_longitude_zero(tmp_path):
    scene = source("tracks", preset="interaction").read(interaction(tmp_path), 0.1)
    (lane,) = [element for element in scene.map if element.layer == "lane_centre"]
    np.testing.assert_allclose(lane.points[[0, -1]], [(1000, 1002), (1090, 1002)], atol=1e-5)
    np.testing.assert_allclose(scene.state[0, :, 1], 1002.0)
    assert not scene.warnings


def test_a_map_elsewhere_is_refused_with_what_to_do(tmp_path):
    table = interaction(tmp_path, place=(49.0, 8.4))
    with pytest.raises(DataError, match=r"within 100 km .*map\.origin in a preset"):
        source("tracks", preset="interaction").read(table, 0.1)


def test_a_users_own_geojson_goes_before_it(tmp_path):
    table = interaction(tmp_path)
    line = {"type": "LineString", "coordinates": [[1000.0, 1001.0], [1090.0, 1001.0]]}
    feature = {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": line}
    with open(f"{table}.geojson", "w") as file:
        json.dump({"type": "FeatureCollection", "features": [feature]}, file)
    scene = source("tracks", preset="interaction").read(table, 0.1)
    assert [element.points[0, 1] for element in scene.map] == [1001.0]


def test_the_published_preset_says_where_interactions_maps_are():
    said = load_preset("interaction").map
    assert said is not None
    assert said.origin == (0.0, 0.0)


@pytest.mark.parametrize("name", ["drive.csv", "drive.csv.gz", "drive.parquet", "drive.pq"])
def test_a_map_beside_a_table_is_found_whatever_the_tables_ending(tmp_path, name):
    rows = {"scene": "s", "track_id": "a", "class": "car", "time_s": [0.0, 0.5, 1.0], "y_m": 0.0}
    table = pd.DataFrame(rows | {"x_m": [0.0, 4.0, 8.0], "yaw_rad": 0.0})
    write = table.to_csv if "csv" in name else table.to_parquet
    write(tmp_path / name, index=False)
    without = Tracks().read(f"{tmp_path / name}#s", 0.5)
    assert not without.map
    assert without.notes["scenes without a map"] == 1
    lane = {"type": "LineString", "coordinates": [[0, 0], [9, 0]]}
    feature = {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": lane}
    content = {"type": "FeatureCollection", "features": [feature]}
    (tmp_path / "drive.map.geojson").write_text(json.dumps(content))
    found = Tracks().read(f"{tmp_path / name}#s", 0.5)
    assert [element.layer for element in found.map] == ["lane_centre"]
    assert not found.notes["scenes without a map"]
