"""Scores of flow against Waymo's definitions, written out, on made-up traffic."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forecast.errors import DataError
from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.flow import sample, true_flow
from forecast.evaluation.probability_scores import ProbabilityAccumulator
from forecast.grid import BEVGrid
from tests.support.stores import Mover, draw

GRID = BEVGrid(-8.0, 9.0, -6.0, 6.0, 0.5)
LEADS = 3
CLASSES = ("vehicle", "pedestrian")
SCENES = [
    [Mover(-4, -3, 0.2, 5, 0.5), Mover(3, 3), Mover(0, 0, 1.2, 1.5, 0, 0.9, 0.9, 2)],
    [Mover(5, 0, 0.1, 8), Mover(-3, 3, speed=0.4)],
    [Mover(2, -2)],
]


def happened(movers: list[Mover], scene: str) -> Truth:
    state = np.stack([mover.state(0.5 * np.arange(LEADS + 1)) for mover in movers])
    instance = np.stack([draw(GRID, state[:, frame]) for frame in range(LEADS + 1)])
    label = np.array([0, *(mover.label for mover in movers)])
    return Truth(label[instance], instance, state, label[1:], scene)


def toys() -> list[tuple[Truth, Forecast]]:
    """The truth, washed out, and its flow with errors; some of it points far outside."""
    rng = np.random.default_rng(0)
    made = []
    for index, movers in enumerate(SCENES):
        truth = happened(movers, f"scene-{index}")
        shape = (LEADS, len(CLASSES), *GRID.shape)
        there = np.stack([truth.semantic[1:] == k + 1 for k in range(len(CLASSES))], axis=1)
        chance = np.where(there, 0.7, 0.1) * rng.random(shape) * (rng.random(shape) < 0.7)
        flow = rng.normal(0, 1.0, (LEADS, 2, *GRID.shape))
        for lead in range(LEADS):
            cells, shift = true_flow(truth, lead, GRID)
            flow[lead].reshape(2, -1)[:, cells] += shift.T
        flow[:, :, rng.random(GRID.shape) < 0.02] = 99.0
        nothing = np.zeros((LEADS, *GRID.shape), np.uint8)
        made.append((truth, Forecast(nothing, nothing, occupancy=chance, flow=flow)))
    return made


def scored(*sequences: tuple[Truth, Forecast]) -> Any:
    counted = ProbabilityAccumulator(CLASSES, LEADS, GRID)
    for truth, forecast in sequences:
        counted.add(truth, forecast)
    return counted.scores().classes


def cell_flow(truth: Truth, lead: int, row: int, column: int) -> tuple[float, float]:
    """Where the point of its agent at a cell's centre was before; (0, 0) within the same cell."""
    id_ = truth.instance[lead + 1, row, column]
    assert truth.track_state is not None
    before, now = truth.track_state[id_ - 1, lead], truth.track_state[id_ - 1, lead + 1]
    x, y = GRID.x_m[column] - now[0], GRID.y_m[row] - now[1]
    ahead = math.cos(now[2]) * x + math.sin(now[2]) * y
    aside = math.cos(now[2]) * y - math.sin(now[2]) * x
    then = (
        before[0] + math.cos(before[2]) * ahead - math.sin(before[2]) * aside,
        before[1] + math.sin(before[2]) * ahead + math.cos(before[2]) * aside,
    )
    dx, dy = then[0] - GRID.x_m[column], then[1] - GRID.y_m[row]
    still = abs(dx) < GRID.resolution_m / 2 and abs(dy) < GRID.resolution_m / 2
    return (0.0, 0.0) if still else (dx, dy)


def waymo_epe(truth: Truth, forecast: Forecast, lead: int, label: int) -> float | None:
    """`_compute_flow_epe`: mean over the cells whose true flow is not (0, 0)."""
    assert forecast.flow is not None
    errors = []
    for row, column in zip(*np.nonzero(truth.semantic[lead + 1] == label), strict=True):
        dx, dy = cell_flow(truth, lead, row, column)
        if (dx, dy) != (0.0, 0.0):
            guess = forecast.flow[lead, :, row, column]
            errors.append(math.hypot(guess[0] - dx, guess[1] - dy))
    return sum(errors) / len(errors) if errors else None


def waymo_warp(occupied: Any, flow: Any) -> Any:
    """`_flow_warp`: each cell takes, bilinearly, what lies where its flow points, 0 outside."""
    height, width = occupied.shape
    warped = np.zeros(occupied.shape)
    for row in range(height):
        for column in range(width):
            x = column + flow[0, row, column] / GRID.resolution_m
            y = row + flow[1, row, column] / GRID.resolution_m
            left, low = math.floor(x), math.floor(y)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if 0 <= low + j < height and 0 <= left + i < width:
                    weight = (1 - abs(x - left - i)) * (1 - abs(y - low - j))
                    warped[row, column] += weight * occupied[low + j, left + i]
    return warped


