"""The map around the ego is what prepare draws of the same map around the same place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        (lambda: WorldMap(lane_points="here"), "got 'here'"),
        (lambda: WorldMap(raster=MapRaster(np.zeros((2, 3, 3)), GRID)), "a raster of shape"),
        (lambda: WorldMap(lane_centre=None), "sequences of polylines"),  # type: ignore[arg-type]
        (lambda: WorldMap(lane_centre=[[(0, 0), (10**400, 0)]]), "int too large"),
        (lambda: WorldMap(drivable=[[(0, 0), (1,)]]), "setting an array element"),
        (lambda: WorldMap.read(None), "the path of a map"),  # type: ignore[arg-type]
    ):
        with pytest.raises(DataError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 0.001, 2, "0", None])
def test_a_map_raster_of_anything_but_0_and_1_is_refused(value: object) -> None:
    layers = np.full((len(MAP_LAYERS), *GRID.shape), value)
    with pytest.raises(DataError, match=r"layers of 0 and 1.*got other values in drivable"):
        WorldMap(raster=MapRaster(layers, GRID))


@pytest.mark.parametrize("kind", [bool, np.uint8, float])
def test_a_map_raster_may_be_of_any_numbers_that_are_0_and_1(kind: type) -> None:
    layers = np.ones((len(MAP_LAYERS), *GRID.shape), kind)
    shown, _ = WorldMap(raster=MapRaster(layers, GRID)).around(np.zeros(3), GRID)
    assert shown.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("drivable",) * len(MAP_LAYERS)}, "each once"),
        ({"names": None}, "a pose and names"),
        ({"names": ([1],) * len(MAP_LAYERS)}, "a pose and names"),
        ({"grid": None}, "a BEVGrid"),
        ({"layers": [[1], [1, 2]]}, "setting an array element"),
        ({"pose": (1e300, 0.0, 0.0)}, "pose of the raster below"),
    ],
)
def test_a_map_raster_that_is_none_is_refused_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    raster = MapRaster(np.zeros((len(MAP_LAYERS), *GRID.shape)), GRID)
    with pytest.raises(DataError, match=message) as caught:
        WorldMap(raster=replace(raster, **change))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"raster as forecast.live.MapRaster; got ndarray"):
        WorldMap(raster=raster.layers)  # type: ignore[arg-type]


def test_a_map_that_is_not_there_is_said_not_to_be() -> None:
    with pytest.raises(DataError, match=r"got no\.geojson, which is not there; correct the path"):
        WorldMap.read("no.geojson")
