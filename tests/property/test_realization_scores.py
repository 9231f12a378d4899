"""What must hold of scores of several futures, whatever they are."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.realization_scores import CURVES, RealizationAccumulator
from forecast.evaluation.realizations import NUMBERS, missed_by_any
from tests.support.futures import CLASSES, GRID, futures

BEST = ("min_ade", "min_fde", "miss_rate", "miss_rate_2_m", "found")
JOINT = ("min_ade_joint", "min_fde_joint", "miss_rate_joint")

made = st.builds(
    futures,
    seed=st.integers(0, 10_000),
    many=st.integers(2, 6),
    agents=st.integers(0, 5),
    leads=st.integers(1, 3),
    gaps=st.booleans(),
)


def values(truth: Truth, forecast: Forecast) -> dict[str, np.ndarray]:
    counted = RealizationAccumulator(CLASSES, truth.horizon, GRID)
    counted.add(truth, forecast)
    return counted.values(counted.sums().sum(axis=0))


def chosen(forecast: Forecast, which: list[int]) -> Forecast:
    assert forecast.realization_pose is not None
    return replace(forecast, realization_pose=forecast.realization_pose[which])


@settings(deadline=None, max_examples=20)
@given(made, st.randoms(use_true_random=False))
def test_the_order_of_realizations_does_not_matter(one, random) -> None:
    truth, forecast = one
    order = list(range(len(forecast.realization_pose)))
    random.shuffle(order)
    shuffled = values(truth, chosen(forecast, order))
    for score, value in values(truth, forecast).items():
        # Two worlds may be best for all by the same mean, and be missed by other agents.
        np.testing.assert_allclose(shuffled[score], value, rtol=1e-9, atol=1e-9, err_msg=score)


@settings(deadline=None, max_examples=20)
@given(made)
def test_more_realizations_are_never_worse_at_their_best(one) -> None:
    truth, forecast = one
    if np.isnan(forecast.realization_pose).any():
        # An agent that no realization had before enters the mean with its distance.
        forecast = futures(int(truth.scene.removeprefix("scene-")), 4, len(truth.track_state))[1]
    few = len(forecast.realization_pose) // 2
    less, more = values(truth, chosen(forecast, list(range(few)))), values(truth, forecast)
    for score in (*BEST, *JOINT):
        for ending in ("", "_moving"):
            before, after = less[score + ending], more[score + ending]
            known = np.isfinite(before)
            gained = before - after if score != "found" else after - before
            assert (gained[known] >= -1e-9).all(), score


@settings(deadline=None, max_examples=20)
@given(made)
def test_one_realization_that_is_the_forecast_is_the_forecast_alone(one) -> None:
    truth, forecast = one
    alone = values(truth, replace(forecast, realization_pose=None))
    doubled = values(truth, replace(forecast, realization_pose=forecast.pose[None]))
    for score, value in alone.items():
        np.testing.assert_array_equal(doubled[score], value, err_msg=score)
    np.testing.assert_allclose(alone["energy"], alone["displacement"])
    np.testing.assert_allclose(alone["energy_joint"], alone["displacement_joint"])


@settings(deadline=None, max_examples=20)
@given(made)
def test_the_best_for_all_is_no_better_than_the_best_for_each(one) -> None:
    found = values(*one)
    every = len(CLASSES)  # of a single scene, so that means compare
    if np.isfinite(one[1].realization_pose).all():
        for score in ("min_ade", "min_fde", "miss_rate", "miss_rate_2_m"):
            marginal, joint = found[score][every], found[f"{score}_joint"][every]
            assert not joint < marginal - 1e-9, score


@settings(deadline=None, max_examples=20)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_chance_that_all_of_some_miss_by_counting_subsets(hits) -> None:
    from itertools import combinations

    found = missed_by_any(np.array(hits))
    for place, number in enumerate(NUMBERS):
        if number > len(hits):
            assert np.isnan(found[place])
            continue
        missed = sum(not any(some) for some in combinations(hits, number))
        assert found[place] == pytest.approx(missed / comb(len(hits), number))


@settings(deadline=None, max_examples=20)
@given(made)
def test_of_all_realizations_the_curve_ends_at_the_score(one) -> None:
    truth, forecast = one
    counted = RealizationAccumulator(CLASSES, truth.horizon, GRID)
    counted.add(truth, forecast)
    for scores in counted.scores().classes.values():
        numbers = scores.by_number["realizations"]
        if numbers[-1] == len(forecast.realization_pose):
            for score in CURVES:
                ends, whole = scores.by_number[score][-1], scores.scores[score]
                assert (ends is None) == (whole is None)
                assert ends is None or ends == pytest.approx(whole)
                curve = scores.by_number[score]
                assert ends is None or sorted(curve, reverse=score != "found") == pytest.approx(
                    curve
                )


def counted_of(truth: Truth, forecast: Forecast) -> RealizationAccumulator:
    counted = RealizationAccumulator(CLASSES, truth.horizon, GRID)
    counted.add(truth, forecast)
    return counted


def without(forecast: Forecast, agent: int, realizations: slice = slice(None)) -> Forecast:
    assert forecast.realization_pose is not None
    poses = forecast.realization_pose.copy()
    poses[realizations, :, agent] = np.nan
    return replace(forecast, realization_pose=poses)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_a_future_is_not_better_for_all_without_an_agent(seed: int) -> None:
    truth, forecast = futures(seed, 3)
    off = np.linalg.norm(
        forecast.realization_pose[..., :2] - truth.track_state[:, 1:, :2].swapaxes(0, 1), axis=-1
    )
    # Not the worst of it at any lead: that of another realization is taken instead.
    spared = [n for n in range(off.shape[2]) if (off[0, :, n] < off[1:, :, n].max(axis=0)).all()]
    before = values(truth, forecast)
    for agent in spared:
        after = values(truth, without(forecast, agent, slice(1)))
        for score in ("min_fde_joint", "min_ade_joint"):
            assert after[score][len(CLASSES)] >= before[score][len(CLASSES)] - 1e-9, score


def test_distances_of_other_agents_do_not_compare() -> None:
    truth, forecast = futures(1, 3)
    whole = counted_of(truth, forecast)
    name = whole.classes[int(truth.track_class[0]) - 1]
    for other, same in ((forecast, True), (without(forecast, 0), False)):
        another = counted_of(truth, other)
        for score in ("min_ade", "min_fde", "energy", "min_fde_joint"):
            assert whole.comparable(another, name, score) == same, score
        assert whole.comparable(another, name, "miss_rate")
        assert not whole.comparable(another, name, "true_collisions")
