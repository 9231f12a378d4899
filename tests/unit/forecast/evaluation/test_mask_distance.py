"""Generalized energy distance of masks, beside the VPQ that `evaluate` gives of the same masks."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.evaluation.counts import Forecast, Truth, count
from forecast.evaluation.mask_distance import mask_distances
from forecast.evaluation.realization_scores import RealizationAccumulator
from forecast.evaluation.scores import vpq
from tests.support.futures import CLASSES, GRID

AGENTS, LEADS = 4, 3
LABEL = np.array([0, 1, 2, 1, 1])


def video(rng: np.random.Generator) -> np.ndarray:
    """Ids of a few squares that jump about, with a frame for the present."""
    masks = np.zeros((LEADS + 1, *GRID.shape), np.uint16)
    place = rng.integers(5, 25, (AGENTS, 2))
    for lead in range(LEADS + 1):
        for one in np.flatnonzero(rng.random(AGENTS) < 0.8):
            row, column = place[one] + rng.integers(0, 3, 2)
            masks[lead, row : row + 5, column : column + 5] = one + 1
    return masks


def made(seed: int, many: int) -> tuple[Truth, Forecast]:
    rng = np.random.default_rng(seed)
    happened, single, *futures = (video(rng) for _ in range(many + 2))
    state = rng.uniform(-20, 20, (AGENTS, LEADS + 1, 5))
    truth = Truth(LABEL[happened], happened, state, LABEL[1:], "scene")
    pose = np.zeros((LEADS, AGENTS, 3))
    return truth, Forecast(
        LABEL[single[1:]],
        single[1:],
        pose,
        realization_pose=np.zeros((many, *pose.shape)),
        realization_instance=np.stack([one[1:] for one in futures]),
    )


def apart(true: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """1 - VPQ of each class as `evaluate` counts it; no truth ids move."""
    nothing = np.zeros_like(true[:1])
    truth = Truth(LABEL[np.concatenate([nothing, true])], np.concatenate([nothing, true]))
    table = count(truth, Forecast(LABEL[masks], masks), 2, GRID).sum(axis=1)
    return 1 - vpq(np.concatenate([table, table.sum(axis=0, keepdims=True)]))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 9999), st.integers(1, 4))
def test_it_is_what_its_definition_says(seed: int, many: int) -> None:
    truth, forecast = made(seed, many)
    futures = forecast.realization_instance
    assert futures is not None
    far = np.mean([apart(truth.instance[1:], one) for one in futures], axis=0)
    pairs = [apart(a, b) for a, b in permutations(futures, 2)]
    spread = np.mean(pairs, axis=0) if pairs else 0.0

    found = mask_distances(truth, forecast, 2, frozenset())

    assert found is not None
    np.testing.assert_allclose(found[:, -1, 0], 2 * far - spread, atol=1e-12)


def test_one_future_that_comes_true_is_no_distance_away() -> None:
    truth, forecast = made(0, 1)
    right = replace(forecast, instance=truth.instance[1:], semantic=truth.semantic[1:])
    found = mask_distances(
        truth,
        replace(right, realization_pose=None, realization_instance=None),
        2,
        frozenset({1, 2, 3}),
    )
    assert found is not None
    np.testing.assert_allclose(found[np.isfinite(found)], 0.0, atol=1e-12)
    assert np.isfinite(found[2]).all()


def test_weights_weigh_futures_and_their_pairs() -> None:
    truth, forecast = made(3, 3)
    assert forecast.realization_instance is not None
    weight = np.array([0.5, 0.3, 0.2])
    found = mask_distances(truth, replace(forecast, realization_weight=weight), 2, frozenset())
    futures = [*forecast.realization_instance]
    expected = sum(
        2 * w * apart(truth.instance[1:], one)[2] for w, one in zip(weight, futures, strict=True)
    )
    different = 1 - np.square(weight).sum()
    for a, b in combinations(range(3), 2):
        expected -= 2 * weight[a] * weight[b] / different * apart(futures[a], futures[b])[2]
    assert found is not None
    assert found[2, -1, 0] == pytest.approx(expected)


def scores(truth: Truth, forecast: Forecast) -> dict[str, float | None]:
    counted = RealizationAccumulator(CLASSES, truth.horizon, GRID)
    counted.add(truth, forecast)
    return counted.scores(protocol={}, model="", data="", dt_s=0.5).classes["all classes"].scores


def test_futures_without_masks_are_not_known() -> None:
    truth, forecast = made(1, 3)
    assert scores(truth, forecast)["mask_distance"] is not None
    assert scores(truth, replace(forecast, realization_instance=None))["mask_distance"] is None


def test_ids_of_their_own_are_known_but_not_who_moves() -> None:
    truth, forecast = made(1, 3)
    found = scores(truth, replace(forecast, pose=None, existence=None))
    assert found["mask_distance"] is not None
    assert found["mask_distance_moving"] is None
    assert found["min_fde"] is None
