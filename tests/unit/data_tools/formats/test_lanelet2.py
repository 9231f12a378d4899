"""Lanelet2 maps: what becomes of lanelets and borders, and that they lie under the traffic."""

import xml.etree.ElementTree as ET
from collections import Counter
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.formats.lanelet2 import Projection, centred, read_map
from data_tools.labels.rasterise import lane_points
from forecast.angles import wrap_angle
from forecast.errors import DataError
from tests.support.fuzz import damaged, fuzzed
from tests.support.lanelets import Map
from tests.support.recordings import needs, recording

KARLSRUHE = centred(49.01, 8.44)
SAMPLE = recording("interaction_csv")
# Published beside the recordings (test-area-autonomous-driving-dataset, meta_data.csv).
SAMPLE_ORIGIN = (49.01160993928274, 8.43856470258739)
LEFT, RIGHT = [(0, 4), (30, 4), (60, 6)], [(0, 0), (60, 2)]


def found(path, projection=KARLSRUHE):
    notes = Counter()
    elements = read_map(path, projection, notes)
    layers = {
        name: [e for e in elements if e.layer == name] for name in {e.layer for e in elements}
    }
    return layers, notes


def area(elements):
    return shapely.union_all([shapely.Polygon(element.points) for element in elements])


@pytest.mark.parametrize("left", [LEFT, LEFT[::-1]])
@pytest.mark.parametrize("right", [RIGHT, RIGHT[::-1]])
def test_a_lanelet_leads_such_that_its_borders_are_where_they_are_called(tmp_path, left, right):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(left, right)
    layers, notes = found(drawn.write(tmp_path / "a.osm"))
    (lane,) = layers["lane_centre"]
    np.testing.assert_allclose(lane.points[[0, -1]], [[0, 2], [60, 4]], atol=1e-5)
    assert not lane.closed
    np.testing.assert_allclose(
        area(layers["drivable"]).symmetric_difference(shapely.Polygon([*LEFT, *RIGHT[::-1]])).area,
        0.0,
        atol=1e-3,
    )
    assert not notes


