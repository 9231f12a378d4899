"""The layout of highD and of inD, rounD, exiD and uniD, in recordings that the tests write."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from data_tools.formats.levelx import read_map, read_table
from data_tools.geometry import box_corners
from data_tools.sources import source
from forecast.errors import DataError, ForecastError
from tests.support.fuzz import damaged, fuzzed
from tests.support.lanelets import Map
from tests.support.levelx import FRAMES, RATE, UTM, write_highd, write_ind


def scene(path, dt_s=1 / RATE):
    tracks = source("tracks", preset="levelx")
    (unit,) = tracks.find([path])
    return tracks.read(unit, dt_s)


def box_of_the_published_tool(row):
    """Corners as drone-dataset-tools draws them (tracks_import.get_rotated_bbox)."""
    cos, sin = np.cos(np.radians(row["heading"])), np.sin(np.radians(row["heading"]))
    forward = row["length"] / 2 * np.array([cos, sin])
    aside = row["width"] / 2 * np.array([-sin, cos])
    centre = row[["xCenter", "yCenter"]].to_numpy(float)
    return [centre + a * forward + b * aside for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]


def test_boxes_stand_where_the_published_tool_draws_them(tmp_path):
    path = write_ind(tmp_path)
    found = scene(path)
    rows = pd.read_csv(path)
    for track in ("0", "1"):
        own = rows[rows["trackId"] == int(track)].reset_index(drop=True)
        state = found.state[found.track_id.index(track)]
        seen = np.flatnonzero(np.isfinite(state[:, 0]))
        assert len(seen) == len(own)
        for at, row in zip(seen[::25], own.index[::25], strict=True):
            expected = box_of_the_published_tool(own.loc[row])
            np.testing.assert_allclose(box_corners(state[at]), expected, atol=1e-4)


def test_classes_sizes_counts_and_times_are_those_of_the_tables(tmp_path):
    path = write_ind(tmp_path)
    found = scene(path)
    assert dict(zip(found.track_id, found.track_class, strict=True)) == {
        "0": "car",
        "1": "truck",
        "2": "pedestrian",
        "3": "bicycle",
    }
    np.testing.assert_allclose(found.time_s[[0, -1]], [0.0, (FRAMES - 1) / RATE])
    assert np.isfinite(found.state[..., 0]).sum(axis=1).tolist() == [FRAMES - n for n in range(4)]
    np.testing.assert_allclose(found.state[:2, -1, 3:], [(4.6, 1.9), (11.2, 2.5)])
    assert np.isnan(found.state[2:, -1, 3:]).all()  # published as 0: not known
    walker = found.state[2, -1, 2]
    assert np.degrees(walker) % 360 == pytest.approx(275.5, abs=0.01)


def test_velocities_agree_with_the_way_made(tmp_path):
    table = read_table(write_ind(tmp_path))
    for _, rows in table.groupby("trackId"):
        way = np.diff(rows[["xCenter", "yCenter"]].to_numpy(), axis=0) * RATE
        np.testing.assert_allclose(way, rows[["xVelocity", "yVelocity"]].to_numpy()[1:], atol=1e-6)


def test_the_frame_rate_is_that_of_the_recording(tmp_path):
    path = write_ind(tmp_path)
    meta = tmp_path / "07_recordingMeta.csv"
    pd.read_csv(meta).assign(frameRate=29.97).to_csv(meta, index=False)
    assert read_table(path)["time"].max() == pytest.approx((FRAMES - 1) / 29.97)


def test_highds_boxes_are_mirrored_from_the_image_and_point_their_way(tmp_path):
    path = write_highd(tmp_path)
    found = scene(path)
    rows = pd.read_csv(path)
    assert dict(zip(found.track_id, found.track_class, strict=True)) == {
        "1": "Truck",
        "2": "Car",
        "3": "Car",
    }
    for track, own in rows.groupby("id"):
        state = found.state[found.track_id.index(str(track))]
        # The published tool draws Rectangle((x, -(y + height)), width, height).
        centre = np.stack([own["x"] + own["width"] / 2, -own["y"] - own["height"] / 2], axis=-1)
        np.testing.assert_allclose(state[:, :2], centre, atol=1e-6)
        np.testing.assert_allclose(state[0, 3:], own[["width", "height"]].iloc[0])
    heading = dict(zip(found.track_id, np.degrees(found.state[:, 40, 2]), strict=True))
    assert np.abs(heading["1"]) == pytest.approx(180.0)  # upper lanes lead to the left
    assert heading["2"] == pytest.approx(np.degrees(np.arctan2(0.8, 33.0)), abs=1e-3)
    assert np.abs(heading["3"]) == pytest.approx(180.0)  # it stands, on an upper lane


def test_highds_map_is_between_its_markings(tmp_path):
    path = write_highd(tmp_path)
    found = scene(path)
    lanes = [element.points for element in found.map if element.layer == "lane_centre"]
    across = [-10.55, -14.51, -22.98, -26.88, -30.72]
    assert [lane[0, 1] for lane in lanes] == pytest.approx(across)
    assert [np.sign(lane[1, 0] - lane[0, 0]) for lane in lanes] == [-1, -1, 1, 1, 1]
    rows = pd.read_csv(path)
    ends = [rows["x"].min(), (rows["x"] + rows["width"]).max()]
    assert sorted(lanes[0][:, 0]) == pytest.approx(ends)
    areas = [shapely.Polygon(e.points) for e in found.map if e.layer == "drivable"]
    assert [area.bounds[1::2] for area in areas] == [(-16.43, -8.51), (-32.64, -21.0)]
    assert sum(element.layer == "road_edge" for element in found.map) == 4


@pytest.mark.parametrize(
    "place",
    [
        "maps/lanelets/01_bendplatz/location1.osm",
        "maps/lanelets/location1.osm",
        "maps/lanelet2/1_bendplatz.osm",
        "maps/lanelet2/1_bendplatz/location1.osm",
    ],
)
def test_lanelets_are_found_where_the_data_sets_have_them(tmp_path, place):
    path = write_ind(tmp_path / "data")
    assert scene(path).map == ()
    drawn = Map(UTM)
    drawn.lanelet([(8, -29), (60, 1)], [(10, -32), (62, -2)])
    (tmp_path / place).parent.mkdir(parents=True)
    drawn.write(tmp_path / place)
    (lane,) = [element for element in scene(path).map if element.layer == "lane_centre"]
    np.testing.assert_allclose(lane.points[[0, -1]], [(9, -30.5), (61, -0.5)], atol=1e-4)


@pytest.mark.parametrize(("here", "path"), [(".", "data/07_tracks.csv"), ("data", "07_tracks.csv")])
def test_lanelets_are_found_from_a_relative_path_too(tmp_path, monkeypatch, here, path):
    folder = tmp_path / "[a] data set"
    write_ind(folder / "data")
    drawn = Map(UTM)
    drawn.lanelet([(8, -29), (60, 1)], [(10, -32), (62, -2)])
    (folder / "maps/lanelets").mkdir(parents=True)
    drawn.write(folder / "maps/lanelets/location1.osm")
    monkeypatch.chdir(folder / here)
    assert any(element.layer == "lane_centre" for element in read_map(path, Counter()))


def test_the_map_of_another_location_is_not_taken_and_a_rebuilt_one_has_its_own(tmp_path):
    for name, x in (
        ("10_x/location10", 1.0),
        ("01_a/location1", 2.0),
        ("01_b/location1_construction", 3.0),
    ):
        drawn = Map(UTM)
        drawn.lanelet([(x, 2), (9, 2)], [(x, 0), (9, 0)])
        file = tmp_path / f"maps/lanelets/{name}.osm"
        file.parent.mkdir(parents=True)
        drawn.write(file)

    def start(number, location):
        elements = read_map(write_ind(tmp_path / "data", number, location), Counter())
        return [round(e.points[0, 0], 3) for e in elements if e.layer == "lane_centre"]

    assert start(7, 1) == [2.0]
    assert start(12, 1) == [3.0]
    assert start(30, 3) == []


BAD = {
    "07_tracks.csv": [
        ("heading", "north", "a finite number; got 'north' in column heading, row 3"),
        ("xCenter", "", "a finite number; got 'nothing' in column xCenter, row 3"),
        ("yCenter", "inf", "a finite number; got 'inf' in column yCenter, row 3"),
        ("trackId", "99", "a class of every track; got none of track 99"),
        ("length", "-1", "a size above 0"),
    ],
    "07_tracksMeta.csv": [
        ("trackId", "7.5", "a class of every track"),
        ("class", "", "a class of every track"),
    ],
    "07_recordingMeta.csv": [
        ("frameRate", "0", "a frameRate above 0, up to 1000 a second; got 0"),
        ("frameRate", "1e300", "a frameRate above 0, up to 1000 a second; got 1e"),
        ("frameRate", "9" * 5000, r"a finite number; got '9{50}' in"),
        ("frameRate", "fast", "a finite number; got 'fast'"),
    ],
}


@pytest.mark.parametrize(("name", "fault"), [(n, f) for n, faults in BAD.items() for f in faults])
def test_a_faulty_value_is_refused_in_one_line(tmp_path, name, fault):
    column, value, message = fault
    path = write_ind(tmp_path)
    table = pd.read_csv(tmp_path / name, dtype=str)
    table.loc[min(2, len(table) - 1), column] = value
    table.to_csv(tmp_path / name, index=False)
    with pytest.raises(DataError, match=message) as refused:
        scene(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["tracks", "tracksMeta", "recordingMeta"])
@pytest.mark.parametrize("write", [write_ind, write_highd])
def test_a_table_that_is_missing_empty_or_lacks_a_column_is_named(tmp_path, write, name):
    path = write(tmp_path, 7)
    file = tmp_path / f"07_{name}.csv"
    header, *_ = file.read_text().splitlines()
    for content in ("", header, "frame,id\n1,2\n", "x" * 99, "\0"):
        file.write_text(content)
        with pytest.raises(DataError, match=f"07_{name}.csv") as refused:
            scene(path).map  # noqa: B018 - it is read with the scene
        assert "\n" not in str(refused.value)
    file.unlink()
    with pytest.raises(DataError):
        source("tracks", preset="levelx").read(path, 0.1)


def test_a_recording_whose_further_table_changed_is_read_again(tmp_path):
    path = write_highd(tmp_path)
    assert scene(path).track_class == ("Truck", "Car", "Car")
    meta = tmp_path / "01_tracksMeta.csv"
    pd.read_csv(meta).assign(**{"class": "Truck"}).to_csv(meta, index=False)
    assert scene(path).track_class == ("Truck", "Truck", "Truck")
    meta = tmp_path / "01_recordingMeta.csv"
    meta.write_text(meta.read_text().splitlines()[0])
    with pytest.raises(DataError, match=r"rows; got none in .*01_recordingMeta\.csv"):
        scene(path)
    with pytest.raises(DataError, match=r"rows; got none in .*01_recordingMeta\.csv"):
        read_map(path, Counter())


@pytest.mark.parametrize("row", [1, 2, 9])
def test_a_row_that_is_too_long_is_refused(tmp_path, row):
    path = Path(write_ind(tmp_path))
    lines = path.read_text().splitlines()
    lines[row] = lines[row].replace(".", ",", 1)  # a decimal comma
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"07_tracks\.csv as published"):
        read_table(str(path))


@pytest.mark.parametrize("text", ["", "a;b", "1.0", "1;inf"])
def test_markings_that_are_none_are_refused(tmp_path, text):
    path = write_highd(tmp_path)
    meta = tmp_path / "01_recordingMeta.csv"
    pd.read_csv(meta).assign(upperLaneMarkings=text).to_csv(meta, index=False)
    with pytest.raises(DataError, match="numbers between semicolons"):
        read_map(path, Counter())


@fuzzed
@given(st.data())
def test_a_damaged_recording_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    path = data.draw(st.sampled_from([write_ind, write_highd]))(folder, 7)
    victim = data.draw(st.sampled_from(sorted(Path(folder).glob("*.csv"))))
    victim.write_bytes(data.draw(damaged(victim.read_bytes())))
    with suppress(ForecastError):
        found = scene(path, 0.1)
        assert np.isfinite(found.state[..., :3]).any()
