"""The scenarionet source: the format's own layout, its quirks, and what is no scenario."""

from __future__ import annotations

import os
import pickle
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools.prepare import PrepareOptions, prepare
from data_tools.scene import Scene
from data_tools.sources import scenarionet, source
from data_tools.sources.scenarionet import MAX_BYTES, ScenarioNet
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.recordings import (
    assert_read_from_elsewhere,
    assert_read_or_refused,
    heading_errors,
    needs,
    recording,
)
from tests.support.stores import GRID, Mover

FRAMES = 41
EGO = Mover(0.0, 0.0, yaw=0.3, speed=8.0, turn_rate=0.2)
WALKER = Mover(6.0, 2.0, yaw=-1.0, speed=1.5, length=0.6, width=0.8)


def track(mover: Mover, kind: str = "VEHICLE", valid: Any = None, **changes: Any) -> dict[str, Any]:
    states = mover.state(np.arange(FRAMES) * 0.1)
    state = {
        "position": np.column_stack([states[:, :2], np.zeros(FRAMES)]),
        "heading": states[:, 2],
        "velocity": np.zeros((FRAMES, 2)),
        "valid": np.ones(FRAMES) if valid is None else np.asarray(valid),
        "length": states[:, 3:4],
        "width": states[:, 4:5],
        "height": np.full((FRAMES, 1), 1.5),
    }
    state = {key: value for key, value in (state | changes).items() if value is not None}
    return {"type": kind, "state": state, "metadata": {"type": kind, "object_id": "x"}}


def scenario(**changes: Any) -> dict[str, Any]:
    content = {
        "id": "scene-0001",
        "version": "nuscenesv1.0-mini",
        "length": FRAMES,
        "metadata": {"ts": np.arange(FRAMES) * 0.1, "sdc_id": "ego", "coordinate": "right-handed"},
        "tracks": {"walker": track(WALKER, "PEDESTRIAN"), "ego": track(EGO)},
        "dynamic_map_states": {},
        "map_features": {},
    }
    return content | changes


def write(path: Path, content: Any) -> str:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return str(path)


def read(tmp_path: Path, content: Any, dt_s: float = 0.5) -> Scene:
    return ScenarioNet().read(write(tmp_path / "sd_a.pkl", content), dt_s)


def test_scenarios_are_found_and_lists_of_them_are_not(tmp_path):
    for name in ("sd_a.pkl", "dataset_summary.pkl", "dataset_mapping.pkl", "sd_b.pkl"):
        write(tmp_path / name, scenario())
    found = source("scenarionet").find([str(tmp_path)])
    assert [Path(unit).name for unit in found] == ["sd_a.pkl", "sd_b.pkl"]


def test_a_scenario_keeps_its_tracks_their_poses_and_its_ego(tmp_path):
    made = read(tmp_path, scenario())
    assert (made.name, made.dt_s, made.track_id) == ("scene-0001", 0.5, ("walker", "ego"))
    assert made.track_class == ("PEDESTRIAN", "VEHICLE")
    np.testing.assert_allclose(made.time_s, np.arange(0, 4.1, 0.5))
    for got, mover in zip(made.state, (WALKER, EGO), strict=True):
        np.testing.assert_allclose(got, mover.state(made.time_s))
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])


@pytest.mark.parametrize("size", [np.full(FRAMES, 4.0), np.full((FRAMES, 1), 4.0)])
def test_sizes_come_as_rows_or_columns(tmp_path, size):
    content = scenario(tracks={"ego": track(EGO, length=size)})
    np.testing.assert_array_equal(read(tmp_path, content).state[0, :, 3], 4.0)


def test_sizes_come_as_one_array_as_metadrive_wrote_them_until_2023(tmp_path):
    size = np.tile([4.0, 1.8, 1.5], (FRAMES, 1))
    content = scenario(tracks={"ego": track(EGO, size=size, length=None, width=None, height=None)})
    np.testing.assert_array_equal(read(tmp_path, content).state[0, :, 3:], [[4.0, 1.8]] * 9)


def test_a_summary_that_counts_in_a_defaultdict_is_read(tmp_path):
    content = scenario()
    content["metadata"]["number_summary"] = {"num_objects": defaultdict(int, VEHICLE=1)}
    assert read(tmp_path, content).track_id == ("walker", "ego")


def test_only_valid_states_are_there(tmp_path):
    seen = np.arange(FRAMES) >= 20
    content = scenario(tracks={"ego": track(EGO), "b": track(WALKER, valid=seen)})
    made = read(tmp_path, content)
    assert np.isfinite(made.state[1]).all(axis=-1).tolist() == seen[::5].tolist()


def test_an_ego_wider_than_long_is_put_right_and_counted_other_tracks_are_not(tmp_path):
    swapped = Mover(0.0, 0.0, speed=5.0, length=1.73, width=4.08)
    content = scenario(tracks={"barrier": track(swapped, "TRAFFIC_BARRIER"), "ego": track(swapped)})
    made = read(tmp_path, content)
    np.testing.assert_allclose(made.state[:, 0, 3:], [[1.73, 4.08], [4.08, 1.73]])
    assert made.notes == {"ego wider than long, its sides put right": 1}


