"""What a stack says is checked before any of it reaches a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.live.inputs import (
    Raster,
    Tracks,
    checked_pose,
    checked_raster,
    checked_time,
    checked_tracks,
)

CLASSES = ("vehicle", "pedestrian")
GRID = BEVGrid(-2.0, 2.0, -1.0, 1.0, 0.5)
TWO = Tracks(
    ids=[("radar", 7), "b"],
    x=[1.0, 2.0],
    y=[0.0, 0.0],
    yaw=[0.1, 0.2],
    length=[4.0, 0.5],
    width=[2.0, 0.5],
    classes=["vehicle", "pedestrian"],
)


def test_tracks_become_numbers_and_keep_their_ids() -> None:
    agents = checked_tracks(TWO, CLASSES, 0.0)
    assert agents.ids == (("radar", 7), "b")
    assert agents.label.tolist() == [1, 2]
    np.testing.assert_array_equal(agents.state[1], [2.0, 0.0, 0.2, 0.5, 0.5])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e12])
@pytest.mark.parametrize("column", ["x", "y", "yaw", "length", "width"])
def test_an_agent_with_a_number_that_none_has_is_left_out_and_counted(
    column: str, value: float
) -> None:
    spoilt = replace(TWO, **{column: [value, 0.5]})  # type: ignore[arg-type]
    agents = checked_tracks(spoilt, CLASSES, 0.0)
    assert (agents.ids, agents.unusable, agents.below_score) == (("b",), 1, 0)
    assert np.isfinite(agents.state).all()


def test_a_box_without_size_is_left_out() -> None:
    assert checked_tracks(replace(TWO, width=[0.0, 1.0]), CLASSES, 0.0).ids == ("b",)
    assert checked_tracks(replace(TWO, length=[-4.0, 1.0]), CLASSES, 0.0).unusable == 1


def test_agents_of_a_low_score_are_left_out() -> None:
    scored = replace(TWO, score=[0.2, 0.9])
    agents = checked_tracks(scored, CLASSES, min_score=0.3)
    assert (agents.ids, agents.below_score, agents.unusable) == (("b",), 1, 0)
    assert len(checked_tracks(scored, CLASSES, min_score=0.2).ids) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_passes_no_threshold(value: float) -> None:
    agents = checked_tracks(replace(TWO, score=[value, 0.9]), CLASSES, min_score=0.5)
    assert (agents.ids, agents.below_score, agents.unusable) == (("b",), 0, 1)


@pytest.mark.parametrize("missing", [None, np.nan, float("nan")])
@pytest.mark.parametrize("kind", [list, lambda ids: np.array(ids, object)])
def test_an_agent_without_an_id_is_left_out_and_counted(
    kind: Callable[[list[Any]], Any], missing: object
) -> None:
    agents = checked_tracks(replace(TWO, ids=kind([missing, 7])), CLASSES, 0.0)
    assert (agents.ids, agents.unusable) == ((7,), 1)
    both = checked_tracks(replace(TWO, ids=kind([missing, missing])), CLASSES, 0.0)
    assert (both.ids, both.unusable) == ((), 2)


def test_what_a_masked_array_hides_is_not_read() -> None:
    x = np.ma.MaskedArray([1.0, 2.0], mask=[True, False])
    agents = checked_tracks(replace(TWO, x=x), CLASSES, 0.0)
    assert (agents.ids, agents.unusable) == (("b",), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["vehicle", "tram"]}, r"a class of vehicle, pedestrian; got 'tram'"),
        ({"classes": ["vehicle", 3]}, r"a class of vehicle, pedestrian; got 3"),
        ({"classes": ["vehicle"]}, r"a class for each of 2 ids; got 1 names"),
        ({"ids": ["a", "a"]}, r"every id once in a frame; got 'a' twice"),
        ({"ids": [["a"], "b"]}, r"ids that can be hashed; got"),
        ({"x": [1.0]}, r"a number for each of 2 ids in x; got shape \(1,\)"),
        ({"yaw": ["north", "south"]}, r"a number for each of 2 ids in yaw; got \['north'"),
        ({"score": [1.0]}, r"ids in score; got shape \(1,\)"),
        ({"ids": None}, "every column is a sequence; got 'NoneType'"),
        ({"ids": 3}, "every column is a sequence; got 'int'"),
        ({"classes": None}, "every column is a sequence; got 'NoneType'"),
        ({"x": [10**400, 0]}, "ids in x; got int too large"),
        ({"x": [[1.0], [1.0, 2.0]]}, "ids in x; got setting an array element"),
        ({"x": np.array([1j, 2j])}, "ids in x; got array"),
        ({"x": torch.ones(2, requires_grad=True)}, "ids in x; got Can't call numpy"),
    ],
)
def test_tracks_that_are_not_tracks_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        checked_tracks(replace(TWO, **change), CLASSES, 0.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: checked_time(float("nan")),
        lambda: checked_time("noon"),  # type: ignore[arg-type]
        lambda: checked_pose([0.0, 1.0]),
        lambda: checked_pose([0.0, np.inf, 1.0]),
        lambda: checked_pose(None),  # type: ignore[arg-type]
        lambda: checked_time(10**400),
        lambda: checked_time(1.0 + 1.0j),  # type: ignore[arg-type]
        lambda: checked_time(np.complex128(1.0)),  # type: ignore[arg-type]
        lambda: checked_time(np.datetime64("2024-01-01T00:00:00", "ns")),  # type: ignore[arg-type]
        lambda: checked_time(np.timedelta64(1100, "ms")),  # type: ignore[arg-type]
        lambda: checked_pose([10**400, 0.0, 0.0]),
        lambda: checked_pose([[0.0], [0.0, 1.0]]),  # type: ignore[list-item]
        lambda: checked_pose(torch.zeros(3, requires_grad=True)),  # type: ignore[arg-type]
    ],
)
def test_a_time_or_a_pose_that_is_none_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(DataError, match="finite") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [(1e9, 0.0, 0.0), (0.0, -1e300, 0.0), (0.0, 0.0, 1e17)])
def test_an_ego_may_be_as_far_away_as_agents_may(place: tuple[float, float, float]) -> None:
    assert checked_pose((9e8, -9e8, 0.0))[0] == 9e8
    with pytest.raises(DataError, match=r"ego_pose below 1e\+09 m and rad"):
        checked_pose(place)


def test_an_id_has_a_class_wherever_a_raster_shows_it() -> None:
    semantic, instance = np.zeros((2, *GRID.shape), int)
    semantic[1, 2], instance[1, 2:4] = 1, 7
    with pytest.raises(DataError, match=r"a class in semantic wherever.*got 1 cell without"):
        checked_raster(Raster(semantic, instance), GRID, 2, 0)
    semantic[1, 3] = 2
    assert checked_raster(Raster(semantic, instance), GRID, 2, 0).instance is not None


@pytest.mark.parametrize("field", ["semantic", "instance", "bev"])
def test_a_raster_of_rows_of_several_lengths_is_refused(field: str) -> None:
    whole = Raster(np.zeros(GRID.shape, int))
    with pytest.raises(DataError, match="setting an array element") as caught:
        checked_raster(replace(whole, **{field: [[1], [1, 2]]}), GRID, 2, 0)
    assert "\n" not in str(caught.value)


def test_a_raster_is_whole_numbers_on_the_grid() -> None:
    semantic = np.zeros(GRID.shape, np.uint8)
    semantic[1, 2] = 2
    checked = checked_raster(Raster(semantic, semantic * 40), GRID, 2, 0)
    assert np.asarray(checked.instance).max() == 80
    for spoilt, message in (
        (semantic.T, "of shape"),
        (semantic.astype(float), "whole numbers"),
        (semantic + 1, "0 to 2"),
        (semantic.astype(int) - 1, "-1 to"),
    ):
        with pytest.raises(DataError, match=message):
            checked_raster(Raster(spoilt), GRID, 2, 0)


def test_channels_are_those_that_the_model_reads() -> None:
    semantic, own = np.zeros(GRID.shape, int), np.ones((3, *GRID.shape))
    assert checked_raster(Raster(semantic, bev=own), GRID, 2, 3).bev is not None
    without = checked_raster(Raster(semantic), GRID, 2, 3).bev
    assert np.shape(without) == own.shape  # channels that are not there are empty
    with pytest.raises(DataError, match="no bev"):
        checked_raster(Raster(semantic, bev=own), GRID, 2, 0)
    with pytest.raises(DataError, match="bev of shape"):
        checked_raster(Raster(semantic, bev=own[:2]), GRID, 2, 3)
