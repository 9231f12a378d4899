"""The waymo-json source: what differs from file to file in the wild, and what is made of it."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.sources import source, waymo_json
from data_tools.sources.waymo_json import WaymoJson
from forecast.angles import wrap_angle
from forecast.errors import DataError
from tests.support.recordings import heading_errors, needs, recording
from tests.support.scenarios import STEPS, agent, crossing, road, scenario, write
from tests.support.stores import Mover

TURNING = Mover(3.0, 4.0, yaw=2.5, speed=6.0, turn_rate=0.2)


def read(tmp_path, content, dt_s=0.5, name="a.json"):
    return WaymoJson().read(write(tmp_path / name, content), dt_s)


def test_the_source_is_found_by_its_name():
    assert isinstance(source("waymo-json"), WaymoJson)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_every_fifth_step_is_kept_plain_or_gzipped(tmp_path, name):
    made = read(tmp_path, scenario([agent(TURNING)]), name=name)
    assert made.name == "a"
    np.testing.assert_allclose(made.time_s, np.arange(0, 9.1, 0.5))
    expected = TURNING.state(made.time_s - 4.5)
    np.testing.assert_allclose(made.state[0, :, :2], expected[:, :2])
    np.testing.assert_allclose(wrap_angle(made.state[0, :, 2] - expected[:, 2]), 0.0, atol=1e-9)
    np.testing.assert_allclose(made.state[0, :, 3:], [[4.5, 2.0]] * 19)
    np.testing.assert_array_equal(made.ego_pose, made.state[0, :, :3])


def test_gzip_is_known_by_its_content_not_its_name(tmp_path):
    (tmp_path / "a.json").write_bytes(gzip.compress(json.dumps(crossing(0)).encode()))
    assert WaymoJson().read(str(tmp_path / "a.json"), 0.5).name == "a"


@pytest.mark.parametrize("degrees", [False, True])
@pytest.mark.parametrize(
    ("mover", "movers"),
    [
        (TURNING, 1),
        (Mover(0, 0, yaw=0.05, speed=8.0), 3),  # small numbers: radians and degrees look alike
        (Mover(0, 0, yaw=-40.0, speed=8.0), 3),  # many turns: large numbers in radians too
        (Mover(0, 0, yaw=2.0, speed=-8.0), 1),  # backs out
        (Mover(0, 0, yaw=2.0, speed=-8.0), 4),
    ],
)
def test_headings_are_read_in_their_unit(tmp_path, degrees, mover, movers):
    parked = Mover(20.0, 0.0, yaw=0.04 if mover.yaw == 0.05 else 1.0)
    agents = [agent(m, degrees=degrees) for m in [mover] * movers + [parked]]
    made = read(tmp_path, scenario(agents))
    for got, moved in ((made.state[0], mover), (made.state[-1], parked)):
        expected = moved.state(made.time_s - 4.5)[:, 2]
        assert abs(wrap_angle(got[:, 2] - expected)).max() < np.radians(1)
    assert made.notes["heading in degrees"] == degrees


@pytest.mark.parametrize("degrees", [False, True])
def test_one_agent_that_slides_sideways_does_not_decide_the_unit(tmp_path, degrees):
    slides = agent(Mover(0, 0, yaw=1.5, speed=3.0), kind="pedestrian", degrees=degrees)
    turned = np.degrees(0.0262) if degrees else 1.5  # 1.5 degrees, or radians, as a number
    slides["heading"] = [float(turned)] * STEPS
    made = read(tmp_path, scenario([agent(Mover(9, 9, yaw=2.0), degrees=degrees), slides]))
    np.testing.assert_allclose(made.state[0, :, 2], 2.0)


@pytest.mark.parametrize("degrees", [False, True])
def test_one_heading_that_is_no_number_does_not_decide_the_unit(tmp_path, degrees):
    objects = [agent(Mover(0, 9.0 * i, yaw=1.0), degrees=degrees) for i in range(3)]
    objects[2]["heading"][40] = float("nan")
    made = read(tmp_path, scenario(objects))
    np.testing.assert_allclose(made.state[:2, :, 2], 1.0)
    assert np.isnan(made.state[2, 8, 2])
    assert made.notes["heading in degrees"] == degrees


@pytest.mark.parametrize(("yaw", "degrees"), [(1.0, False), (3.1, True)])
def test_where_nothing_moves_the_unit_is_decided_by_the_size_of_the_numbers(tmp_path, yaw, degrees):
    made = read(tmp_path, scenario([agent(Mover(0, 0, yaw=yaw), degrees=degrees)]))
    np.testing.assert_allclose(made.state[0, :, 2], yaw)


def test_only_valid_is_trusted_not_the_numbers(tmp_path):
    seen = set(range(20, 60))
    at_zero = agent(Mover(0.0, 0.0), valid=list(range(STEPS)))  # a true position of zero
    other = agent(TURNING, valid=list(seen))
    other["position"][0] = {"x": 0.0, "y": 0.0}  # the other sentinel
    made = read(tmp_path, scenario([at_zero, other]))
    assert np.isfinite(made.state[0]).all()
    present = np.isfinite(made.state[1]).all(axis=-1)
    assert present.tolist() == [step in seen for step in range(0, STEPS, 5)]
    assert np.isnan(made.state[1][~present]).all()


@pytest.mark.parametrize("metadata", [None, {}, {"sdc_track_index": -1}, {"sdc_track_index": 9}])
def test_without_an_ego_the_grid_follows_the_vehicle_that_moves_furthest(tmp_path, metadata):
    objects = [
        agent(Mover(0, 0, speed=2.0)),
        agent(Mover(0, 9, speed=5.0)),
        agent(Mover(9, 0, speed=20.0), kind="cyclist"),
        agent(Mover(9, 9, speed=9.0), valid=range(80)),  # further, but out of sight at the end
    ]
    content = scenario(objects, ego=None)
    if metadata is not None:
        content["metadata"] = metadata
    made = read(tmp_path, content)
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])
    assert made.notes["no ego named"] == 1


def test_a_vehicle_seen_in_part_is_followed_where_none_is_seen_throughout(tmp_path):
    objects = [
        agent(Mover(0, 0, speed=2.0), valid=range(80)),
        agent(Mover(0, 9, speed=5.0), valid=range(80)),
        agent(Mover(0, 9, speed=50.0), valid=[]),
    ]
    made = read(tmp_path, scenario(objects, ego=None))
    assert np.isfinite(made.ego_pose[:, 0]).sum() == 16
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])


def test_traffic_without_ids_is_named_by_its_place(tmp_path):
    objects = [agent(Mover(0, 0)), agent(Mover(5, 0), id=731)]
    assert read(tmp_path, scenario(objects)).track_id == ("0", "731")


def test_two_objects_of_one_id_are_refused(tmp_path):
    objects = [agent(Mover(0, 0)), agent(Mover(5, 0), id=0)]
    with pytest.raises(DataError, match="an id of its own for each object"):
        read(tmp_path, scenario(objects))


def test_the_map_has_lanes_their_width_edges_and_crosswalks(tmp_path):
    made = read(
        tmp_path,
        scenario(
            [agent(Mover(0, 0))],
            [
                road("lane", [(0, 0), (5, 0), (10, 0)], map_element_id=2),
                road("lane", [(0, 20), (10, 20)], map_element_id=3),
                road("lane", [(0, 0)]),
                road("road_edge", [(0, 3), (10, 3)]),
                road("crosswalk", [(0, 0), (2, 0), (2, 4), (0, 4)]),
                road("driveway", [(0, 0), (2, 0), (2, 4), (0, 4)]),
                road("road_line", [(0, 0), (9, 0)]),
                {"type": "stop_sign", "geometry": {"x": 0.0, "y": 0.0}},
            ],
        ),
    )
    kinds = [(element.layer, element.closed) for element in made.map]
    assert kinds == [
        ("lane_centre", False),
        ("lane_centre", False),
        ("road_edge", False),
        ("crosswalk", True),
        ("drivable", True),
    ]
    np.testing.assert_array_equal(made.map[0].points, [[0, 0], [5, 0], [10, 0]])
    area = made.map[4].points
    np.testing.assert_allclose([area.min(axis=0), area.max(axis=0)], [[0, -1.75], [10, 1.75]])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"objects": [], "roads": []}',
        b"\x1f\x8b\x08 cut short",
        b"\xff",
        b"[" * 100_000,
        json.dumps(scenario([agent(Mover(0, 0))], ego=float("inf"))).encode(),  # type: ignore[arg-type]
        json.dumps(scenario([agent(Mover(0, 0), length=10**400)])).encode(),
    ],
)
def test_what_is_no_scenario_is_refused(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.json"):
        WaymoJson().read(str(path), 0.5)


def test_a_file_cut_short_is_refused(tmp_path):
    path = Path(write(tmp_path / "a.json.gz", crossing(0)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a\.json\.gz"):
        WaymoJson().read(str(path), 0.5)


def test_a_file_that_unpacks_into_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(waymo_json, "MAX_BYTES", 100_000)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 10_000_000))
    with pytest.raises(DataError, match=r"bomb\.json\.gz \(more than 100000 bytes"):
        WaymoJson().read(str(path), 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"valid": [True]},
        {"position": None},
        {"heading": "north"},
        {"length": "long"},
    ],
)
def test_an_object_of_another_shape_is_refused(tmp_path, change):
    content = scenario([agent(Mover(0, 0)), agent(Mover(5, 0)) | change])
    with pytest.raises(DataError, match="a Waymo scenario"):
        read(tmp_path, content)


def test_without_any_vehicle_there_is_nothing_to_centre_on(tmp_path):
    content = scenario([agent(Mover(0, 0), kind="pedestrian")], ego=None)
    with pytest.raises(DataError, match="a vehicle to centre"):
        read(tmp_path, content)


@pytest.mark.parametrize("dt_s", [0.25, 0.05])
def test_a_step_that_frames_cannot_make_up_is_refused(tmp_path, dt_s):
    with pytest.raises(DataError, match="divides"):
        read(tmp_path, crossing(0), dt_s)


@needs("waymo_motion_json")
def test_in_real_recordings_heading_agrees_with_motion():
    units = WaymoJson().find([str(recording("waymo_motion_json"))])
    for unit in units[:: len(units) // 8]:
        state = WaymoJson().read(unit, 0.5).state
        assert np.median(heading_errors(state)) < np.radians(2), unit
