"""Occupancy as a probability: what is counted, and what has no score."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.probabilities import (
    LEAST,
    Chance,
    bins_of,
    count_probabilities,
    likely_cells,
)
from forecast.evaluation.probability_scores import ProbabilityAccumulator
from forecast.grid import BEVGrid

GRID = BEVGrid(0.0, 4.0, 0.0, 2.0, 0.5)
CLASSES = ("vehicle", "pedestrian")


def truth(*leads: NDArray[np.int64], scene: str = "a") -> Truth:
    semantic = np.stack([np.zeros(GRID.shape, int), *leads])
    return Truth(semantic, semantic, scene=scene)


def cells(*places: tuple[int, int], label: int = 1) -> NDArray[np.int64]:
    frame = np.zeros(GRID.shape, int)
    for place in places:
        frame[place] = label
    return frame


def forecast(occupancy: NDArray[np.float64]) -> Forecast:
    nothing = np.zeros((len(occupancy), *GRID.shape), np.uint8)
    return Forecast(nothing, nothing, occupancy=occupancy.astype(np.float16))


def empty(leads: int = 1) -> NDArray[np.float64]:
    return np.zeros((leads, len(CLASSES), *GRID.shape))


def accumulated(*sequences: tuple[Truth, Forecast]) -> ProbabilityAccumulator:
    counted = ProbabilityAccumulator(CLASSES, sequences[0][0].horizon, GRID)
    for happened, guess in sequences:
        counted.add(happened, guess)
    return counted


def test_sums_of_one_map_by_hand() -> None:
    occupancy = empty()
    occupancy[0, 0, 0, 0], occupancy[0, 0, 0, 1], occupancy[0, 0, 1, 1] = 0.75, 0.25, 0.5
    happened = truth(cells((0, 0), (0, 1), (3, 3)))
    sums = count_probabilities(happened, occupancy, 2)[0][0, 0]
    assert sums[Chance.CELLS] == 32
    assert sums[Chance.OCCUPIED] == 3
    assert sums[Chance.SQUARES] == pytest.approx(0.25**2 + 0.75**2 + 0.5**2 + 1)
    missed = -math.log(LEAST)
    assert sums[Chance.LOG_LOSS] == pytest.approx(-math.log(0.75 * 0.25 * 0.5) + missed)
    assert sums[Chance.SOFT_IOU] == pytest.approx(1.0 / (1.5 + 3 - 1.0))
    bins = bins_of(sums)
    assert bins[:, [4, 9, 14]].tolist() == [[1, 1, 1], [1, 0, 1], [0.25, 0.5, 0.75]]
    assert bins.sum(axis=1).tolist() == [3, 2, 1.5], "cells of probability 0 are in no bin"


def test_a_certain_forecast_that_is_right_has_the_best_scores() -> None:
    occupancy = empty()
    occupancy[0, 0, 1, 2] = 1.0
    vehicle, pedestrian = (
        accumulated(
            (truth(cells((1, 2))), forecast(occupancy)),
            (truth(cells((1, 2)), scene="b"), forecast(occupancy)),
        )
        .scores()
        .classes.values()
    )
    assert vehicle.scores == {
        "auc": 1.0,
        "soft_iou": 1.0,
        "brier": 0.0,
        "brier_occupied": 0.0,
        "brier_skill": 1.0,
        "log_loss_occupied": 0.0,
        "calibration_error": 0.0,
        "flow_epe": None,
        "flow_auc": None,
        "flow_soft_iou": None,
    }
    assert vehicle.interval["auc"] == (1.0, 1.0)
    assert vehicle.reliability == [
        {"above": 0.95, "up_to": 1.0, "cells": 2, "forecast": 1.0, "observed": 1.0}
    ]
    assert pedestrian.scores["auc"] is pedestrian.scores["brier_occupied"] is None
    assert pedestrian.scores["brier_skill"] is pedestrian.precision_recall["auc"] is None
    assert pedestrian.reliability == []
    assert pedestrian.interval["auc"] is None


def test_what_was_ruled_out_and_happens_costs_much_and_not_all() -> None:
    vehicle = accumulated((truth(cells((0, 0))), forecast(empty()))).scores().classes["vehicle"]
    assert vehicle.scores["log_loss_occupied"] == pytest.approx(-math.log(LEAST))
    assert vehicle.scores["brier_occupied"] == 1.0
    assert vehicle.scores["soft_iou"] == 0.0
    assert vehicle.scores["calibration_error"] is None, "nothing was forecast"
    assert set(vehicle.interval.values()) == {None}, "of one scene"


def test_the_share_of_occupied_cells_as_forecast_has_no_skill_and_is_calibrated() -> None:
    occupancy = np.full((2, 2, *GRID.shape), 0.25)
    quarter = np.zeros(GRID.shape, int)
    quarter[0] = 1
    vehicle = (
        accumulated((truth(quarter, quarter), forecast(occupancy))).scores().classes["vehicle"]
    )
    assert vehicle.scores["brier_skill"] == pytest.approx(0.0)
    assert vehicle.scores["calibration_error"] == pytest.approx(0.0)
    assert vehicle.precision_recall["auc"] == pytest.approx(0.25)


def random_sequences() -> list[tuple[Truth, Forecast]]:
    rng = np.random.default_rng(0)
    return [
        (
            truth(*rng.integers(0, 3, (2, *GRID.shape)), scene=scene),
            forecast(rng.random((2, len(CLASSES), *GRID.shape))),
        )
        for scene in "aab"
    ]


def test_merged_counts_are_those_of_one_accumulator() -> None:
    whole = ProbabilityAccumulator(CLASSES, 2, GRID)
    for sequence in random_sequences():
        whole.merge(json.loads(json.dumps(accumulated(sequence).counted())))
    expected = accumulated(*random_sequences()).scores().to_json()
    found = json.loads(json.dumps(whole.scores().to_json(), allow_nan=False))
    assert found == json.loads(json.dumps(expected))
    assert (found["sequences"], found["scenes"], found["horizon"]) == (3, 2, 2)
    assert found["classes"]["vehicle"]["auc"] == expected["classes"]["vehicle"]["auc"]


def test_each_lead_is_scored_as_if_it_were_alone() -> None:
    both = accumulated(*random_sequences()).scores().classes["pedestrian"]
    for lead in range(2):
        alone = accumulated(
            *(
                (
                    Truth(t.semantic[[0, lead + 1]], t.instance[[0, lead + 1]], scene=t.scene),
                    Forecast(f.semantic, f.instance, occupancy=f.occupancy[lead : lead + 1]),
                )
                for t, f in random_sequences()
                if f.occupancy is not None
            )
        )
        single = alone.scores().classes["pedestrian"]
        for name, value in single.scores.items():
            assert both.by_lead[name][lead] == pytest.approx(value)
            assert both.interval_by_lead[name][lead] == pytest.approx(single.interval[name])


@pytest.mark.parametrize("wrong", [1.5, -0.25, np.nan, np.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    occupancy = empty()
    occupancy[0, 1, 2, 2] = wrong
    with pytest.raises(DataError, match="an occupancy from 0 to 1") as caught:
        accumulated((truth(cells((0, 0)), scene="the scene"), forecast(occupancy)))
    assert "the scene" in str(caught.value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_cells_without_a_probability_are_passed_over_also_where_they_are_minus_zero(
    kind: type[np.floating[Any]],
) -> None:
    """As the opposite of 0 is, in forecast stores."""
    chances = np.array([[0.0, -0.0, 0.25, 1.0], [6e-8, -0.5, np.nan, -0.0]], kind)
    some, likely = likely_cells(chances)
    assert some.tolist() == [2, 3, 4, 5, 6]
    np.testing.assert_array_equal(likely, chances.ravel()[some].astype(np.float32))
