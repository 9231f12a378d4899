"""The way that lanes lead, as a raster."""

import numpy as np
import pytest

from data_tools.labels.directions import REACH_M, SPACING_M, lane_directions
from data_tools.labels.rasterise import lane_points
from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.scene import MapElement
from forecast.data.reader import SequenceReader
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.rasters import drive, seen, write_zarr
from tests.support.scenarios import agent, crossing, scenario, write
from tests.support.stores import Mover

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)


def points_of(*lanes):
    return lane_points([MapElement("lane_centre", np.array(lane)) for lane in lanes], SPACING_M)


def test_a_bend_keeps_its_direction_in_every_cell_near_it():
    turn = np.linspace(0.0, np.pi / 2, 60)
    bend = np.stack([10 * np.sin(turn), 7 - 10 * np.cos(turn)], axis=1)  # around (0, 7), 10 m
    ahead, left = lane_directions(points_of(bend), GRID).astype(float)
    x, y = np.meshgrid(GRID.x_m, GRID.y_m)
    away, angle = np.hypot(x, y - 7), np.arctan2(x, 7 - y)
    on = (abs(away - 10) < 1.5) & (angle > 0.05) & (angle < np.pi / 2 - 0.05)
    assert on.sum() > 100
    np.testing.assert_allclose(ahead[on], np.cos(angle[on]), atol=0.05)
    np.testing.assert_allclose(left[on], np.sin(angle[on]), atol=0.05)
    far = abs(away - 10) > REACH_M
    assert not ahead[far].any()
    assert not left[far].any()


def test_of_two_lanes_the_nearer_one_counts_also_from_beyond_the_edge():
    found = lane_directions(
        points_of([(-30, 1), (30, 1)], [(30, -2), (-30, -2)], [(-30, 9), (30, 9)]), GRID
    )
    assert (found[0][abs(GRID.y_m - 1) < 1.4] == 1).all()
    assert (found[0][abs(GRID.y_m + 2) < 1.4] == -1).all()
    assert (found[0][GRID.y_m > 7.2] == 1).all()
    assert not found[1].any()


def test_without_lanes_there_is_none():
    assert not lane_directions(np.empty((0, 3)), GRID).any()
    assert lane_directions(None, GRID).shape == (0, *GRID.shape)


def test_a_store_has_directions_where_they_are_asked_for(tmp_path):
    path = write(tmp_path / "a.json", crossing(1))
    for name, asked in (("with", True), ("without", False)):
        options = PrepareOptions(grid=GRID, directions=asked)
        prepare("waymo-json", [path], str(tmp_path / f"{name}.zarr"), options)
    store, _ = open_sequence_store(str(tmp_path / "with.zarr"))
    assert store["direction"].dims == ("sequence", "axis", "y", "x")
    assert store["axis"].values.tolist() == ["x", "y"]
    size = np.hypot(*np.moveaxis(store["direction"].values.astype(float), 1, 0))
    lane = store["map"].sel(map_layer="lane_centre").values > 0
    np.testing.assert_allclose(size[lane], 1.0, atol=2e-3)
    assert "direction" not in open_sequence_store(str(tmp_path / "without.zarr"))[0]
    assert SequenceReader(str(tmp_path / "with.zarr"))[0].map_point is not None


def test_a_lane_is_turned_with_the_ego(tmp_path):
    # The lane of these drives leads to the east, the ego to the north.
    from data_tools.windows import sequences, usable_tracks

    scene = drive((), Mover(0.0, 0.0, np.pi / 2, 2.0))
    options = PrepareOptions(grid=GRID, directions=True)
    first = next(sequences(scene, usable_tracks(scene, options.classes), options))
    there = first.direction[:, first.map[1] > 0].astype(float)
    np.testing.assert_allclose(there, np.broadcast_to([[0.0], [-1.0]], there.shape), atol=2e-3)


def test_directions_of_rasters_are_refused(tmp_path):
    path = write_zarr(tmp_path / "drive.zarr", seen(drive((), Mover(0.0, 0.0)), GRID))
    options = PrepareOptions(grid=GRID, directions=True)
    with pytest.raises(DataError, match="expected lanes for --directions to draw; got rasters"):
        prepare("rasters", [path], str(tmp_path / "out.zarr"), options)
    assert not (tmp_path / "out.zarr").exists()


def test_where_no_scene_has_a_map_the_report_says_that_there_are_no_directions(tmp_path):
    bare = write(tmp_path / "bare.json", scenario([agent(Mover(0, 0, speed=2.0))]))
    mapped = write(tmp_path / "mapped.json", crossing(1))
    options = PrepareOptions(grid=GRID, directions=True)
    note = "scenes without a map, so no --directions"
    report = prepare("waymo-json", [bare], str(tmp_path / "out.zarr"), options)
    assert report.notes[note] == 1
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert "direction" not in store
    assert store.attrs["notes"] == report.notes
    both = prepare("waymo-json", [bare, mapped], str(tmp_path / "both.zarr"), options)
    assert note not in both.notes
    unasked = prepare("waymo-json", [bare], str(tmp_path / "un.zarr"), PrepareOptions(grid=GRID))
    assert note not in unasked.notes
