"""The map around the ego is what prepare draws of the same map around the same place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.geometry import poses_to_world
from data_tools.labels.rasterise import lane_points, map_edges, rasterise_map
from data_tools.scene import MapElement
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.live.world_map import MapRaster, WorldMap
from forecast.schema import MAP_LAYERS

GRID = BEVGrid(-8.0, 12.0, -6.0, 6.0, 0.5)
FAR = np.array([4.5e6, -3.2e6, 2.0])
LANE = np.array([[-30.0, 1.0], [0.0, 1.2], [40.0, 3.0]])
ROAD = np.array([[-30.0, -4.0], [40.0, -4.0], [40.0, 5.0], [-30.0, 5.0]])


def in_world(points: np.ndarray, frame: np.ndarray = FAR) -> np.ndarray:
    yaw = np.zeros((len(points), 1))
    return poses_to_world(np.concatenate([points, yaw], axis=1), frame)[:, :2]


def drawn_near() -> tuple[np.ndarray, np.ndarray]:
    elements = [MapElement("drivable", ROAD, True), MapElement("lane_centre", LANE)]
    return rasterise_map(map_edges(elements), GRID), lane_points(elements)


def test_it_is_drawn_as_prepare_draws_it_in_a_world_of_millions_of_metres() -> None:
    world = WorldMap(lane_centre=[in_world(LANE)], drivable=[in_world(ROAD)])
    layers, points = world.around(FAR, GRID)
    wanted, lanes = drawn_near()
    assert (layers != wanted).mean() < 1e-3  # an edge through a cell's centre, at most
    near = np.abs(lanes[:, None] - points[None]).max(-1).min(0)
    assert len(points) > 5
    assert near.max() < 1e-6
    assert points[:, 0].min() > GRID.x_min_m - 10  # and what is far is left out
    assert points[:, 0].max() < GRID.x_max_m + 10


def test_points_that_are_known_as_such_are_taken() -> None:
    lanes = np.array([[1.0, 2.0, 0.5], [500.0, 2.0, 0.5]])
    _, points = WorldMap(lane_points=poses_to_world(lanes, FAR)).around(FAR, GRID)
    np.testing.assert_allclose(points, lanes[:1], atol=1e-6)


@pytest.mark.parametrize("moved", [(0.0, 0.0, 0.0), (3.0, -1.0, 0.0), (2.0, 1.0, np.pi / 2)])
def test_a_raster_shows_the_same_places_from_anywhere(moved: tuple[float, float, float]) -> None:
    wanted, _ = drawn_near()
    ego = poses_to_world(np.array(moved), FAR)
    layers, points = WorldMap(raster=MapRaster(wanted, GRID, FAR)).around(ego, GRID)
    assert not len(points)
    x, y = np.meshgrid(GRID.x_m, GRID.y_m)
    own = poses_to_world(np.stack([x, y, 0 * x], axis=-1), np.array(moved))
    inside = GRID.contains(own[..., 0], own[..., 1])
    column = ((own[..., 0] - GRID.x_min_m) / 0.5 + 1e-6).astype(int).clip(0, GRID.width - 1)
    row = ((own[..., 1] - GRID.y_min_m) / 0.5 + 1e-6).astype(int).clip(0, GRID.height - 1)
    # Cells are half a cell off their centres where the ego has turned: none is on an edge.
    np.testing.assert_array_equal(layers, wanted[:, row, column] * inside)
    assert layers.any()


def test_layers_come_in_the_order_that_is_asked_for() -> None:
    world = WorldMap(drivable=[in_world(ROAD)])
    layers, _ = world.around(FAR, GRID, ("sidewalk", "drivable"))
    assert not layers[0].any()
    assert layers[1].any()
    assert world.around(FAR, GRID, ())[0].shape == (0, *GRID.shape)


def test_it_is_read_from_geojson(tmp_path: Path) -> None:
    path = tmp_path / "city.geojson"
    shape = {
        "type": "Polygon",
        "coordinates": [[*in_world(ROAD).tolist(), in_world(ROAD[:1])[0].tolist()]],
    }
    feature = {"type": "Feature", "properties": {"layer": "drivable"}, "geometry": shape}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    layers, _ = WorldMap.read(str(path)).around(FAR, GRID)
    assert layers[MAP_LAYERS.index("drivable")].any()
    with pytest.raises(DataError, match="city"):
        WorldMap.read(str(tmp_path / "city.json"))


def test_what_is_no_map_is_refused() -> None:
    for make, message in (
        (lambda: WorldMap(lane_centre=[[[0.0, np.nan]]]), "NaN or infinity"),
        (lambda: WorldMap(drivable=[[0.0, 1.0]]), r"shape \(n, 2\)"),
        (lambda: WorldMap(lane_points=[[0.0, 1.0]]), r"shape \(n, 3\)"),
        (lambda: WorldMap(lane_points="here"), "no numbers"),
        (lambda: WorldMap(raster=MapRaster(np.zeros((2, 3, 3)), GRID)), "a raster of shape"),
    ):
        with pytest.raises(DataError, match=message):
            make()
