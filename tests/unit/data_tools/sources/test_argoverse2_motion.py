"""The argoverse2-motion source: tracks without sizes, the ego among them by its name."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.formats.documents import read_json
from data_tools.formats.lanes import midline
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.sources.argoverse2_motion import Argoverse2Motion
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.argoverse2 import CAR, EGO, tracks, write_scenario
from tests.support.fuzz import damaged, fuzzed
from tests.support.recordings import (
    assert_read_or_refused,
    heading_errors,
    lane_errors,
    needs,
    recording,
)
from tests.support.stores import Mover

RECORDINGS = recording("argoverse2_motion")
real = needs("argoverse2_motion")


def read(unit, dt_s=0.5):
    return Argoverse2Motion().read(unit, dt_s)


def test_tracks_are_as_in_the_table_and_the_ego_is_one_of_them(tmp_path):
    made = read(write_scenario(tmp_path))
    assert made.name == "abc"
    assert made.track_id == ("7", "AV")
    truth = CAR.state(made.time_s)
    np.testing.assert_allclose(made.state[0, :, :2], truth[:, :2])
    np.testing.assert_allclose(wrap_angle(made.state[0, :, 2] - truth[:, 2]), 0.0, atol=1e-9)
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])
    np.testing.assert_allclose(made.ego_pose[:, :2], EGO.state(made.time_s)[:, :2])
    assert {element.layer for element in made.map} == {
        "lane_centre",
        "drivable",
        "crosswalk",
        "road_edge",
    }


def test_agents_have_the_typical_size_of_their_class_and_the_notes_say_so(tmp_path):
    kinds = ("vehicle", "bus", "pedestrian", "motorcyclist", "cyclist", "background")
    agents = {kind: (kind, Mover(510.0 + i, 205)) for i, kind in enumerate(kinds)}
    agents |= {"AV": ("vehicle", EGO)}
    made = read(write_scenario(tmp_path / "in", tracks(agents)))
    assert np.isnan(made.state[..., 3:]).all()
    out = str(tmp_path / "out.zarr")
    prepare("argoverse2-motion", [str(tmp_path / "in")], out, PrepareOptions())
    store = open_sequence_store(out)[0]
    notes = store.attrs["notes"]
    assert notes["tracks with their class's typical size"] == 6
    sizes = np.unique(store["track_state"].values[0, :, 0, 3:], axis=0)
    np.testing.assert_allclose(sizes, [[0.8, 0.8], [1.8, 0.8], [2.2, 0.9], [4.7, 2.0], [12.0, 2.6]])
    assert notes["agents bus, kept as vehicle"] == 1
    assert notes["agents motorcyclist, kept as cyclist"] == 1
    assert notes["agents background, left out"] == 1


def changed(name, row, value):
    rows = tracks({"7": ("vehicle", CAR), "AV": ("vehicle", EGO)})
    rows[name][row] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed("position_x", 3, np.nan), "row 4 of"),
        (changed("heading", 3, np.inf), "row 4 of"),
        (changed("object_type", 3, None), "row 4 of"),
        (changed("timestep", 3, 2), "frame 2 of track 7 in row 4"),
        (changed("timestep", 3, 1), "frame 1 of track 7 in row 4"),
        (changed("timestep", 0, -1), "frame -1 of track 7 in row 1"),
        (changed("timestep", 109, 2**62), "tracks times frames"),
        (changed("timestep", 109, 2**63 - 1), "tracks times frames"),
        (tracks({"7": ("vehicle", CAR)}), "a track 'AV'"),
        ({name: values[:0] for name, values in changed("heading", 0, 0).items()}, "row|agents|abc"),
        ({"track_id": ["7"]}, "object_type"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, rows, message):
    unit = write_scenario(tmp_path, rows)
    with pytest.raises(DataError, match=message):
        read(unit)


def test_a_missing_map_is_named(tmp_path):
    unit = write_scenario(tmp_path)
    (tmp_path / "log_map_archive_abc.json").unlink()
    with pytest.raises(DataError, match=r"log_map_archive_abc\.json"):
        read(unit)


@fuzzed
@given(st.data())
def test_any_damage_gives_a_scene_or_one_error(tmp_path, data):
    unit = Path(write_scenario(tmp_path))
    unit.write_bytes(data.draw(damaged(unit.read_bytes())))
    assert_read_or_refused(Argoverse2Motion(), str(unit), str(unit))


@real
def test_the_real_scenario_holds_what_its_table_holds():
    (unit,) = Argoverse2Motion().find([str(RECORDINGS)])
    made = read(unit, 0.1)
    table = pq.read_table(unit).to_pandas()
    assert set(made.track_id) == set(table.track_id)
    seen = np.isfinite(made.state[..., 0])
    assert int(seen.sum()) == len(table)
    assert dict(zip(made.track_id, seen.sum(axis=1), strict=True)) == dict(
        table.track_id.value_counts()
    )
    row = table.iloc[1234]
    found = made.state[made.track_id.index(row.track_id), row.timestep]
    np.testing.assert_allclose(found[:2], [row.position_x, row.position_y])
    np.testing.assert_allclose(np.sin(found[2]), np.sin(row.heading))


@real
def test_in_the_real_scenario_headings_agree_with_motion_and_lanes():
    (unit,) = Argoverse2Motion().find([str(RECORDINGS)])
    made = read(unit)
    cars = made.state[[kind in ("vehicle", "bus") for kind in made.track_class]]
    assert np.median(heading_errors(cars)) < np.radians(3)
    assert (lane_errors(made, "vehicle", "bus") < 0.5).mean() > 0.9


@real
def test_lines_midway_between_boundaries_are_the_centre_lines_that_the_real_map_gives():
    (path,) = RECORDINGS.glob("val/*/log_map_archive_*.json")

    def places(points):
        return np.array([(point["x"], point["y"]) for point in points])

    off = []
    for lane in read_json(str(path))["lane_segments"].values():
        made = midline(places(lane["left_lane_boundary"]), places(lane["right_lane_boundary"]))
        given = places(lane["centerline"])
        off += np.linalg.norm(made[:, None] - given, axis=-1).min(axis=1).tolist()
    assert np.median(off) < 0.7  # the points are 2 m apart
    assert max(off) < 2.5
