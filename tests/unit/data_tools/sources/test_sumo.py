"""Simulated traffic: what a seed gives, and that it moves as traffic does."""

import subprocess
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shapely

from data_tools.scene import Scene
from data_tools.sources import source
from data_tools.sources.sumo import Sumo, _look_ahead, _noise, _paced, _wandering, centre_poses
from data_tools.sources.sumo_demand import Body, _Habits, _likely, _trip
from data_tools.sources.sumo_network import Lane, _layout, build_network, run_tool
from forecast.angles import wrap_angle
from forecast.errors import ConfigError, DataError

pytest.importorskip("sumo", reason="the extra `sumo` is not installed")

SEEDS = (13, 21)  # quick ones; 13 has no pavements, 21 has


@cache
def scene(seed: int) -> Scene:
    return Sumo().read(str(seed), 0.1)


def angle_between(first, second):
    return np.abs(wrap_angle(first - second))


def course_at(lane, point):
    at = lane.project(point)
    ahead, behind = lane.interpolate(at + 0.5), lane.interpolate(max(at - 0.5, 0.0))
    return np.arctan2(ahead.y - behind.y, ahead.x - behind.x)


@pytest.mark.parametrize(
    ("inputs", "units"),
    [
        (["7"], ["7"]),
        (["0:3"], ["0", "1", "2"]),
        (["5", "4:6", "5"], ["5", "4"]),
    ],
)
def test_seeds_and_half_open_ranges_become_units_each_once(inputs, units):
    assert Sumo().find(inputs) == units


@pytest.mark.parametrize("text", ["", "a", "3:3", "5:2", "-1", "1.5", "1:2:3", "1:", ":4"])
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(DataError, match="a seed such as 7"):
        Sumo().find([text])


def test_a_seed_gives_the_same_scene_again_and_a_coarser_step_keeps_the_finer_ones_frames():
    fine, coarse = scene(21), Sumo().read("21", 0.5)
    assert fine.track_id == coarse.track_id
    assert fine.track_class == coarse.track_class
    np.testing.assert_allclose(np.diff(fine.time_s), 0.1)
    np.testing.assert_allclose(np.diff(coarse.time_s), 0.5)
    np.testing.assert_array_equal(fine.state[:, ::5], coarse.state)
    np.testing.assert_array_equal(fine.ego_pose[::5], coarse.ego_pose)
    assert len(fine.map) == len(coarse.map)
    for one, other in zip(fine.map, coarse.map, strict=True):
        np.testing.assert_array_equal(one.points, other.points)


def test_other_seeds_give_other_scenes():
    assert scene(13).state.shape != scene(21).state.shape


@pytest.mark.parametrize("window", ["0", "-3", "601", "nan", "inf"])
def test_a_window_that_nobody_can_simulate_is_refused(window):
    with pytest.raises(ConfigError, match="window_s from 1 to 600 s"):
        source("sumo", {"window_s": window})


@pytest.mark.parametrize(("window", "last"), [(20.0, 20.0), (15.15, 15.0)])
def test_a_scene_may_be_longer_and_ends_with_a_whole_step(window, last):
    longer = Sumo(window_s=window).read(str(SEEDS[0]), 0.5)
    assert longer.time_s[-1] == pytest.approx(last)
    assert np.isfinite(longer.ego_pose).all()