def test_tracks_without_a_size_are_left_to_be_counted(tmp_path):
    content = scenario(tracks={"ego": track(EGO), "b": track(WALKER, length=None)})
    made = read(tmp_path, content)
    assert np.isnan(made.state[1, :, 3]).all()
    assert np.isfinite(made.state[1, :, :3]).all()


def test_the_map_has_lanes_their_areas_edges_and_crosswalks(tmp_path):
    path = [(0.0, 0.0, 0.1), (10.0, 0.0, 0.1)]
    square = [[0.0, -2.0], [10.0, -2.0], [10.0, 2.0], [0.0, 2.0]]
    features = {
        "1": {"type": "LANE_SURFACE_STREET", "polyline": path, "polygon": square},
        "2": {"type": "LANE_FREEWAY", "polyline": np.array(path)},
        "3": {"type": "LANE_BIKE_LANE", "polyline": path, "polygon": square},
        "4": {"type": "LANE_SURFACE_UNSTRUCTURE", "polygon": [np.array(p) for p in square]},
        "5": {"type": "ROAD_EDGE_BOUNDARY", "polyline": np.array(path)},
        "boundary_6": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": np.array(path)},
        "7": {"type": "ROAD_LINE_SOLID_SINGLE_WHITE", "polyline": np.array(path)},
        "8": {"type": "CROSSWALK", "polygon": np.array(square)},
        "9": {"type": "STOP_SIGN", "position": np.zeros(3)},
    }
    made = read(tmp_path, scenario(map_features=features))
    assert Counter(element.layer for element in made.map) == {
        "lane_centre": 3,
        "drivable": 3,
        "road_edge": 2,
        "crosswalk": 1,
    }
    np.testing.assert_array_equal(made.map[0].points, [[0, 0], [10, 0]])
    areas = [shapely.Polygon(e.points).area for e in made.map if e.layer == "drivable"]
    assert areas == [40.0, 40.0, 35.0]


def test_scenarios_are_read_from_elsewhere(tmp_path):
    write(tmp_path / "sd_a.pkl", scenario())
    assert_read_from_elsewhere(ScenarioNet(), tmp_path)


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile",)


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"sd_a\.pkl.*asks for posix\.mkdir"):
        read(tmp_path, scenario(tracks={"ego": track(EGO), "b": Hostile()}))
    assert [path.name for path in tmp_path.iterdir()] == ["sd_a.pkl"]


BAD_TS = {"sdc_id": "ego", "ts": np.arange(FRAMES) * 0.1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "a ScenarioNet scenario"),
        (7, "a ScenarioNet scenario"),
        ({}, "metadata"),
        (scenario(metadata={}), "ts"),
        (scenario(tracks={}), "traffic"),
        (scenario(tracks=None), "a ScenarioNet scenario"),
        (scenario(tracks={1: track(EGO), "1": track(EGO)}), "each track id once"),
        (scenario(tracks={"a": track(EGO)}), "sdc_id"),
        (scenario(metadata=BAD_TS | {"ts": np.arange(FRAMES) * -0.1}), "regular"),
        (scenario(metadata=BAD_TS | {"ts": np.arange(FRAMES - 1) * 0.1}), "reshape"),
        (scenario(metadata=BAD_TS | {"ts": np.full(FRAMES, np.nan)}), "regular"),
        (scenario(metadata=BAD_TS | {"ts": np.arange(0)}), "two frames"),
        (scenario(metadata=BAD_TS | {"ts": "now"}), "an array"),
        (scenario(metadata=BAD_TS | {"ts": np.arange(3_000_000) * 0.1}), "fits memory"),
        (scenario(metadata=BAD_TS | {"coordinate": "left-handed"}), "right-handed"),
        (scenario(tracks={"ego": track(EGO, position=None)}), "position"),
        (scenario(tracks={"ego": track(EGO, heading=np.array(["n"] * FRAMES))}), "float"),
        (scenario(tracks={"ego": track(EGO) | {"type": ["VEHICLE"]}}), "a name"),
        (scenario(map_features={"5": {}}), "type"),
        (scenario(map_features={"5": {"type": "LANE", "polyline": [(1.0,)]}}), "unpack"),
        (
            scenario(map_features={"5": {"type": "LANE", "polyline": np.full((2, 2), np.nan)}}),
            "map feature 5",
        ),
        (
            scenario(map_features={"5": {"type": "LANE", "polyline": [(10**400, 0.0)] * 2}}),
            "large",
        ),
    ],
)
def test_what_is_no_scenario_is_refused_by_name(tmp_path, content, reason):
    with pytest.raises(DataError, match=rf"{reason}.*sd_a\.pkl|sd_a\.pkl.*{reason}"):
        read(tmp_path, content)


def test_positions_that_are_not_finite_are_left_to_be_counted(tmp_path):
    place = np.full((FRAMES, 2), np.inf)
    made = read(tmp_path, scenario(tracks={"ego": track(EGO), "b": track(EGO, position=place)}))
    assert np.isinf(made.state[1, :, :2]).all()


