"""Scores of occupancy against other code: Waymo's, written out, and the library `scores`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.probability_scores import ProbabilityAccumulator, ProbabilityScores
from forecast.grid import BEVGrid

SHAPE = 20, 30
GRID = BEVGrid(0.0, 15.0, 0.0, 10.0, 0.5)
LEADS = 3


def toy(seed: int, occupied: NDArray[np.bool_] | None = None) -> tuple[Truth, Forecast]:
    """A sequence of one class: mostly zeros, some ones, the rest anything between."""
    rng = np.random.default_rng(seed)
    chance = rng.random((LEADS, *SHAPE)) ** 2
    if occupied is None:
        occupied = rng.random(chance.shape) < chance
    chance[rng.random(chance.shape) < 0.4] = 0.0
    chance[rng.random(chance.shape) < 0.05] = 1.0
    semantic = np.concatenate([np.zeros((1, *SHAPE), bool), occupied]).astype(np.uint8)
    nothing = np.zeros((LEADS, *SHAPE), np.uint8)
    forecast = Forecast(nothing, nothing, occupancy=chance[:, None].astype(np.float16))
    return Truth(semantic, semantic, scene=f"scene-{seed}"), forecast


def scored(*sequences: tuple[Truth, Forecast]) -> ProbabilityScores:
    counted = ProbabilityAccumulator(("vehicle",), LEADS, GRID)
    for truth, forecast in sequences:
        counted.add(truth, forecast)
    return counted.scores()


def maps(sequence: tuple[Truth, Forecast]) -> list[tuple[list[float], list[bool]]]:
    """Probabilities and truth of each lead, as flat lists."""
    truth, forecast = sequence
    assert forecast.occupancy is not None
    return [
        (
            forecast.occupancy[lead, 0].ravel().tolist(),
            (truth.semantic[lead + 1] == 1).ravel().tolist(),
        )
        for lead in range(LEADS)
    ]


def keras_pr_auc(probability: list[float], occupied: list[bool]) -> float:
    """`tf.keras.metrics.AUC(num_thresholds=100, curve="PR")`, interpolated, term by term."""
    thresholds = [-1e-7, *((i + 1) / 99 for i in range(98)), 1 + 1e-7]
    pairs = list(zip(probability, occupied, strict=True))
    true = [sum(t for p, t in pairs if p > least) for least in thresholds]
    false = [sum(not t for p, t in pairs if p > least) for least in thresholds]
    positives = sum(occupied)
    area = 0.0
    for i in range(99):
        gained = true[i] - true[i + 1]
        more = true[i] + false[i] - true[i + 1] - false[i + 1]
        slope = gained / more if more > 0 else 0.0
        base = true[i + 1] - slope * (true[i + 1] + false[i + 1])
        ratio = 1.0
        if true[i] + false[i] > 0 and true[i + 1] + false[i + 1] > 0:
            ratio = (true[i] + false[i]) / (true[i + 1] + false[i + 1])
        area += slope * (gained + base * math.log(ratio)) / positives
    return area


def waymo_soft_iou(probability: list[float], occupied: list[bool]) -> float:
    """`_compute_occupancy_soft_iou` of Waymo's metrics."""
    size = len(probability)
    both = sum(p * t for p, t in zip(probability, occupied, strict=True)) / size
    return both / (sum(probability) / size + sum(occupied) / size - both)


def waymo_mean(metric, sequences) -> float:
    """Mean over the waypoints that have a true cell, then over scenes."""
    scenes = []
    for sequence in sequences:
        found = [metric(*one) for one in maps(sequence) if any(one[1])]
        scenes.append(sum(found) / len(found))
    return sum(scenes) / len(scenes)


def some_leads_empty() -> tuple[Truth, Forecast]:
    occupied = np.zeros((LEADS, *SHAPE), bool)
    occupied[1, 3:9, 4:12] = True
    return toy(5, occupied)


@pytest.mark.parametrize(("score", "metric"), [("auc", keras_pr_auc), ("soft_iou", waymo_soft_iou)])
def test_waymos_metrics_of_each_waypoint_and_of_all(score, metric):
    sequences = [toy(1), toy(2), some_leads_empty()]
    vehicle = scored(*sequences).classes["vehicle"]
    assert vehicle.scores[score] == pytest.approx(waymo_mean(metric, sequences), rel=1e-6)
    for lead in range(LEADS):
        there = [maps(sequence)[lead] for sequence in sequences if any(maps(sequence)[lead][1])]
        expected = sum(metric(*one) for one in there) / len(there)
        assert vehicle.by_lead[score][lead] == pytest.approx(expected, rel=1e-6)


