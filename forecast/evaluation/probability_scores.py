"""Scores of occupancy as a probability: made of sums, with intervals over scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.flow import Flow, count_flow
from forecast.evaluation.probabilities import (
    BINS,
    COLUMNS,
    THRESHOLDS,
    Chance,
    bins_of,
    count_probabilities,
    pr_auc,
    precision_recall,
    weighed_mean,
)
from forecast.evaluation.scores import (
    Interval,
    SceneSums,
    Scope,
    defined,
    percentile_interval,
    ratio,
    resample,
    scores_by_lead,
)
from forecast.grid import BEVGrid


@dataclass(frozen=True)
class ClassProbabilities:
    """Scores of one class's occupancy; None where there is nothing to score.

    Attributes:
        scores: Over all leads; see :meth:`ProbabilityAccumulator.values`.
        interval: 95 % bootstrap interval over scenes of each; None with one scene.
        by_lead: Score -> its value at each lead.
        interval_by_lead: Score -> its interval at each lead.
        reliability: Of each bin of probabilities (``above`` and ``up_to``) its number of ``cells``,
            their mean ``forecast`` and the share of them that is ``observed`` to be occupied. Cells
            of probability 0 are left out.
        precision_recall: ``threshold``, ``precision`` and ``recall`` of all cells and leads pooled,
            and the ``auc`` of that curve.
        counts: ``cells`` scored, and how many of them were ``occupied``.
    """

    scores: dict[str, float | None]
    interval: dict[str, Interval]
    by_lead: dict[str, list[float | None]]
    interval_by_lead: dict[str, list[Interval]]
    reliability: list[dict[str, float]]
    precision_recall: dict[str, Any]
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ProbabilityScores(Scope):
    """How good the occupancy of each class is as a probability."""

    classes: dict[str, ClassProbabilities]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the scores stand beside their intervals, as IoU does in ``Scores``."""
        flat = {name: one | one.pop("scores") for name, one in asdict(self)["classes"].items()}
        return super().to_json() | {"classes": flat}


class ProbabilityAccumulator(SceneSums):
    """Counts occupancy against what happened, and scores it at any moment."""

    columns = COLUMNS + len(Flow)
    reads = ("occupancy", "flow")
    headlines = ("auc", "brier_occupied", "log_loss_occupied", "calibration_error")

    def __init__(self, classes: Sequence[str], horizon: int, grid: BEVGrid) -> None:
        super().__init__(classes, horizon, grid)
        # Of all scenes together: a curve for each scene would take several times the memory.
        self.cells = np.zeros((len(self.classes), horizon, 2, THRESHOLDS - 1))

    def add(self, truth: Truth, forecast: Forecast) -> None:
        """Counts one sequence; the forecast must have its occupancy."""
        assert forecast.occupancy is not None
        occupancy = forecast.occupancy[: truth.horizon]
        table, cells = count_probabilities(truth, occupancy, len(self.classes))
        flow = count_flow(truth, occupancy, forecast.flow, self.grid)
        self.add_table(truth.scene, np.concatenate([table, flow], axis=-1))
        self.cells += cells

    def counted(self) -> dict[str, Any]:
        """What was counted so far, as plain JSON values."""
        return super().counted() | {"cells": self.cells.tolist()}

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Adds what another one counted."""
        super().merge(counted)
        self.cells += np.array(counted["cells"])

    @staticmethod
    def values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The scores of one class, from ``(..., leads, COLUMNS)``.

        ``auc`` and ``soft_iou`` are means over leads, then over sequences, as in Waymo's challenge,
        but a lead or sequence without a true cell is left out instead of scoring 0. ``brier`` is
        the mean squared error; ``brier_skill`` is what it is better than that of each lead's share
        of occupied cells as a constant forecast, ``brier_occupied`` and ``log_loss_occupied`` are
        divided by the number of occupied cells. ``calibration_error`` is the mean distance of
        forecast from observed frequency over the bins, where the forecast is above 0. ``flow_epe``
        is the mean error of the flow where the truth moved, metres per step; ``flow_auc`` and
        ``flow_soft_iou`` are those of the true cells of the lead before, brought here by the flow,
        times the occupancy. All three are means as ``auc`` is.
        """
        total = sums.sum(axis=-2)
        cells, occupied = sums[..., Chance.CELLS], sums[..., Chance.OCCUPIED]
        constant = (occupied * (1 - ratio(occupied, cells))).sum(axis=-1)
        squares = total[..., Chance.SQUARES]
        likely, found, forecast = np.moveaxis(bins_of(total), -2, 0)
        chances = sums[..., Chance.SEQUENCES : len(Chance)]
        carried, moved = (
            sums[..., COLUMNS + first : COLUMNS + end]
            for first, end in ((Flow.CARRIED, Flow.MOVED), (Flow.MOVED, len(Flow)))
        )
        return {
            "auc": weighed_mean(chances),
            "soft_iou": weighed_mean(chances, 1),
            "brier": ratio(squares, total[..., Chance.CELLS]),
            "brier_occupied": ratio(squares, total[..., Chance.OCCUPIED]),
            "brier_skill": 1 - ratio(squares, constant),
            "log_loss_occupied": ratio(total[..., Chance.LOG_LOSS], total[..., Chance.OCCUPIED]),
            "calibration_error": ratio(np.abs(forecast - found).sum(axis=-1), likely.sum(axis=-1)),
            "flow_epe": weighed_mean(moved),
            "flow_auc": weighed_mean(carried),
            "flow_soft_iou": weighed_mean(carried, 1),
        }

    def scores(self, **provenance: Any) -> ProbabilityScores:
        """The scores so far; ``provenance`` fills in protocol, model, data and so on."""
        classes = {name: _class_scores(self, name) for name in self.classes}
        return ProbabilityScores(
            classes=classes,
            sequences=self.sequences,
            scenes=len(self.sums()),
            horizon=self.horizon,
            **provenance,
        )


def _class_scores(counted: ProbabilityAccumulator, label: str) -> ClassProbabilities:
    k = counted.classes.index(label)
    sums, cells = counted.sums()[:, k], counted.cells[k]
    total, by_lead = sums.sum(axis=0), scores_by_lead(counted, label)
    drawn = counted.values(resample(sums)) if len(sums) > 1 else {}
    scores = {name: defined(value) for name, value in counted.values(total).items()}
    return ClassProbabilities(
        scores=scores,
        interval={name: percentile_interval(drawn.get(name)) for name in scores},
        by_lead=by_lead[0],
        interval_by_lead=by_lead[1],
        reliability=_reliability(bins_of(total.sum(axis=0))),
        precision_recall=_curve(cells.sum(axis=0)),
        counts={
            "cells": int(total[:, Chance.CELLS].sum()),
            "occupied": int(total[:, Chance.OCCUPIED].sum()),
        },
    )


def _reliability(bins: NDArray[np.float64]) -> list[dict[str, float]]:
    return [
        {
            "above": number / BINS,
            "up_to": (number + 1) / BINS,
            "cells": int(cells),
            "forecast": float(forecast / cells),
            "observed": float(occupied / cells),
        }
        for number, (cells, occupied, forecast) in enumerate(bins.T)
        if cells
    ]


def _curve(cells: NDArray[np.float64]) -> dict[str, Any]:
    precision, recall = precision_recall(cells)
    threshold = np.linspace(0, 1, THRESHOLDS)
    area = pr_auc(cells) if cells[1].any() else np.nan
    return {
        "threshold": threshold.tolist(),
        "precision": [defined(value) for value in precision],
        "recall": [defined(value) for value in recall],
        "auc": defined(area),
    }