def test_the_same_borders_with_their_names_exchanged_lead_back(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(RIGHT, LEFT)
    layers, _ = found(drawn.write(tmp_path / "a.osm"))
    np.testing.assert_allclose(
        layers["lane_centre"][0].points[[0, -1]], [[60, 4], [0, 2]], atol=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(-np.pi, np.pi), st.floats(0.2, 3.0), st.floats(-1.2, 1.2))
def test_any_lane_however_short_or_slanted_leads_forward(tmp_path_factory, turn, length, slant):
    cos, sin = np.cos(turn), np.sin(turn)
    turned = np.array([[cos, sin], [-sin, cos]])
    left = np.array([[slant, 2.0], [length + slant, 2.0]]) @ turned
    right = np.array([[-slant, -2.0], [length - slant, -2.0]]) @ turned
    drawn = Map(KARLSRUHE)
    drawn.lanelet(left[::-1], right)
    layers, _ = found(drawn.write(tmp_path_factory.mktemp("map") / "a.osm"))
    way = np.diff(layers["lane_centre"][0].points[[0, -1]], axis=0)[0]
    np.testing.assert_allclose(way, np.array([length, 0.0]) @ turned, atol=1e-4)


@pytest.mark.parametrize(
    ("tags", "layers"),
    [
        ({}, {"lane_centre": 1, "drivable": 1}),
        ({"subtype": "road"}, {"lane_centre": 1, "drivable": 1}),
        ({"subtype": "highway", "one_way": "no"}, {"lane_centre": 2, "drivable": 1}),
        ({"subtype": "bus_lane"}, {"lane_centre": 1, "drivable": 1}),
        ({"subtype": "bicycle_lane"}, {"lane_centre": 1}),
        ({"subtype": "bikelane"}, {"lane_centre": 1}),
        ({"subtype": "emergency_lane"}, {"drivable": 1}),
        ({"subtype": "crosswalk"}, {"crosswalk": 1}),
        ({"subtype": "walkway"}, {}),
        ({"subtype": "stairs"}, {}),
    ],
)
def test_the_subtype_says_what_a_lanelet_is_for(tmp_path, tags, layers):
    drawn = Map(KARLSRUHE)
    drawn.lanelet([(0, 104), (9, 104)], [(0, 100), (9, 100)])  # a road in any case
    drawn.way([(0, 0), (5, 5)], type="curbstone")
    drawn.lanelet(LEFT, RIGHT, **tags)
    made, _ = found(drawn.write(tmp_path / "a.osm"))
    counts = Counter({name: len(elements) for name, elements in made.items()})
    counts -= Counter({"lane_centre": 1, "drivable": 1, "road_edge": 1})
    assert counts == Counter(layers)


def test_a_road_for_both_directions_has_a_lane_each_way(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT, one_way="no")
    layers, _ = found(drawn.write(tmp_path / "a.osm"))
    there, back = (lane.points for lane in layers["lane_centre"])
    np.testing.assert_array_equal(there, back[::-1])


def test_borders_are_the_kerbs_rails_and_walls(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT)
    for kind in ("road_border", "curbstone", "guard_rail", "wall", "fence", "jersey_barrier"):
        drawn.way([(0, -3), (7, -3)], type=kind, subtype="high")
    for kind in ("line_thin", "virtual", "stop_line", "pedestrian_marking"):
        drawn.way([(0, 9), (7, 9)], type=kind)
    layers, _ = found(drawn.write(tmp_path / "a.osm"))
    assert len(layers["road_edge"]) == 6
    np.testing.assert_allclose(layers["road_edge"][0].points, [[0, -3], [7, -3]], atol=1e-5)


def test_a_map_without_borders_has_the_outline_of_what_is_drivable(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet([(0, 4), (50, 4)], [(0, 0), (50, 0)])
    drawn.lanelet([(50, 8), (0, 8)], [(50, 4), (0, 4)])  # oncoming, side by side
    layers, _ = found(drawn.write(tmp_path / "a.osm"))
    (edge,) = layers["road_edge"]
    assert shapely.LineString(edge.points).length == pytest.approx(2 * (50 + 8), abs=0.1)


def test_areas_to_park_are_drivable_without_their_holes_and_others_are_not(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet([(0, 104), (9, 104)], [(0, 100), (9, 100)])
    rim = [drawn.way([(0, 0), (10, 0), (10, 10)]), drawn.way([(0, 0), (0, 10), (10, 10)])]
    hole = drawn.way([(4, 4), (6, 4), (6, 6), (4, 6), (4, 4)])
    members = [("outer", rim[0]), ("outer", rim[1]), ("inner", hole)]
    drawn.relation(members, type="multipolygon", subtype="parking")
    drawn.relation(members, type="multipolygon", subtype="vegetation")
    layers, notes = found(drawn.write(tmp_path / "a.osm"))
    assert area(layers["drivable"]).area == pytest.approx(9 * 4 + 100 - 4, abs=1e-3)
    assert not notes


def test_a_border_of_several_ways_in_a_row_is_joined(tmp_path):
    drawn = Map(KARLSRUHE)
    shared = [("left", drawn.way([(0, 4), (20, 4)])), ("right", drawn.way([(0, 0), (60, 0)]))]
    more = drawn.way([(60, 4), (20, 4)])
    node = drawn.root.findall("way")[0].findall("nd")[1].attrib["ref"]
    drawn.root.findall("way")[2].findall("nd")[1].set("ref", node)
    drawn.relation([*shared, ("left", more)], type="lanelet")
    layers, notes = found(drawn.write(tmp_path / "a.osm"))
    assert area(layers["drivable"]).area == pytest.approx(240, abs=1e-2)
    assert not notes


def test_what_is_not_whole_is_left_out_and_counted(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT)
    one = drawn.way([(0, 0), (1, 1)])
    drawn.relation([("left", one)], type="lanelet")
    drawn.relation([("left", one), ("right", "999")], type="lanelet")
    drawn.relation([("outer", one)], type="multipolygon", subtype="parking")
    apart = drawn.way([(9, 9), (8, 8)])
    drawn.relation([("left", one), ("left", apart), ("right", one)], type="lanelet")
    wall = ET.SubElement(drawn.root, "way", id="7777")
    ET.SubElement(wall, "nd", ref="888")
    ET.SubElement(wall, "tag", k="type", v="wall")
    layers, notes = found(drawn.write(tmp_path / "a.osm"))
    assert len(layers["lane_centre"]) == 1
    assert notes == {
        "lanelets of the map without whole borders, left out": 3,
        "multipolygons of the map without whole borders, left out": 1,
        "borders of the map without all their nodes, left out": 1,
    }


def test_what_an_editor_marked_as_deleted_is_none(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT)
    drawn.lanelet(LEFT, RIGHT)
    drawn.root.findall("relation")[1].set("action", "delete")
    layers, _ = found(drawn.write(tmp_path / "a.osm"))
    assert len(layers["lane_centre"]) == 1


@pytest.mark.parametrize(
    "place", [(0.0, 0.0), (49.01, 8.44), (-33.9, 151.2), (1.3, 103.8), (40.7, -74.0)]
)
def test_the_origin_of_a_recording_is_at_zero_wherever_it_is(tmp_path, place):
    drawn = Map(centred(*place))
    drawn.lanelet(LEFT, RIGHT)
    layers, _ = found(drawn.write(tmp_path / "a.osm"), centred(*place))
    np.testing.assert_allclose(layers["lane_centre"][0].points[0], [0, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("place", "epsg"),
    [((49.0, 5.99), 32631), ((49.0, 6.0), 32632), ((-1.0, 179.9), 32760), ((0.0, -180.0), 32601)],
)
def test_the_zone_is_that_of_the_origin(place, epsg):
    assert centred(*place).epsg == epsg


@pytest.mark.parametrize("place", [(91.0, 0.0), (np.nan, 0.0), (0.0, np.inf)])
def test_an_origin_that_is_nowhere_is_refused(place):
    with pytest.raises(DataError, match="latitude and longitude of a map's origin"):
        centred(*place)


def test_a_map_far_from_the_recording_is_refused(tmp_path):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT)
    path = drawn.write(tmp_path / "a.osm")
    with pytest.raises(DataError, match=r"within 100 km .*a\.osm, 5428.7\d km away; name latitude"):
        read_map(path, Projection(32632, (0.0, 0.0)), Counter())
    with pytest.raises(DataError, match="a map near the recording"):
        read_map(path, centred(0.0, 0.0 - 100), Counter())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an XML file whose root is osm"),
        ("<osm>", "an XML file whose root is osm"),
        ("<osm/>", "lanelets with two borders; got none"),
        ("<map/>", "of map"),
        ("<osm><node id='1' lat='x' lon='0'/></osm>", "numbers .* node 1 of"),
        ("<osm><node id='1' lat='nan' lon='0'/></osm>", "a map near the recording"),
        ("<osm><node lat='0' lon='0'/></osm>", "ids, and numbers .* node None"),
        ("<osm><node id='1' lat='' lon=''/></osm>", "numbers"),
        ("<osm><way id='1'><nd/></way></osm>", "ids"),
        ("<osm><relation><tag k='type'/></relation></osm>", "ids"),
        ("<!DOCTYPE osm [<!ENTITY a 'b'>]><osm>&a;</osm>", "document type"),
    ],
)
def test_a_file_that_is_no_map_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "a.osm"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as refused:
        read_map(str(path), KARLSRUHE, Counter())
    assert "a.osm" in str(refused.value)
    assert "\n" not in str(refused.value)


@fuzzed
@given(st.data())
def test_a_damaged_map_is_read_or_refused(tmp_path, data):
    drawn = Map(KARLSRUHE)
    drawn.lanelet(LEFT, RIGHT, one_way="no")
    drawn.way([(0, -3), (7, -3)], type="wall")
    rim = drawn.way([(0, 0), (10, 0), (10, 10), (0, 0)])
    drawn.relation([("outer", rim)], type="multipolygon", subtype="parking")
    path = tmp_path / "a.osm"
    drawn.write(path)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with suppress(DataError):
        elements = read_map(str(path), KARLSRUHE, Counter())
        assert all(np.isfinite(element.points).all() for element in elements)


def test_lanes_are_those_of_the_official_library(tmp_path):
    lanelet2 = pytest.importorskip("lanelet2", reason="the library has no wheel here")
    rng = np.random.default_rng(0)
    drawn = Map(KARLSRUHE)
    for _ in range(50):
        start, turn = rng.uniform(-300, 300, 2), rng.uniform(-np.pi, np.pi)
        along = np.linspace(0, rng.uniform(5, 40), rng.integers(2, 9))
        course = turn + rng.uniform(-0.03, 0.03) * along
        path = start + np.cumsum(
            np.gradient(along)[:, None] * np.stack([np.cos(course), np.sin(course)], -1), axis=0
        )
        aside = 1.75 * np.stack([-np.sin(course), np.cos(course)], -1)
        sides = [path + aside, path - aside]
        drawn.lanelet(*(side[:: rng.choice([-1, 1])] for side in sides))
    file = drawn.write(tmp_path / "a.osm")
    origin = lanelet2.io.Origin(49.01, 8.44)
    theirs = lanelet2.io.load(file, lanelet2.projection.UtmProjector(origin))
    lanes, _ = found(file)
    assert len(lanes["lane_centre"]) == len(theirs.laneletLayer) == 50
    expected = sorted(theirs.laneletLayer, key=lambda lane: lane.id)
    for lane, other in zip(lanes["lane_centre"], expected, strict=True):
        centre = np.array([(point.x, point.y) for point in other.centerline])
        np.testing.assert_allclose(lane.points[[0, -1]], centre[[0, -1]], atol=1e-6)
        away = shapely.hausdorff_distance(*map(shapely.LineString, (lane.points, centre)))
        assert away < 0.5  # their centre is not quite in the middle


@needs("interaction_csv")
def test_real_lanelets_lie_under_the_traffic_and_lead_its_way():
    file = str(SAMPLE / "k729.osm")
    layers, notes = found(file, centred(*SAMPLE_ORIGIN))
    assert not notes
    tables = [pd.read_csv(path) for path in sorted(SAMPLE.glob("*.csv"))]
    rows = pd.concat(tables)
    rows = rows[(rows["agent_type"] == "Car") & (np.hypot(rows["vx"], rows["vy"]) > 2.0)].iloc[::5]
    lanes = lane_points(tuple(layers["lane_centre"]), 0.5)
    place = rows[["x", "y"]].to_numpy()
    away = np.linalg.norm(place[:, None] - lanes[:, :2], axis=-1)
    near = lanes[away.argmin(axis=1)]
    course = np.arctan2(rows["vy"], rows["vx"]).to_numpy()
    off = np.degrees(np.abs(wrap_angle(course - near[:, 2])))
    assert len(rows) > 500
    assert np.median(away.min(axis=1)) < 0.9
    assert np.median(off) < 5.0
    assert (off > 90).mean() < 0.1  # where lanes cross


@needs("interaction_csv")
def test_real_lanelets_are_counted_as_they_stand_in_the_file():
    file = SAMPLE / "k729.osm"
    layers, _ = found(str(file), centred(*SAMPLE_ORIGIN))
    root = ET.parse(file).getroot()
    kinds = Counter(
        next((tag.get("v") for tag in relation.iter("tag") if tag.get("k") == "subtype"), "road")
        for relation in root.iter("relation")
    )
    assert len(layers["lane_centre"]) == kinds["road"] + kinds["bikelane"]
    assert len(layers["crosswalk"]) == kinds["crosswalk"]
    borders = [
        way
        for way in root.iter("way")
        if any(tag.get("v") == "road_border" for tag in way.iter("tag"))
    ]
    assert len(layers["road_edge"]) == len(borders)