def test_the_area_is_that_below_the_interpolated_precision():
    """Between two thresholds true positives grow in proportion to what is forecast."""
    vehicle = scored(toy(3)).classes["vehicle"]
    pairs = [pair for one in maps(toy(3)) for pair in zip(*one, strict=True)]
    probability = np.array([p for p, _ in pairs])
    occupied = np.array([t for _, t in pairs])
    area = 0.0
    for i in range(99):
        above, below = (probability > (least or -1) for least in ((i + 1) / 99, i / 99))
        above &= i < 98
        true = np.linspace((above & occupied).sum(), (below & occupied).sum(), 2001)
        forecast = np.linspace(above.sum(), below.sum(), 2001)
        precision = np.divide(true, forecast, out=np.zeros(2001), where=forecast > 0)
        precision[0] = precision[1] if forecast[0] == 0 else precision[0]
        area += np.trapezoid(precision, true)
    assert vehicle.precision_recall["auc"] == pytest.approx(area / occupied.sum(), abs=1e-4)


def test_a_constant_map_scores_about_the_share_of_occupied_cells():
    truth, _ = toy(4)
    constant = np.full((LEADS, 1, *SHAPE), 0.3, np.float16)
    nothing = np.zeros((LEADS, *SHAPE), np.uint8)
    vehicle = scored((truth, Forecast(nothing, nothing, occupancy=constant))).classes["vehicle"]
    share = vehicle.counts["occupied"] / vehicle.counts["cells"]
    assert vehicle.precision_recall["auc"] == pytest.approx(share, rel=1e-6)


def test_the_brier_score_is_that_of_the_library_scores():
    probability = pytest.importorskip("scores", reason="scores is not installed").probability
    xarray = pytest.importorskip("xarray")
    sequences = [toy(1), toy(2)]
    pairs = [
        pair for sequence in sequences for one in maps(sequence) for pair in zip(*one, strict=True)
    ]
    forecast = xarray.DataArray([p for p, _ in pairs], dims="cell")
    observed = xarray.DataArray([float(t) for _, t in pairs], dims="cell")
    expected = float(probability.brier_score(forecast, observed))
    assert scored(*sequences).classes["vehicle"].scores["brier"] == pytest.approx(expected)


def test_the_reliability_curve_is_the_libraries_where_it_rises():
    """`scores` fits the rising curve that is closest; of one that rises, it is the curve."""
    probability = pytest.importorskip("scores", reason="scores is not installed").probability
    levels = ((np.arange(12) + 0.5) / 20).astype(np.float16)
    rng = np.random.default_rng(6)
    chance = rng.choice(levels, (LEADS, *SHAPE))
    occupied = rng.random(chance.shape) < chance.astype(float) ** 2
    semantic = np.concatenate([np.zeros((1, *SHAPE)), occupied]).astype(np.uint8)
    nothing = np.zeros((LEADS, *SHAPE), np.uint8)
    sequence = Truth(semantic, semantic), Forecast(nothing, nothing, occupancy=chance[:, None])
    curve = scored(sequence).classes["vehicle"].reliability
    observed = [bin_["observed"] for bin_ in curve]
    fit = probability.isotonic_fit(chance.ravel().astype(float), occupied.ravel().astype(float))
    theirs = dict(zip(fit["fcst_sorted"].tolist(), fit["regression_values"].tolist(), strict=True))
    assert [bin_["forecast"] for bin_ in curve] == pytest.approx(sorted(theirs))
    assert observed == sorted(observed), "another seed: this one does not rise"
    assert observed == pytest.approx([theirs[level] for level in sorted(theirs)])
    cells = np.array([bin_["cells"] for bin_ in curve])
    off = np.abs(np.array(observed) - [bin_["forecast"] for bin_ in curve])
    error = scored(sequence).classes["vehicle"].scores["calibration_error"]
    assert error == pytest.approx((cells * off).sum() / cells.sum())
