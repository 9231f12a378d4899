"""Users' maps: which shapes become which layers, and what is refused."""

import json

import numpy as np
import pytest
import shapely

from data_tools.formats.geojson import read_map
from data_tools.sources.tracks import _map
from forecast.errors import DataError

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]
LINE = [[0, 0], [5, 0], [9, 3]]


def feature(layer, kind, coordinates):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"layer": layer}, "geometry": geometry}


def written(tmp_path, *features, name="map.geojson"):
    path = tmp_path / name
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return str(path)


def test_lines_and_polygons_become_elements_of_their_layers(tmp_path):
    path = written(
        tmp_path,
        feature("lane_centre", "LineString", LINE),
        feature("road_edge", "MultiLineString", [LINE, [[1, 1], [2, 2]]]),
        feature("crosswalk", "Polygon", [SQUARE]),
    )
    found = read_map(path)
    assert [(e.layer, e.closed) for e in found] == [
        ("lane_centre", False),
        ("road_edge", False),
        ("road_edge", False),
        ("crosswalk", True),
    ]
    np.testing.assert_array_equal(found[0].points, LINE)


def test_heights_are_left_out(tmp_path):
    high = [[x, y, 7.0] for x, y in LINE]
    (found,) = read_map(written(tmp_path, feature("road_edge", "LineString", high)))
    np.testing.assert_array_equal(found.points, LINE)


@pytest.mark.parametrize(
    "points", [LINE, [[0.1, -2], [1e-30, 3.5]], [[1, 1]] * 2, [[2**60, 1], [0, 2**62]]]
)
def test_a_line_is_the_same_by_itself_and_by_shapely(tmp_path, points):
    kinds = (
        feature("road_edge", "LineString", points),
        feature("road_edge", "MultiLineString", [points]),
    )
    alone, one_of_many = read_map(written(tmp_path, *kinds))
    assert alone.points.dtype == one_of_many.points.dtype
    np.testing.assert_array_equal(alone.points, one_of_many.points)
    assert (alone.layer, alone.closed) == (one_of_many.layer, one_of_many.closed)


@pytest.mark.parametrize(
    "points",
    [[[0, 0]], [], [0, 1], [[0, 0], [1]], None, [[10**400, 0.5], [1, 1]], [[LINE]], [[0]] * 2],
)
def test_points_that_make_no_line_are_refused(tmp_path, points):
    path = written(tmp_path, feature("road_edge", "LineString", points))
    with pytest.raises(DataError, match=r"feature 1 of .*map\.geojson"):
        read_map(path)


@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon"])
def test_a_polygon_with_holes_is_cut_so_that_the_holes_stay_open(tmp_path, kind):
    other = [[[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]]
    rings = [SQUARE, HOLE, *other]
    whole = shapely.Polygon(SQUARE, [HOLE, other[0]])
    path = written(tmp_path, feature("drivable", kind, rings if kind == "Polygon" else [rings]))
    pieces = [shapely.Polygon(element.points) for element in read_map(path)]
    assert all(not piece.interiors for piece in pieces)
    assert sum(piece.area for piece in pieces) == pytest.approx(whole.area)
    assert shapely.union_all(pieces).symmetric_difference(whole).area == pytest.approx(0.0)


def test_the_map_is_found_beside_its_table(tmp_path):
    table = str(tmp_path / "drive.csv.gz")
    assert _map(table) == ()
    written(tmp_path, feature("road_edge", "LineString", LINE), name="drive.map.geojson")
    assert [element.layer for element in _map(table)] == ["road_edge"]
    written(tmp_path, feature("lane_centre", "LineString", LINE), name="drive.csv.gz.geojson")
    assert [element.layer for element in _map(table)] == ["lane_centre"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"type": "Feature"}, "a property layer"),
        ({"properties": None, "geometry": None}, "a property layer"),
        ("road", "a property layer"),
        (feature("river", "LineString", LINE), "a layer of drivable, .* got 'river'"),
        (feature(["a"], "LineString", LINE), "a layer of drivable"),
        (feature("drivable", "LineString", LINE), "a Polygon for layer drivable; got a LineString"),
        (feature("lane_centre", "Polygon", [SQUARE]), "a LineString for layer lane_centre"),
        (feature("lane_centre", "Point", [0, 0]), "a LineString for layer lane_centre"),
        (feature("lane_centre", "Spiral", LINE), "geometry"),
        (feature("lane_centre", "LineString", [[0, 0]]), "geometry"),
        (feature("lane_centre", "LineString", []), "finite coordinates"),
        (feature("lane_centre", "LineString", [[0, 0], [float("nan"), 1]]), "finite coordinates"),
        (feature("lane_centre", "LineString", [[0, 0], ["a", 1]]), "geometry"),
        (feature("lane_centre", "LineString", "0 0, 1 1"), "geometry"),
        (feature("lane_centre", "LineString", [[0, 0], [10**400, 1]]), "geometry"),
        (feature("crosswalk", "Polygon", [[[0, 0], [1, 1]]]), "geometry"),
    ],
)
def test_a_faulty_feature_is_refused_by_its_number(tmp_path, broken, message):
    path = written(tmp_path, feature("road_edge", "LineString", LINE), broken)
    with pytest.raises(DataError, match=message) as refused:
        read_map(path)
    assert "feature 2 of" in str(refused.value)
    assert "\n" not in str(refused.value)


FEATURELESS = '{"type": "FeatureCollection"}'


@pytest.mark.parametrize("text", ["", "{", "[]", FEATURELESS, "\x00", "[" * 10**5])
def test_a_file_that_is_no_geojson_is_refused(tmp_path, text):
    path = tmp_path / "map.geojson"
    path.write_text(text)
    with pytest.raises(DataError, match=r"map\.geojson"):
        read_map(str(path))
