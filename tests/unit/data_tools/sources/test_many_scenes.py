"""A table of many scenes: what they share is read once, and each costs what is in it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_tools.formats import geojson
from data_tools.labels import map_index
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources import tracks_table
from data_tools.sources.grouped import grouped, steps
from data_tools.sources.tracks import Tracks
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store

SCENES, APART_M = 12, 1000.0
TIMES = np.arange(31) * 0.1


def street(number: int) -> dict[str, object]:
    """A lane from left to right in the place of a scene."""
    x = number * APART_M
    line = {"type": "LineString", "coordinates": [[x - 20.0, 0.0], [x + 60.0, 0.0]]}
    return {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": line}


def write_streets(path: Path, numbers: range) -> None:
    content = {"type": "FeatureCollection", "features": [street(number) for number in numbers]}
    path.write_text(json.dumps(content))


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Scenes a kilometre apart: each has a car that drives and one that stands, without yaw."""
    rows = []
    for number in range(SCENES):
        moved = number * APART_M + 8.0 * TIMES
        for track, x in (("moves", moved), ("stands", np.full_like(moved, moved[0] + 30.0))):
            row = {"scene": f"s{number}", "time_s": TIMES, "track_id": track, "class": "car"}
            rows.append(pd.DataFrame(row | {"x_m": x, "y_m": 0.0}))
    every = pd.concat(rows).sort_values("time_s", kind="stable")  # scenes interleaved
    every.to_parquet(tmp_path / "many.parquet")
    write_streets(tmp_path / "many.parquet.geojson", range(SCENES))
    return str(tmp_path / "many.parquet")


def counted(monkeypatch, module, name):
    """The calls of a function from here on, by their first argument."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: calls.append(a[0]) or function(*a, **k))
    return calls


def test_the_map_is_read_once_and_each_lane_resampled_once(table, tmp_path, monkeypatch):
    read = counted(monkeypatch, geojson, "read_json")
    shapes = counted(monkeypatch, map_index, "_finite")
    lanes = counted(monkeypatch, map_index, "lane_points")
    output = str(tmp_path / "out.zarr")
    grid = BEVGrid(-20.0, 20.0, -20.0, 20.0, 0.5)
    report = prepare("tracks", [table], output, PrepareOptions(grid=grid, horizon=2, stride=9))
    assert report.scenes == SCENES
    assert read == [f"{table}.geojson"]
    assert len(shapes) == SCENES
    assert len(lanes) == SCENES
    dataset, _ = open_sequence_store(output)
    assert dataset["map"].values.any(axis=(1, 2, 3)).all()


def test_the_rows_of_scenes_are_found_in_one_pass(table, monkeypatch):
    grouping = counted(monkeypatch, tracks_table, "grouped")
    source = Tracks()
    units = source.find([table])
    scenes = [source.read(unit, 0.5) for unit in units]
    assert [scene.name for scene in scenes] == [f"many.parquet#s{k}" for k in range(SCENES)]
    assert [scene.state[0, 0, 0] for scene in scenes] == [APART_M * k for k in range(SCENES)]
    rows = [len(names) for names in grouping]
    assert rows.count(SCENES * 2 * len(TIMES)) == 1
    assert rows.count(2 * len(TIMES)) == SCENES


def test_a_fault_costs_its_scene_only_and_is_told_as_it_stands_in_the_table(table):
    rows = pd.read_parquet(table).reset_index(drop=True)
    rows["length_m"] = 4.0
    last = {f"s{k}": int(np.flatnonzero(rows["scene"] == f"s{k}")[-1]) for k in range(4)}
    rows.loc[last["s0"], "class"] = " "
    rows.loc[last["s1"], "length_m"] = -4.0
    rows.loc[last["s2"], "time_s"] = 0.0
    rows["x_m"] = rows["x_m"].astype(str)
    rows.loc[last["s3"], "x_m"] = "1,5"
    rows.to_parquet(table)
    source, refused = Tracks(), {}
    for unit in source.find([table]):
        try:
            source.read(unit, 0.5)
        except DataError as error:
            refused[unit.rpartition("#")[2]] = str(error)
    assert list(refused) == list(last)
    said = {
        "s0": "a class; got ' ' in column class",
        "s1": "a size above 0; got -4.0 in column length_m",
        "s2": "times that ascend within a track; got 0.0 in column time_s",
        "s3": "a finite number; got '1,5' in column x_m",
    }
    for scene, row in last.items():
        assert f"{said[scene]}, row {row + 1} of {table}" in refused[scene]


def test_a_changed_map_is_read_again(table):
    source = Tracks()
    unit = source.find([table])[0]
    assert len(source.read(unit, 0.5).map) == SCENES
    write_streets(Path(f"{table}.geojson"), range(2))
    assert len(source.read(unit, 0.5).map) == 2


def test_groups_are_in_the_order_of_first_appearance_with_ascending_places():
    found = grouped(pd.Series(["b", "a", "b", "c", "a"]))
    assert {name: places.tolist() for name, places in found.items()} == {
        "b": [0, 2],
        "a": [1, 4],
        "c": [3],
    }
    assert list(found) == ["b", "a", "c"]
    assert grouped(np.array([], object)) == {}


def test_steps_are_those_within_a_group_however_its_rows_are_mixed_with_others():
    groups = grouped(pd.Series(["b", "a", "b", "c", "a", "b"]))
    values = np.array([1.0, 10.0, 3.0, 100.0, 15.0, 9.0])
    nan = np.nan
    np.testing.assert_array_equal(steps(groups, values), [nan, nan, 2.0, nan, 5.0, 6.0])
    both = steps(groups, np.stack([values, -values], axis=1), lag=2)
    np.testing.assert_array_equal(both[:, 0], [nan, nan, nan, nan, nan, 8.0])
    np.testing.assert_array_equal(both[:, 1], -both[:, 0])
