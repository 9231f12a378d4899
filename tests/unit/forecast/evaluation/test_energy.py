"""The fair energy score, by brute force and by what it is on average."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.evaluation.energy import energy_scores

GROUPS = np.array([[True, False], [True, True], [False, True], [True, False]])


def slow_energy(places: list[list[float]], truth: list[float], weight: list[float]) -> float:
    """Term by term: distances of vectors, all pairs of different members."""
    members = [(p, w) for p, w in zip(places, weight, strict=True) if not math.isnan(sum(p))]
    total = sum(w for _, w in members)
    error = sum(w / total * math.dist(p, truth) for p, w in members)
    if len(members) == 1:
        return error
    different = 1 - sum((w / total) ** 2 for _, w in members)
    pairs = sum(
        (w / total) * (v / total) * math.dist(p, q)
        for i, (p, w) in enumerate(members)
        for j, (q, v) in enumerate(members)
        if i != j
    )
    return error - pairs / different / 2


def made_up(many: int, gaps: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(many)
    places, truth = rng.normal(size=(many, 3, 4, 2)), rng.normal(size=(3, 4, 2))
    places[rng.random(places.shape[:3]) < gaps] = np.nan
    return places, truth


@pytest.mark.parametrize("many", [1, 2, 3, 7])
@pytest.mark.parametrize("even", [True, False])
def test_each_agent_and_each_scene_by_brute_force(many: int, even: bool) -> None:
    places, truth = made_up(many, 0.15)
    truth[0, 1] = np.nan
    weight = np.full(many, 1 / many) if even else np.arange(1, many + 1) / sum(range(many + 1))
    agents, scenes = energy_scores(places, truth, weight, GROUPS)
    for lead in range(3):
        for agent in range(4):
            own = places[:, lead, agent]
            if np.isnan(own).all() or np.isnan(truth[lead, agent]).any():
                assert np.isnan(agents[lead, agent])
                continue
            expected = slow_energy(own.tolist(), truth[lead, agent].tolist(), weight.tolist())
            assert agents[lead, agent] == pytest.approx(expected)
        for group in range(2):
            whole = [
                n
                for n in range(4)
                if GROUPS[n, group] and np.isfinite(places[:, lead, n].sum() + truth[lead, n].sum())
            ]
            if not whole:
                assert np.isnan(scenes[lead, group])
                continue
            stacked = places[:, lead, whole].reshape(many, -1).tolist()
            expected = slow_energy(stacked, truth[lead, whole].ravel().tolist(), weight.tolist())
            assert scenes[lead, group] == pytest.approx(expected / math.sqrt(len(whole)))


def test_of_equal_weights_it_is_the_fair_score_as_written() -> None:
    places, truth = made_up(5, 0.0)
    found = energy_scores(places, truth, np.full(5, 0.2), GROUPS)[0][0, 0]
    own, here = places[:, 0, 0], truth[0, 0]
    error = np.linalg.norm(own - here, axis=-1).mean()
    pairs = np.linalg.norm(own[:, None] - own[None], axis=-1).sum()
    assert found == pytest.approx(error - pairs / (2 * 5 * 4))


def test_its_mean_is_the_same_however_many_realizations_there_are() -> None:
    """The plain score, with 1 / K^2, would fall by an eighth from 2 to 8 realizations."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1, 20_000, 2))
    group = np.ones((20_000, 1), bool)
    means = {}
    for many in (2, 4, 8):
        places = rng.normal(size=(many, 1, 20_000, 2))
        agents, _ = energy_scores(places, truth, np.full(many, 1 / many), group)
        means[many] = agents.mean()
    # E|X - Y| of two standard normal points in the plane is sqrt(pi), and it is half of that.
    for mean in means.values():
        assert mean == pytest.approx(math.sqrt(math.pi) / 2, rel=0.02)


def test_the_truths_own_distribution_scores_best() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(1, 5000, 2))
    group, weight = np.ones((5000, 1), bool), np.full(6, 1 / 6)
    drawn = rng.normal(size=(6, 1, 5000, 2))
    means = {
        spread: energy_scores(drawn * spread, truth, weight, group)[0].mean()
        for spread in (0.0, 0.5, 1.0, 1.5)
    }
    assert min(means, key=lambda spread: means[spread]) == 1.0
    assert means[0.0] == pytest.approx(np.linalg.norm(truth, axis=-1).mean())
