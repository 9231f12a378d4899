"""A map that is missing, elsewhere, turned or shifted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from forecast.doctor.clip import Clip
from forecast.doctor.places import MapUnderTraffic
from tests.support.driving import SQUARE, asked, driving
from tests.support.stores import Mover

MOVERS = [Mover(-20.0 + 5 * i, -6.5 + 6 * (i % 2), speed=5.0) for i in range(6)]
EGO = Mover(0.0, 0.0, speed=5.0)


def road(y_m: float = -3.0) -> NDArray[np.uint8]:
    """A road 8 m wide."""
    return np.repeat((abs(SQUARE.y_m - y_m) < 4)[:, None], SQUARE.width, axis=1).astype(np.uint8)


def clips(layer: NDArray[Any] | None, count: int = 6) -> list[Clip]:
    maps = {} if layer is None else {"drivable": layer}
    return [replace(driving(MOVERS, EGO), map=maps)] * count


def test_a_store_without_a_map_is_said_to_have_none() -> None:
    check = MapUnderTraffic()
    assert asked(check, clips(None)) == []
    assert check.skipped == "the store has no map"


def test_a_map_without_a_cell_under_traffic_is_found() -> None:
    (found,) = asked(MapUnderTraffic(), clips(road() * 0, count=1))
    assert "6 vehicles move, but no layer of the map has a cell within the grid" in found.text
    assert "UTM zone" in found.text


def test_an_empty_map_where_nothing_moves_is_no_fault() -> None:
    check = MapUnderTraffic()
    clip = replace(driving([Mover(5.0, 3.0)], EGO), map={"drivable": road() * 0})
    assert asked(check, [clip]) == []
    assert check.skipped == "only 0 vehicles move on a map"


WRONG: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "transposed": np.transpose,
    "mirrored left to right": np.flipud,
    "turned a quarter to the left": lambda layer: np.rot90(layer, -1),
    "4 m too far to the left": lambda layer: np.roll(layer, 8, axis=0),
    "turned by 30 degrees to the left": lambda layer: ndimage.rotate(
        layer, -30, reshape=False, order=0
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_was_done_to_a_map_is_named(name: str) -> None:
    crossing = road() | road(12.0).T  # ahead, so that no two orientations are alike
    upwards = [Mover(11.0 + 3 * (i % 2), -15.0 + 5 * i, np.pi / 2, speed=5.0) for i in range(4)]
    clip = driving([*MOVERS, *upwards], EGO)
    assert asked(MapUnderTraffic(), [replace(clip, map={"drivable": crossing})] * 6) == []
    wrong = replace(clip, map={"drivable": WRONG[name](crossing)})
    (found,) = asked(MapUnderTraffic(), [wrong] * 6)
    assert f"the map is {name}?" in found.text


def test_a_map_shifted_in_the_world_is_found_although_the_egos_head_elsewhere() -> None:
    sides = [8, -8, 8, -8]  # cells, as seen by egos that drive to and fro
    wrong = [clips(np.roll(road(), side, axis=0), count=1)[0] for side in sides]
    right = clips(road(), count=4)
    scenes = [f"drive-{index}" for index in range(8)]
    assert asked(MapUnderTraffic(), [*right, *right], scenes) == []
    (found,) = asked(MapUnderTraffic(), [*wrong, *right], scenes)
    assert "elsewhere in 4 of 8 scenes" in found.text
    assert "shifted in the world?" in found.text