def test_a_step_that_is_no_multiple_of_the_simulators_is_refused():
    with pytest.raises(DataError, match=r"0\.25"):
        Sumo().read("2", 0.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ego_drives_among_the_agents_through_the_whole_window(seed):
    found = scene(seed)
    assert np.isfinite(found.ego_pose).all()
    assert np.linalg.norm(np.diff(found.ego_pose[:, :2], axis=0), axis=1).sum() > 10.0
    away = np.linalg.norm(found.state[..., :3] - found.ego_pose, axis=-1).max(axis=1)
    assert np.nanmin(away) < 0.2  # the ego itself, but for the tracker's error


@pytest.mark.parametrize("seed", SEEDS)
def test_vehicles_head_where_they_move_and_nobody_jumps(seed):
    found = scene(seed)
    steps = np.diff(found.state[..., :2], axis=1)
    assert np.nanmax(np.linalg.norm(steps, axis=-1) / 0.1) < 40.0
    wheels = found.state[np.array(found.track_class) != "pedestrian", ::5]
    steps = np.diff(wheels[..., :2], axis=1)
    moved = np.linalg.norm(steps, axis=-1) > 1.0
    course = np.arctan2(steps[..., 1], steps[..., 0])
    yaw = wheels[..., 2]
    middle = yaw[:, :-1] + wrap_angle(np.diff(yaw, axis=1)) / 2
    assert np.degrees(np.median(angle_between(course, middle)[moved])) < 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_some_vehicles_move_and_some_stand(seed):
    found = scene(seed)
    vehicles = found.state[np.array(found.track_class) == "vehicle"]
    moved = np.linalg.norm(vehicles[:, -1, :2] - vehicles[:, 0, :2], axis=-1)
    share = (moved[np.isfinite(moved)] > 2.0).mean()
    assert 0.03 < share < 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_all_five_numbers_of_a_state_are_there_or_none(seed):
    known = np.isfinite(scene(seed).state)
    assert (known.all(axis=-1) == known.any(axis=-1)).all()
    assert known.any(axis=(1, 2)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_vehicles_are_on_the_drivable_area_along_its_lanes(seed):
    found = scene(seed)
    pieces = [shapely.Polygon(e.points) for e in found.map if e.layer == "drivable"]
    area = shapely.union_all(shapely.make_valid(pieces))
    lanes = [shapely.LineString(e.points) for e in found.map if e.layer == "lane_centre"]
    tree = shapely.STRtree(lanes)
    states = found.state[np.array(found.track_class) == "vehicle", ::20].reshape(-1, 5)
    states = states[np.isfinite(states[:, 0])]
    assert shapely.contains_xy(area, *states[:, :2].T).mean() > 0.995
    path = found.ego_pose[::5]
    moved = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) > 1.0
    for x, y, yaw in path[1:][moved]:
        near = tree.query(shapely.Point(x, y), predicate="dwithin", distance=3.0)
        courses = [course_at(lanes[index], shapely.Point(x, y)) for index in near]
        assert np.degrees(angle_between(np.array(courses), yaw).min()) < 30.0


def test_pedestrians_come_with_crosswalks():
    assert "pedestrian" in scene(21).track_class
    assert any(e.layer == "crosswalk" and e.closed for e in scene(21).map)


def test_a_pulled_axle_keeps_the_heading_on_a_straight_and_settles_on_a_circle():
    time = np.arange(200) * 0.1
    straight = np.stack([10 * time * np.cos(0.7), 10 * time * np.sin(0.7), 0.7 + 0 * time], -1)
    turn = time * 0.4  # 20 m radius at 8 m/s
    circle = np.stack([20 * np.sin(turn), -20 * np.cos(turn), turn], axis=-1)
    bodies = [Body("vehicle", 4.0, 1.8), Body("vehicle", 4.0, 1.8)]
    poses = centre_poses(np.stack([straight, circle]), bodies)
    np.testing.assert_allclose(poses[0, :, 2], 0.7)
    np.testing.assert_allclose(
        poses[0, :, :2], straight[:, :2] - 2 * np.array([np.cos(0.7), np.sin(0.7)]), atol=1e-9
    )
    # The rear axle's path is tangent to its heading: sin(lag) = arm / radius of the front.
    lag = wrap_angle(turn - poses[1, :, 2])
    np.testing.assert_allclose(lag[-50:], np.arcsin(3.0 / 20.0), atol=0.01)


def test_a_pulled_axle_starts_anew_after_a_gap():
    front = np.full((1, 6, 3), np.nan)
    front[0, 1:3] = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    front[0, 4:] = [[50.0, 9.0, 1.5], [50.0, 9.0, 1.5]]
    poses = centre_poses(front, [Body("vehicle", 4.0, 1.8)])
    assert np.isnan(poses[0, [0, 3]]).all()
    np.testing.assert_allclose(poses[0, 4:, 2], 1.5)


def test_a_failing_simulator_says_why(monkeypatch, tmp_path: Path):
    with pytest.raises(DataError, match="netconvert to succeed"):
        run_tool("netconvert", ["-n", str(tmp_path / "none.xml"), "-o", str(tmp_path / "net.xml")])
    with pytest.raises(DataError, match="nosuchtool to start"):
        run_tool("nosuchtool", [])
    failed = subprocess.CompletedProcess([], 1, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match="no message"):
        Sumo().read("2", 0.5)


def test_only_walkers_stray_and_look_about_and_they_do_so_smoothly():
    exact = {"position_noise_m": 0.0, "yaw_noise_rad": 0.0}
    straight = Sumo(wander_m_s=0.0, look_rad=0.0, **exact).read("21", 0.5)
    strayed = Sumo(wander_m_s=0.15, look_rad=0.1, **exact).read("21", 0.5)
    walks = np.array(straight.track_class) == "pedestrian"
    np.testing.assert_array_equal(strayed.state[~walks], straight.state[~walks])
    away = (strayed.state - straight.state)[walks]
    assert 0.1 < np.sqrt(np.nanmean(away[..., :2] ** 2)) < 3.0
    bends = np.diff(strayed.state[walks, :, :2], 2, axis=1)
    assert np.nanmedian(np.linalg.norm(bends, axis=-1)) < 0.1  # half a second each
    steps = np.diff(strayed.state[walks, :, :2], axis=1)
    course = np.arctan2(steps[..., 1], steps[..., 0])
    aside = angle_between(course, strayed.state[walks, 1:, 2])
    assert 0.03 < np.nanmedian(aside[np.linalg.norm(steps, axis=-1) > 0.3]) < 0.3


def test_walkers_begin_on_their_line_and_do_not_stray_while_they_wait():
    x = np.concatenate([np.full(50, np.nan), np.linspace(0, 13, 100), np.full(100, 13.0)])
    path = np.column_stack([x, 0 * x, 0 * x])
    body = {str(i): Body("pedestrian", 0.8, 0.8) for i in range(50)}
    strayed = _wandering(dict.fromkeys(body, path), body, 0.2, np.random.default_rng(0))
    away = np.stack(list(strayed.values()))[..., :2] - path[:, :2]
    assert np.isnan(away[:, :50]).all()
    assert np.abs(away[:, 50]).max() < 0.3
    assert np.sqrt((away[:, 149] ** 2).mean()) > 0.3
    np.testing.assert_allclose(np.diff(away[:, 160:], axis=1), 0.0, atol=1e-12)


def test_drivers_keep_to_their_way_and_stand_where_they_stood_but_at_a_pace_that_varies():
    x = np.concatenate([np.full(20, np.nan), np.zeros(60), np.cumsum(np.full(160, 1.0))])
    path = np.column_stack([x, 0.02 * x**2, 0 * x])
    bodies = {str(i): Body("vehicle", 4.5, 1.9) for i in range(50)}
    driven = dict.fromkeys(bodies, path)
    paced = np.stack(list(_paced(driven, bodies, 0.03, np.random.default_rng(0)).values()))
    assert np.isnan(paced[:, :20]).all()
    assert np.isfinite(paced[:, -1]).all(), "who is there when the simulation ends has not left"
    assert np.diff(paced[:, -9:, 0], axis=1).min() > 0.5
    np.testing.assert_allclose(paced[:, 30:60], path[None, 30:60].repeat(50, 0))
    along = paced[:, 100:220]
    np.testing.assert_allclose(along[..., 1], 0.02 * along[..., 0] ** 2, atol=0.01)
    pace = np.diff(along[..., 0], axis=1)
    assert (pace >= 0).all()
    assert 0.004 < np.median(pace.std(axis=1)) < 0.1  # it drives at 28 m/s
    assert np.median(np.abs(np.diff(pace, axis=1)).max(axis=1)) < 0.05  # no jolts
    unpaced = _paced(driven, bodies, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(np.stack(list(unpaced.values())), np.stack([path] * 50))
    walker = {"0": Body("pedestrian", 0.8, 0.8)}
    assert _paced({"0": path}, walker, 0.03, np.random.default_rng(0))["0"] is path


SIZES = ["position_noise_m", "yaw_noise_rad", "wander_m_s", "look_rad", "pace"]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", ["-0.1", "nan", "inf"])
def test_errors_that_are_no_size_are_refused(name, value):
    with pytest.raises(ConfigError, match="of at least 0"):
        source("sumo", {name: value})


def test_walkers_look_where_they_will_go_before_they_go_there():
    east, north = np.linspace(0.0, 5.0, 51), np.linspace(0.0, 5.0, 51)[1:]
    corner = np.concatenate([np.stack([east, 0 * east], 1), np.stack([0 * north + 5, north], 1)])
    path = np.column_stack([corner, np.full(len(corner), 9.0)])  # 1 m/s, the corner at 5 s
    yaw = _look_ahead(path)
    np.testing.assert_allclose(yaw[:40], 0.0, atol=1e-9)
    assert (np.diff(yaw[40:51]) > 0).all()
    np.testing.assert_allclose(yaw[50:], np.pi / 2, atol=1e-9)  # the last second's, too
    waits = np.column_stack([np.zeros((30, 2)), np.full(30, 0.7)])
    np.testing.assert_array_equal(_look_ahead(waits), waits[:, 2])
    gone = path.copy()
    gone[:20] = np.nan
    assert np.isnan(_look_ahead(gone)[:20]).all()
    np.testing.assert_allclose(_look_ahead(gone)[20:], yaw[20:])


# Matern covariance after one time constant: exp(-1) times 1, or 1 + 1.
@pytest.mark.parametrize(("smooth", "kept"), [(1, 0.368), (2, 0.736)])
def test_noise_has_variance_one_and_forgets_in_time(smooth, kept):
    rng = np.random.default_rng(0)
    walks = np.array([_noise(200, 1.5, rng, smooth) for _ in range(2000)])
    assert walks.std() == pytest.approx(1.0, abs=0.03)
    after = (walks[:, :-15] * walks[:, 15:]).mean()
    late = (walks[:, :-120] * walks[:, 120:]).mean()
    assert after == pytest.approx(kept, abs=0.03)
    assert abs(late) < 0.05
    bend = np.abs(np.diff(walks, 2, axis=1)).mean()
    assert (bend < 0.1) == (smooth == 2)


def test_where_junctions_are_far_apart_traffic_may_be_fast(tmp_path):
    far = next(s for s in range(99) if "--grid.x-attach-length" in _layout(seeded(s)))
    network = build_network(tmp_path, far, seeded(far))
    lanes = [lane for edge in ET.parse(network.path).getroot() for lane in edge.iter("lane")]
    lanes = [lane for lane in lanes if lane.get("disallow") != "all" and not lane.get("allow")]
    long = [float(one.attrib["speed"]) for one in lanes if float(one.attrib["length"]) > 300.0]
    assert long
    assert max(long) * 3.6 > 65.0


def test_where_traffic_flows_nobody_waits_for_signals(tmp_path, monkeypatch):
    kinds = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("data_tools.sources.sumo_network.FLOWING", share)
        for seed in range(4):
            folder = tmp_path / f"{share} {seed}"
            folder.mkdir()
            network = ET.parse(build_network(folder, seed, seeded(seed)).path).getroot()
            kinds.setdefault(share, set()).update(
                one.get("type") for one in network.iter("junction")
            )
    assert kinds[0.0] >= {"traffic_light", "priority"}
    assert "priority" in kinds[1.0]
    assert not kinds[1.0] & {"traffic_light", "allway_stop", "right_before_left"}


def seeded(seed):
    return np.random.default_rng(seed)


def test_faster_drivers_keep_their_speed_the_better():
    bodies = {str(i): Body("vehicle", 4.5, 1.9) for i in range(200)}

    def shares(speed):
        path = np.column_stack([np.arange(240) * speed * 0.1, np.zeros(240), np.zeros(240)])
        paced = _paced(dict.fromkeys(bodies, path), bodies, 0.03, np.random.default_rng(0))
        steps = np.diff(np.stack(list(paced.values()))[:, 40:200, 0], axis=1) / (speed * 0.1)
        return np.median(steps.std(axis=1))

    assert shares(4.0) == pytest.approx(shares(8.0), rel=0.05)
    assert shares(24.0) == pytest.approx(shares(8.0) / 3, rel=0.05)


def test_most_trips_begin_on_fast_roads():
    def lane(edge, points, limit):
        return Lane(edge, "drive", np.array(points, float), 3.2, False, limit)

    driven = {
        one.edge: one
        for one in (
            lane("slow", [(-100, 0), (-50, 0)], 5.0),
            lane("fast", [(-100, 5), (-50, 5)], 20.0),
            lane("out", [(50, 0), (100, 0)], 5.0),
        )
    }
    trips = [_trip(str(i), driven, _Habits(4.0, 2.0), 60.0, seeded(i))[1] for i in range(600)]
    begun = [trip.get("from") for trip in trips if trip.get("departPos") == "random"]
    assert begun.count("fast") > 8 * begun.count("slow") > 0


def test_most_trips_go_straight_on_and_along_fast_roads():
    east = np.array([(-100.0, 0.0), (-50.0, 0.0)])
    ends = np.array([(50.0, 0.0), (-50.0, 100.0), (-50.0, -100.0)])
    ahead, left, right = _likely(east, ends, 4.0, np.array([1.0, 1.0, 4.0]))
    assert right == pytest.approx(4 * left)
    assert ahead > 10 * right
    assert ahead + left + right == pytest.approx(1.0)


def test_in_a_calm_quarter_all_limits_are_lower(tmp_path, monkeypatch):
    limits = {}
    for share in (1.0, 0.5):
        monkeypatch.setattr("data_tools.sources.sumo_network.CALM", (share,))
        folder = tmp_path / str(share)
        folder.mkdir()
        driven = build_network(folder, 3, seeded(3)).edges("drive")
        limits[share] = {edge: lane.limit_m_s for edge, lane in driven.items()}
    ring = {edge for edge in limits[1.0] if edge.startswith("ring")}
    for edge in limits[1.0].keys() - ring:
        assert limits[0.5][edge] == pytest.approx(limits[1.0][edge] / 2, abs=0.01)
