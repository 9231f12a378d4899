"""Sizes and speeds that no store of road users has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from forecast.doctor.plausible import SizesAndSpeeds
from tests.support.driving import PARKED, asked, driving
from tests.support.stores import Mover

TRAFFIC = (
    *(Mover(-12.0 + 6 * i, 3.0, speed=5.0) for i in range(4)),
    *(Mover(-9.0 + 4 * i, -6.0, 1.5, 1.4, length=0.7, width=0.8, label=2) for i in range(4)),
    *(Mover(-9.0 + 4 * i, 9.0, 0.0, 4.0, length=1.8, width=0.7, label=3) for i in range(4)),
)
STANDING = Mover(0.0, 0.0)


def found(movers: Sequence[Mover], ego: Mover = STANDING) -> list[str]:
    return [one.text for one in asked(SizesAndSpeeds(), [driving(movers, ego)])]


def scaled(factor: float) -> list[Mover]:
    return [replace(one, length=one.length * factor, width=one.width * factor) for one in TRAFFIC]


def test_traffic_is_fine() -> None:
    assert found(TRAFFIC) == []


def test_swapped_sides_are_found_but_not_of_pedestrians() -> None:
    swapped = [replace(one, length=one.width, width=one.length) for one in TRAFFIC]
    vehicles, cyclists = found(swapped)
    assert "4 of 4 of class vehicle are wider than long: length and width swapped?" in vehicles
    assert "cyclist" in cyclists


@pytest.mark.parametrize(
    ("factor", "unit"), [(1 / 0.3048, "feet"), (100.0, "centimetres"), (0.5, "half of the sides")]
)
def test_sizes_in_another_unit_are_found(factor: float, unit: str) -> None:
    first = found(scaled(factor))[0]
    assert "of class vehicle" in first
    assert unit in first


def test_frame_numbers_for_seconds_are_found() -> None:
    slow = [replace(one, speed=one.speed / 25) for one in TRAFFIC]
    (text,) = found(slow)
    assert "no agent is faster than a walker (0.2 m/s), though 8 of 8 on wheels move" in text


def test_parked_and_jammed_traffic_is_fine() -> None:
    assert found(PARKED) == []
    jam = [replace(one, speed=0.3) for one in TRAFFIC[:4]]
    assert found([*jam, *TRAFFIC[4:8]]) == [], "walkers walk"
    assert found(jam, Mover(0.0, 0.0, speed=2.0)) == [], "the ego drives"
    assert found([*jam, *PARKED]) == [], "most stand"


def test_classes_too_fast_for_what_they_are_called_are_found() -> None:
    walkers = [replace(one, speed=9.0) for one in TRAFFIC[4:8]]
    (text,) = found(walkers)
    assert "4 of class pedestrian move at 9 m/s" in text