def waymo_soft_iou(probability: Any, occupied: Any) -> float:
    both = (probability * occupied).mean()
    return float(both / (probability.mean() + occupied.mean() - both))


def waymo_auc(probability: Any, occupied: Any) -> float:
    """Keras: 100 thresholds, precision over recall, interpolated."""
    thresholds = [-1e-7, *((i + 1) / 99 for i in range(98)), 1 + 1e-7]
    likely = probability.astype(np.float32)
    true = [int((occupied & (likely > least)).sum()) for least in thresholds]
    false = [int((~occupied & (likely > least)).sum()) for least in thresholds]
    area = 0.0
    for i in range(99):
        gained = true[i] - true[i + 1]
        more = gained + false[i] - false[i + 1]
        slope = gained / more if more > 0 else 0.0
        base = true[i + 1] - slope * (true[i + 1] + false[i + 1])
        now, then = true[i] + false[i], true[i + 1] + false[i + 1]
        area += slope * (gained + base * math.log(now / then if now and then else 1.0))
    return area / int(occupied.sum())


def waymo_mean(found: list[list[float | None]]) -> float:
    """Over the waypoints that have truth, then over the scenes that have such."""
    known = [[value for value in scene if value is not None] for scene in found]
    means = [sum(scene) / len(scene) for scene in known if scene]
    return sum(means) / len(means)


@pytest.mark.parametrize("label", [1, 2])
def test_the_error_of_flow_is_waymos_in_metres(label: int) -> None:
    sequences = toys()
    found = [[waymo_epe(*one, lead, label) for lead in range(LEADS)] for one in sequences]
    assert any(value is None for scene in found for value in scene), "some stand"
    own = scored(*sequences)[CLASSES[label - 1]]
    assert own.scores["flow_epe"] == pytest.approx(waymo_mean(found))
    for lead in range(LEADS):
        assert own.by_lead["flow_epe"][lead] == pytest.approx(
            waymo_mean([[scene[lead]] for scene in found])
        )


@pytest.mark.parametrize(
    ("score", "metric"), [("flow_auc", waymo_auc), ("flow_soft_iou", waymo_soft_iou)]
)
@pytest.mark.parametrize("label", [1, 2])
def test_grounded_occupancy_is_waymos(score: str, metric: Any, label: int) -> None:
    found: list[list[float | None]] = []
    for truth, forecast in toys():
        assert forecast.occupancy is not None
        assert forecast.flow is not None
        found.append([])
        for lead in range(LEADS):
            before, now = (truth.semantic[lead + step] == label for step in (0, 1))
            warped = waymo_warp(before, forecast.flow[lead])
            grounded = warped * forecast.occupancy[lead, label - 1]
            known = before.any() and now.any()
            found[-1].append(metric(grounded, now) if known else None)
    own = scored(*toys())[CLASSES[label - 1]].scores
    assert own[score] == pytest.approx(waymo_mean(found), rel=1e-6)


def test_flow_is_exact_for_boxes_that_turn_and_unknown_for_those_that_come() -> None:
    truth = happened(SCENES[0], "a")
    cells, shift = true_flow(truth, 1, GRID)
    assert len(cells) > 20
    for cell, (dx, dy) in zip(cells, shift, strict=True):
        assert (dx, dy) == pytest.approx(cell_flow(truth, 1, *divmod(cell, GRID.width)))
    assert truth.track_state is not None
    late = truth.track_state.copy()
    late[0, 1] = np.nan
    known, _ = true_flow(replace(truth, track_state=late), 1, GRID)
    assert set(truth.instance[2].ravel()[known]) < set(truth.instance[2].ravel()[cells])


def test_without_tracks_errors_are_not_known_and_the_grounded_scores_are() -> None:
    sequences = [(replace(truth, track_state=None), forecast) for truth, forecast in toys()]
    own, whole = (scored(*some)["vehicle"].scores for some in (sequences, toys()))
    assert own["flow_epe"] is None
    assert own["flow_auc"] == whole["flow_auc"]


def test_the_edge_of_a_raster_fades_into_nothing() -> None:
    full = np.ones((3, 4), bool)
    x = np.array([0.0, -0.25, -1.0, -7.0, 3.0, 3.5, 4.0, 1e9, 1.5])
    expected = [1.0, 0.75, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 1.0]
    assert sample(full, x, np.ones(9)).tolist() == pytest.approx(expected)
    assert sample(full, np.ones(2), np.array([2.5, -0.5])).tolist() == pytest.approx([0.5, 0.5])


def test_a_flow_that_is_not_finite_is_refused() -> None:
    truth, forecast = toys()[0]
    assert forecast.flow is not None
    forecast.flow[1, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match="a flow of finite numbers; got NaN or infinity in scene"):
        scored((truth, forecast))