@pytest.mark.parametrize("end", [0, 1, 300, -1])
def test_a_file_cut_short_is_refused(tmp_path, end):
    with pytest.raises(DataError, match=r"sd_a\.pkl"):
        read(tmp_path, pickle.dumps(scenario())[:end])


def test_a_file_beyond_all_measure_is_refused_unread(tmp_path):
    path = tmp_path / "sd_a.pkl"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="bytes at most"):
        ScenarioNet().read(str(path), 0.5)


def test_a_small_file_that_unfolds_to_a_large_scene_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(scenarionet, "MAX_STATES", 10 * FRAMES)
    monkeypatch.setattr(scenarionet, "MAX_POINTS", 100)
    shared, line = track(EGO), {"type": "LANE_FREEWAY", "polyline": [(0.0, 0.0)] * 30}
    with pytest.raises(DataError, match="fits memory"):
        read(tmp_path, scenario(tracks={"ego": shared} | {f"{i}": shared for i in range(10)}))
    with pytest.raises(DataError, match="points at most"):
        read(tmp_path, scenario(map_features={f"{i}": line for i in range(4)}))


LITTLE = pickle.dumps(scenario(map_features={"1": {"type": "LANE_FREEWAY", "polyline": [(0, 0)]}}))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, len(LITTLE)), st.binary(max_size=4)), max_size=4))
def test_a_changed_file_gives_a_scene_or_is_refused(tmp_path, changes):
    content = LITTLE
    for place, put in changes:
        content = content[:place] + put + content[place + len(put) :]
    path = write(tmp_path / "any.pkl", content)
    assert_read_or_refused(ScenarioNet(), path, "any.pkl")


def real() -> list[tuple[str, Any]]:
    """The real scenes as Python's own pickle reads them, which trusts them."""
    units = ScenarioNet().find([str(recording("nuscenes_scenarionet"))])
    return [(unit, pickle.loads(Path(unit).read_bytes())) for unit in units]


@needs("nuscenes_scenarionet")
def test_the_real_scenes_have_what_their_pickles_have():
    scenes = real()
    assert len(scenes) == 5
    for unit, raw in scenes:
        made = ScenarioNet().read(unit, 0.1)
        assert made.name == raw["id"]
        assert made.track_id == tuple(raw["tracks"])
        assert (
            Counter(made.track_class) == raw["metadata"]["number_summary"]["num_objects_each_type"]
        )
        valid = np.array([t["state"]["valid"] > 0 for t in raw["tracks"].values()])
        np.testing.assert_array_equal(np.isfinite(made.state).all(axis=-1), valid)
        place = np.array([t["state"]["position"][:, :2] for t in raw["tracks"].values()])
        np.testing.assert_array_equal(made.state[valid, :2], place[valid])
        kinds = Counter(feature["type"] for feature in raw["map_features"].values())
        layers = Counter(element.layer for element in made.map)
        assert layers["lane_centre"] == layers["drivable"] == kinds["LANE_SURFACE_STREET"]


@pytest.mark.parametrize(("version", "every"), [("nuscenesv1.0-mini", 5), ("waymo1.2", 1)])
def test_what_was_interpolated_was_not_observed(tmp_path: Path, version: str, every: int):
    """Poses between two annotated frames of nuScenes know of the later one."""
    made = read(tmp_path, scenario(version=version), 0.1)
    assert made.observed is not None
    np.testing.assert_array_equal(made.observed.time_s, np.arange(FRAMES)[::every] * 0.1)
    np.testing.assert_array_equal(made.observed.state, made.state[:, ::every])


@needs("nuscenes_scenarionet")
def test_in_the_real_scenes_vehicles_head_where_they_go_on_the_road():
    for unit, _ in real():
        made = ScenarioNet().read(unit, 0.5)
        vehicle = np.array([kind == "VEHICLE" for kind in made.track_class])
        assert np.median(heading_errors(made.state[vehicle])) < np.radians(2), unit
        road = shapely.union_all(
            [shapely.Polygon(e.points).buffer(0) for e in made.map if e.layer == "drivable"]
        )
        step = np.linalg.norm(np.diff(made.state[vehicle, :, :2], axis=1), axis=-1)
        moving = made.state[vehicle][:, 1:, :2][step > 1.0]
        on_road = shapely.contains_xy(road, moving)
        assert on_road.mean() > 0.9, unit


@needs("nuscenes_scenarionet")
def test_the_real_scenes_become_a_store(tmp_path):
    options = PrepareOptions(grid=GRID, stride=12, classes=("vehicle", "pedestrian", "cone"))
    folder = str(recording("nuscenes_scenarionet"))
    report = prepare("scenarionet", [folder], str(tmp_path / "out.zarr"), options)
    assert (report.scenes, report.skipped) == (5, [])
    store, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert meta.source == "scenarionet"
    assert store["map"].values.any(axis=(1, 2, 3)).all()
    assert set(np.unique(store["track_class"].values)) == {0, 1, 2, 3}
    assert report.notes["ego wider than long, its sides put right"] == 5
