"""Scores of several futures against Waymo's and Argoverse 2's definitions, written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import shapely

from data_tools.geometry import box_corners
from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.realization_scores import (
    EVERY,
    MOVING,
    ClassRealizations,
    RealizationAccumulator,
)
from tests.support.futures import CLASSES, GRID, futures

Sequence = tuple[Truth, Forecast]
LEADS = 4


def scored(*sequences: Sequence) -> dict[str, ClassRealizations]:
    counted = RealizationAccumulator(CLASSES, LEADS, GRID)
    for truth, forecast in sequences:
        counted.add(truth, forecast)
    return counted.scores().classes


def moves(state: Any) -> bool:
    return bool(np.nanmax(np.linalg.norm(state[:, :2] - state[0, :2], axis=-1)) > 2)


def tracks(sequence: Sequence, label: str = EVERY, moving: bool = False) -> list[int]:
    truth, _ = sequence
    assert truth.track_state is not None
    assert truth.track_class is not None
    return [
        n
        for n, state in enumerate(truth.track_state)
        if (label == EVERY or truth.track_class[n] == CLASSES.index(label) + 1)
        and (not moving or moves(state))
    ]


# Argoverse 2: av2/datasets/motion_forecasting/eval/metrics.py.


def av2_fde(forecast: Any, truth: Any) -> Any:
    """(K, N, 2) trajectories to (K,)."""
    return np.array([math.dist(one[-1], truth[-1]) for one in forecast])


def av2_ade(forecast: Any, truth: Any) -> Any:
    return np.array(
        [np.mean([math.dist(p, q) for p, q in zip(one, truth, strict=True)]) for one in forecast]
    )


def av2_brier_fde(forecast: Any, truth: Any, probability: Any) -> Any:
    return av2_fde(forecast, truth) + (1 - probability) ** 2


def av2_missed(forecast: Any, truth: Any) -> Any:
    return av2_fde(forecast, truth) > 2.0


def of_actor(sequence: Sequence, n: int) -> tuple[Any, Any]:
    truth, forecast = sequence
    assert truth.track_state is not None
    assert forecast.realization_pose is not None
    return forecast.realization_pose[:, :, n, :2], truth.track_state[n, 1:, :2]


@pytest.mark.parametrize("ending", ["", MOVING])
@pytest.mark.parametrize("label", [*CLASSES, EVERY])
def test_of_each_actor_as_argoverse_2_has_it(label: str, ending: str) -> None:
    sequences = [futures(seed, 6) for seed in range(5)]
    probability = np.full(6, 1 / 6)
    actors = [
        of_actor(one, n) for one in sequences for n in tracks(one, label, moving=bool(ending))
    ]
    own = scored(*sequences)[label].scores
    best = [int(av2_fde(*actor).argmin()) for actor in actors]
    expected = {
        "min_fde": [av2_fde(*actor).min() for actor in actors],
        "min_ade": [av2_ade(*actor).min() for actor in actors],
        "brier_min_fde": [
            av2_brier_fde(*actor, probability)[k] for actor, k in zip(actors, best, strict=True)
        ],
        "miss_rate_2_m": [av2_missed(*actor)[k] for actor, k in zip(actors, best, strict=True)],
    }
    for score, values in expected.items():
        assert own[score + ending] == pytest.approx(np.mean(values)), score


@pytest.mark.parametrize("weighted", [False, True])
def test_of_worlds_as_argoverse_2_has_it(weighted: bool) -> None:
    sequences = [futures(seed, 6) for seed in range(5)]
    probability = np.full(6, 1 / 6)
    if weighted:
        probability = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
        sequences = [
            (truth, Forecast(**vars(forecast) | {"realization_weight": probability}))
            for truth, forecast in sequences
        ]
    found: dict[str, list[float]] = {}
    missed: list[bool] = []
    for one in sequences:
        actors = [of_actor(one, n) for n in tracks(one)]
        fde = np.mean([av2_fde(*actor) for actor in actors], axis=0)
        ade = np.mean([av2_ade(*actor) for actor in actors], axis=0)
        brier = np.mean([av2_brier_fde(*actor, probability) for actor in actors], axis=0)
        best = fde.argmin()
        for score, value in (("min_fde", fde.min()), ("min_ade", ade.min())):
            found.setdefault(f"{score}_joint", []).append(value)
        found.setdefault("brier_min_fde_joint", []).append(brier[best])
        missed += [bool(av2_missed(*actor)[best]) for actor in actors]
    own = scored(*sequences)[EVERY].scores
    for score, values in found.items():
        assert own[score] == pytest.approx(np.mean(values)), score
    assert own["miss_rate_2_m_joint"] == pytest.approx(np.mean(missed))


# Waymo: metrics/motion_metrics.cc, of one measurement step.


def waymo_factor(speed: float) -> float:
    if speed < 1.4:
        return 0.5
    if speed > 11.0:
        return 1.0
    return 0.5 + (1.0 - 0.5) * (speed - 1.4) / (11.0 - 1.4)


def waymo_hit(place: Any, state: Any, lateral: float, longitudinal: float, speed: float) -> bool:
    """``place`` and ``state`` = x, y(, yaw) at the measurement step."""
    dx, dy = place[0] - state[0], place[1] - state[1]
    ahead = math.cos(state[2]) * dx + math.sin(state[2]) * dy
    aside = -math.sin(state[2]) * dx + math.cos(state[2]) * dy
    factor = waymo_factor(speed)
    return abs(ahead) <= longitudinal * factor and abs(aside) <= lateral * factor


def waymo_misses(sequence: Sequence, label: str, lateral: float, dt_s: float) -> list[list[bool]]:
    """Of each agent, whether each prediction is a hit; agents invalid at the step are left out."""
    truth, forecast = sequence
    assert truth.track_state is not None
    assert forecast.realization_pose is not None
    hits = []
    for n in tracks(sequence, label):
        state = truth.track_state[n]
        if np.isnan(state[-1, 0]):
            continue
        seen = next(lead for lead in range(1, LEADS + 1) if np.isfinite(state[lead, 0]))
        speed = math.dist(state[0, :2], state[seen, :2]) / (seen * dt_s)
        hits.append(
            [
                waymo_hit(place, state[-1], lateral, 2 * lateral, speed)
                for place in forecast.realization_pose[:, LEADS - 1, n]
            ]
        )
    return hits


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("lateral", "at_s"), [(1.0, 3), (1.8, 5), (3.0, 8), (1 / 3, 1)])
def test_misses_as_waymo_has_them(lateral: float, at_s: float, gaps: bool) -> None:
    dt_s = at_s / LEADS
    made = [futures(seed, 6, gaps=gaps) for seed in range(8)]
    sequences = [(Truth(**vars(truth) | {"dt_s": dt_s}), forecast) for truth, forecast in made]
    classes = scored(*sequences)
    for label in (*CLASSES, EVERY):
        hits = [waymo_misses(one, label, lateral, dt_s) for one in sequences]
        each = [not any(agent) for scene in hits for agent in scene]
        scenes = [scene for scene in hits if scene]
        joint = [not any(all(one) for one in zip(*scene, strict=True)) for scene in scenes]
        assert classes[label].scores["miss_rate"] == pytest.approx(np.mean(each))
        assert classes[label].scores["miss_rate_joint"] == pytest.approx(np.mean(joint))


def test_ade_of_objects_that_are_not_always_valid_as_waymo_has_it() -> None:
    """Over the valid steps; best for each object, and best for all of a scenario."""
    made = [futures(seed, 4, gaps=True) for seed in range(6)]
    marginal, joint = [], []
    sequences = []
    for truth, _ in made:
        whole = futures(int(truth.scene.removeprefix("scene-")), 4)[1]
        sequences.append((truth, whole))
        assert truth.track_state is not None
        assert whole.realization_pose is not None
        of_objects = []
        for n, state in enumerate(truth.track_state):
            valid = [lead for lead in range(1, LEADS + 1) if np.isfinite(state[lead, 0])]
            if valid:
                places = whole.realization_pose[:, :, n]
                ade = [
                    np.mean([math.dist(one[lead - 1][:2], state[lead, :2]) for lead in valid])
                    for one in places
                ]
                of_objects.append(ade)
        marginal += [min(ade) for ade in of_objects]
        joint.append(np.mean(of_objects, axis=0).min())
    own = scored(*sequences)[EVERY].scores
    assert own["min_ade"] == pytest.approx(np.mean(marginal))
    assert own["min_ade_joint"] == pytest.approx(np.mean(joint))


def box(state: Any, pose: Any = None) -> Any:
    where = state[:3] if pose is None else pose
    return shapely.Polygon(box_corners(np.array([*where, *state[3:]])))


def collides(boxes: list[Any], own: list[int]) -> bool:
    """Whether one of some boxes shares ground with any other."""
    return any(
        boxes[n].intersection(other).area > 1e-9
        for n in own
        for m, other in enumerate(boxes)
        if m != n
    )


@pytest.mark.parametrize("label", [*CLASSES, EVERY])
def test_collisions_and_what_is_found_by_polygons(label: str) -> None:
    sequences = [futures(seed, 5, agents=7) for seed in range(6)]
    shares, true_shares, found = [], [], []
    for one in sequences:
        truth, forecast = one
        assert truth.track_state is not None
        assert forecast.realization_pose is not None
        states, own = truth.track_state, tracks(one, label)
        realized = [
            [
                [box(state[0], pose) for state, pose in zip(states, lead, strict=True)]
                for lead in realization
            ]
            for realization in forecast.realization_pose
        ]
        happened = [[box(state[lead]) for state in states] for lead in range(1, LEADS + 1)]
        if own:
            shares.append(np.mean([any(collides(b, own) for b in leads) for leads in realized]))
            true_shares.append(any(collides(b, own) for b in happened))
        for n in own:
            true_box = happened[-1][n]
            iou = [
                b[-1][n].intersection(true_box).area / b[-1][n].union(true_box).area
                for b in realized
            ]
            found.append(max(iou) > 0.5)
    scores = scored(*sequences)[label].scores
    assert 0 < np.mean(true_shares) < np.mean(shares) <= 1
    assert scores["collisions"] == pytest.approx(np.mean(shares))
    assert scores["true_collisions"] == pytest.approx(np.mean(true_shares))
    assert scores["found"] == pytest.approx(np.mean(found))
