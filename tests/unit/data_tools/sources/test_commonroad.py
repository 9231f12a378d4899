"""The commonroad source: both versions, what their values may be, and what is no scenario."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools.formats import xml
from data_tools.prepare import PrepareOptions, prepare
from data_tools.scene import Scene
from data_tools.sources import commonroad_map, source
from data_tools.sources.commonroad import CommonRoad
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.commonroad import (
    CAR,
    CIRCLE,
    LANE,
    LITTLE,
    RECTANGLE,
    SLOW,
    STEPS,
    exact,
    interval,
    lanelet,
    obstacle,
    point,
    scenario,
    state,
    states,
    write,
)
from tests.support.recordings import (
    assert_read_from_elsewhere,
    assert_read_or_refused,
    heading_errors,
    lane_errors,
    needs,
    recording,
)
from tests.support.stores import GRID, Mover


def read(tmp_path: Path, *parts: str, dt_s: float = 0.5, **about: Any) -> Scene:
    return CommonRoad().read(write(tmp_path / "a.xml", scenario(*parts, **about)), dt_s)


def test_scenarios_are_found_plain_and_gzipped(tmp_path):
    for name in ("a.xml", "b.xml.gz", "c.json"):
        write(tmp_path / name)
    found = source("commonroad").find([str(tmp_path)])
    assert [Path(unit).name for unit in found] == ["a.xml", "b.xml.gz"]


@pytest.mark.parametrize("version", ["2018b", "2020a"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_scenario_has_its_obstacles_where_they_are(tmp_path, version, pack):
    later = range(10, 31)
    content = scenario(
        obstacle("7", states(CAR, range(STEPS)), version=version),
        obstacle("8", states(SLOW, later), kind="bicycle", version=version),
        obstacle(
            *("3", states(Mover(5.0, -4.0, yaw=1.0), [0]), "parkedVehicle"),
            **{"version": version, "role": "static"},
        ),
        version=version,
    )
    made = CommonRoad().read(write(tmp_path / "a.xml.gz", pack(content.encode())), 0.5)
    assert (made.name, made.dt_s, made.track_id) == ("a", 0.5, ("7", "8", "3"))
    assert made.track_class == ("car", "bicycle", "parkedVehicle")
    np.testing.assert_allclose(made.time_s, np.arange(0, 4.6, 0.5))
    np.testing.assert_allclose(made.state[0], CAR.state(made.time_s))
    seen = (made.time_s >= 0.95) & (made.time_s <= 3.05)
    np.testing.assert_allclose(made.state[1, seen], SLOW.state(made.time_s[seen]))
    assert np.isnan(made.state[1, ~seen]).all()
    np.testing.assert_allclose(made.state[2], [[5.0, -4.0, 1.0, 4.5, 2.0]] * 10)
    assert made.observed is not None
    np.testing.assert_allclose(made.observed.state[0], CAR.state(0.1 * np.arange(STEPS)))


def test_times_are_steps_of_the_size_that_the_scenario_has(tmp_path):
    made = read(tmp_path, obstacle("7", states(CAR, range(100, 140))), step="0.04", dt_s=0.2)
    np.testing.assert_allclose(made.time_s, 4.0 + np.arange(8) * 0.2)
    np.testing.assert_allclose(made.state[0, :, :2], CAR.state(10 + np.arange(8) * 0.5)[:, :2])


def test_of_intervals_and_areas_the_middle_is_taken_and_counted(tmp_path):
    area = (
        "<rectangle><length>2.0</length><width>1.0</width><orientation>0.7</orientation>"
        f"{point(30.0, 5.0, 'center')}</rectangle>"
    )
    moves = [
        *states(CAR, range(10)),
        state(exact(10), point(8.0, 1.0), interval(0.2, 0.6)),
        state(interval(10.5, 12.0), area, exact(0.1)),
        state(exact(12), '<lanelet ref="1"/>', exact(0.1)),
    ]
    made = read(tmp_path, obstacle("7", moves), dt_s=0.1)
    np.testing.assert_allclose(made.state[0, 10:12, :3], [[8.0, 1.0, 0.4], [30.0, 5.0, 0.1]])
    assert np.isnan(made.state[0, 12, :2]).all()
    assert made.notes["values given as intervals, their middle taken"] == 2
    assert made.notes["places given as areas, their middle taken"] == 1


@pytest.mark.parametrize(
    ("shape", "box", "counted"),
    [
        (RECTANGLE, [0.0, 0.0, 0.0, 4.5, 2.0], 0),
        (
            "<rectangle><length>4.0</length><width>1.0</width><orientation>0.5</orientation>"
            f"{point(1.0, 2.0, 'center')}</rectangle>",
            [1.0, 2.0, 0.5, 4.0, 1.0],
            0,
        ),
        (CIRCLE, [0.0, 0.0, 0.0, 0.8, 0.8], 1),
        (f"<circle><radius>1</radius>{point(3.0, 0.0, 'center')}</circle>", [3, 0, 0, 2, 2], 1),
        (
            f"<polygon>{point(-1.0, -1.0)}{point(3.0, 0.0)}{point(-1.0, 2.0)}</polygon>",
            [1.0, 0.5, 0.0, 4.0, 3.0],
            1,
        ),
        (
            RECTANGLE + f"<circle><radius>1</radius>{point(5.0, 0.0, 'center')}</circle>",
            [1.875, 0.0, 0.0, 8.25, 2.0],
            1,
        ),
    ],
)
def test_shapes_are_boxes_in_the_frame_of_the_obstacle(tmp_path, shape, box, counted):
    there = Mover(10.0, 20.0, yaw=np.pi / 2)
    parked = obstacle("3", states(there, [0]), shape=shape, role="static")
    made = read(tmp_path, obstacle("7", states(CAR, range(6))), parked)
    x, y, yaw, length, width = box
    np.testing.assert_allclose(
        made.state[1, 0], [10.0 - y, 20.0 + x, np.pi / 2 + yaw, length, width]
    )
    note = "shapes other than one rectangle, the box around them taken"
    assert made.notes.get(note, 0) == counted


def test_the_grid_follows_the_vehicle_that_moves_furthest(tmp_path):
    far = Mover(0.0, -9.0, speed=12.0)
    made = read(
        tmp_path,
        obstacle("1", states(SLOW, range(STEPS))),
        obstacle("2", states(CAR, range(STEPS))),
        obstacle("3", states(far, range(STEPS)), kind="pedestrian", shape=CIRCLE),
        obstacle("4", states(Mover(9.0, 9.0), [0]), "parkedVehicle", role="static"),
    )
    assert made.ego_tracks == (1, 0, 3)
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])
    assert made.notes["no ego named"] == 1


def test_where_there_is_no_vehicle_anybody_is_followed(tmp_path):
    walker = obstacle("1", states(SLOW, range(STEPS)), "pedestrian", CIRCLE)
    assert read(tmp_path, walker).ego_tracks == (0,)


def test_what_is_no_trajectory_is_counted_and_not_made_up(tmp_path):
    occupancy = f"<occupancy><shape>{CIRCLE}</shape><time>{exact(1)}</time></occupancy>"
    phantom = f'<phantomObstacle id="5"><occupancySet>{occupancy}</occupancySet></phantomObstacle>'
    building = f'<environmentObstacle id="6"><shape>{CIRCLE}</shape></environmentObstacle>'
    by_set = obstacle("8", states(SLOW, [0])).replace(
        "</dynamicObstacle>", f"<occupancySet>{occupancy}</occupancySet></dynamicObstacle>"
    )
    made = read(tmp_path, obstacle("7", states(CAR, range(11))), by_set, phantom, building)
    assert made.track_id == ("7", "8")
    assert np.isfinite(made.state[1, :, 0]).tolist() == [True, False, False]
    assert made.notes["phantom and environment obstacles, left out"] == 2
    assert (
        made.notes["agents with an occupancy set for a trajectory, only their first place taken"]
        == 1
    )


def test_lanelets_are_the_map(tmp_path):
    def strip(y: float) -> tuple[Any, Any]:
        return [(0, y + 4), (5, y + 4), (20, y + 4)], [(0, y), (9, y), (20, y)]

    made = read(
        tmp_path,
        lanelet("1", *strip(0.0), "urban", "mainCarriageWay"),
        lanelet("2", *strip(4.0)),
        lanelet("3", *(side[::-1] for side in strip(8.0)[::-1]), "busLane"),
        lanelet("4", *strip(20.0), "bicycleLane"),
        lanelet("5", *strip(30.0), "sidewalk"),
        lanelet("6", [(2, 0), (2, 4)], [(4, 0), (4, 4)], "crosswalk"),
        lanelet("7", *strip(12.0), "shoulder"),
        lanelet("8", [(40, 4), (50, 4), (60, 4)], [(40, 0), (60, 0)], "urban"),
        obstacle("7", states(CAR, range(STEPS))),
    )
    layers = Counter(element.layer for element in made.map)
    assert layers == {"lane_centre": 5, "drivable": 5, "crosswalk": 1, "road_edge": 2}
    lanes = [e.points for e in made.map if e.layer == "lane_centre"]
    np.testing.assert_allclose(lanes[0], [[0, 2], [7, 2], [20, 2]])
    np.testing.assert_allclose(lanes[2], [[20, 10], [7, 10], [0, 10]])
    np.testing.assert_allclose(lanes[4][[0, -1]], [[40, 2], [60, 2]])
    drivable = shapely.union_all(
        [shapely.Polygon(e.points) for e in made.map if e.layer == "drivable"]
    )
    assert drivable.area == pytest.approx(20 * 16 + 20 * 4)
    (crosswalk,) = (e for e in made.map if e.layer == "crosswalk")
    assert shapely.Polygon(crosswalk.points).bounds == (2, 0, 4, 4)


def test_a_lanelet_that_crosses_itself_is_mended(tmp_path):
    crossed = lanelet("1", [(0, 0), (10, 4)], [(0, 4), (10, 0)])
    made = read(tmp_path, crossed, obstacle("7", states(CAR, range(STEPS))))
    areas = [shapely.Polygon(e.points) for e in made.map if e.layer == "drivable"]
    assert all(area.is_valid for area in areas)
    assert sum(area.area for area in areas) == pytest.approx(20)


def test_scenarios_are_read_from_elsewhere(tmp_path):
    write(tmp_path / "a.xml")
    assert_read_from_elsewhere(CommonRoad(), tmp_path)


MOVES = states(CAR, range(STEPS))
BAD_NUMBERS = ("", "x", "1,5", "9" * 5000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "no element"),
        ("<osm/>", "an XML file whose root is commonRoad"),
        (LITTLE[:-20], "no element|unclosed"),
        (f"<!DOCTYPE a>{LITTLE[39:]}", "document type"),
        (LITTLE.replace("2020a", "2017a"), "2018b or 2020a"),
        (LITTLE.replace('commonRoadVersion="2020a"', ""), "2018b or 2020a"),
        (LITTLE.replace("timeStepSize", "size"), "timeStepSize"),
        *((scenario(obstacle("7", MOVES), step=step), "timeStepSize") for step in (0, -1, "nan")),
        (scenario(obstacle("7", MOVES), step="1e400"), "timeStepSize"),
        (scenario(obstacle("7", MOVES), step="fast"), "could not convert"),
        (scenario(obstacle("7", MOVES), step=0.3), "divides"),
        (scenario(LANE), "traffic"),
        (scenario(obstacle("7", MOVES[:1])), "two frames"),
        (scenario(obstacle("7", MOVES), obstacle("7", MOVES)), "each id once"),
        (scenario(obstacle("7", MOVES)).replace(' id="7"', ""), "'id'"),
        (scenario(obstacle("7", MOVES[::-1])), "initialState"),
        (scenario(obstacle("7", [MOVES[0], *MOVES[:0:-1]])), "time steps that ascend"),
        (scenario(obstacle("7", [*MOVES, MOVES[-1]])), "time steps that ascend"),
        (scenario(obstacle("7", MOVES)).replace(exact(9), exact(10**8)), "ascend"),
        (scenario(obstacle("7", MOVES)).replace(exact(45), exact(10**8)), "time steps and"),
        (scenario(obstacle("7", MOVES)).replace(exact(45), exact(10**30)), "large|time steps"),
        (scenario(obstacle("7", MOVES)).replace(exact(45), exact("nan")), "NaN"),
        (scenario(obstacle("7", MOVES)).replace(exact(45), exact("1e400")), "infinity"),
        (scenario(obstacle("7", MOVES)).replace("<exact>1.0<", "<about>1.0<"), "mismatched"),
        (scenario(obstacle("7", MOVES, shape="<blob/>")), "a shape blob"),
        (scenario(obstacle("7", MOVES, shape=CIRCLE.replace("0.4", "-1"))), "a circle of -2 m"),
        (scenario(obstacle("7", MOVES, shape="<polygon/>")), "zero-size"),
        (scenario(obstacle("7", MOVES, shape="<rectangle/>")), "length of rectangle"),
        *((LITTLE.replace("4.5", number), "a.xml") for number in BAD_NUMBERS[:3]),
        *((LITTLE.replace("<x>-20<", f"<x>{number}<"), "a.xml") for number in BAD_NUMBERS),
        *(
            (LITTLE.replace("<x>-20<", f"<x>{number}<"), "leftBound of lanelet 1")
            for number in ("nan", "1e400", "1e9")
        ),
        (scenario(lanelet("1", [(0, 0)], [(0, 4)]), obstacle("7", MOVES)), "two points or more"),
        (scenario('<lanelet id="1"/>', obstacle("7", MOVES)), "two points or more"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_no_scenario_is_refused_by_name_in_one_line(tmp_path, content, reason):
    with pytest.raises(DataError, match=reason) as refused:
        CommonRoad().read(write(tmp_path / "a.xml", content), 0.5)
    assert "a.xml" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("number", ["nan", "inf", "1e400", "-1e300"])
@pytest.mark.parametrize("shape", [RECTANGLE, CIRCLE])
def test_places_that_are_not_finite_are_left_to_be_counted(tmp_path, number, shape):
    place = f"<point><x>{number}</x><y>0</y></point>"
    moves = [MOVES[0], state(exact(5), place, exact(0.0)), *MOVES[6:]]
    made = read(tmp_path, obstacle("7", moves, shape=shape))
    assert not abs(made.state[0, 1, 0]) < 1e8
    assert np.isfinite(made.state[0, 2:]).all()


def test_more_than_any_scenario_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(commonroad_map, "MAX_LANELETS", 0)
    with pytest.raises(DataError, match=r"lanelets at most.*a\.xml"):
        CommonRoad().read(write(tmp_path / "a.xml"), 0.5)
    monkeypatch.setattr(xml, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="1000 bytes at most"):
        CommonRoad().read(write(tmp_path / "a.xml"), 0.5)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, len(LITTLE)), st.binary(max_size=4)), max_size=4))
def test_a_changed_file_gives_a_scene_or_is_refused(tmp_path, changes):
    content = LITTLE.encode()
    for place, put in changes:
        content = content[:place] + put + content[place + len(put) :]
    assert_read_or_refused(CommonRoad(), write(tmp_path / "any.xml", content), "any.xml")


def real() -> list[str]:
    """Some of the real scenarios, all places and both versions among them."""
    return CommonRoad().find([str(recording("commonroad_ngsim"))])[::7]


def boxes(root: ET.Element) -> dict[str, dict[int, list[float]]]:
    """The boxes of a real file by id and time step, read with nothing but its tags."""
    found: dict[str, dict[int, list[float]]] = {}
    for item in root:
        if item.tag in ("obstacle", "dynamicObstacle"):
            size = [float(item.findtext(f"shape/rectangle/{side}")) for side in ("length", "width")]
            found[item.get("id")] = {
                int(s.findtext("time/exact")): [
                    float(s.findtext("position/point/x")),
                    float(s.findtext("position/point/y")),
                    float(s.findtext("orientation/exact")),
                    *size,
                ]
                for s in (item.find("initialState"), *item.iter("state"))
            }
    return found


@needs("commonroad_ngsim")
def test_the_real_scenarios_have_what_a_plain_reading_has():
    versions = set()
    for unit in real():
        root = ET.fromstring(gzip.decompress(Path(unit).read_bytes()))
        versions.add(root.get("commonRoadVersion"))
        expected, made = boxes(root), CommonRoad().read(unit, 0.1)
        assert made.name == root.get("benchmarkID")
        assert made.track_id == tuple(expected)
        assert set(made.track_class) == {"car"}
        np.testing.assert_allclose(made.time_s, 0.1 * np.arange(len(made.time_s)), atol=1e-9)
        for got, track in zip(made.state, expected.values(), strict=True):
            seen = np.flatnonzero(np.isfinite(got).all(axis=1))
            assert seen.tolist() == sorted(track)
            wanted = np.array([track[step] for step in seen.tolist()])
            np.testing.assert_array_equal(got[seen][:, [0, 1, 3, 4]], wanted[:, [0, 1, 3, 4]])
            turned = np.exp(1j * got[seen, 2]) - np.exp(1j * wanted[:, 2])
            assert np.abs(turned).max() < 1e-9
        ends = [
            [float(lane.findtext(f"{side}Bound/point[{place}]/{axis}")) for axis in "xy"]
            for lane in root.findall("lanelet")
            for place in ("1", "last()")
            for side in ("left", "right")
        ]
        lanes = [e.points for e in made.map if e.layer == "lane_centre"]
        np.testing.assert_allclose(
            np.array([lane[[0, -1]] for lane in lanes]),
            np.array(ends).reshape(-1, 2, 2, 2).mean(axis=2),
        )
    assert versions == {"2018b", "2020a"}


@needs("commonroad_ngsim")
def test_in_the_real_scenarios_vehicles_head_where_they_go_along_their_lanes():
    for unit in real()[::3]:
        made = CommonRoad().read(unit, 0.5)
        assert np.median(heading_errors(made.state)) < np.radians(2), unit
        assert np.median(lane_errors(made, "car")) < np.radians(3), unit
        road = shapely.union_all(
            [shapely.Polygon(e.points).buffer(0) for e in made.map if e.layer == "drivable"]
        )
        places = made.state[np.isfinite(made.state[..., 0])][:, :2]
        assert shapely.contains_xy(road, places).mean() > 0.9, unit


@needs("commonroad_ngsim")
def test_real_scenarios_become_a_store(tmp_path):
    folder = recording("commonroad_ngsim")
    options = PrepareOptions(grid=GRID, stride=4)
    report = prepare("commonroad", [f"{folder}/*US101-7*"], str(tmp_path / "out.zarr"), options)
    assert report.notes["no ego named"] == report.scenes
    store, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert meta.source == "commonroad"
    assert store["map"].values.any(axis=(2, 3)).all(axis=0).tolist() == [True, True, True, False]
    assert set(np.unique(store["track_class"].values)) == {0, 1}
