"""Scores of forecasts: sums over sequences, the scores made of them and their intervals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Sum, Truth, count
from forecast.grid import BEVGrid

DRAWS = 1000
SEED = 0
CONFIDENCE = 0.95
LEAST_RANGE = 0.05  # between reference and oracle: a smaller one makes skill mere noise

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; None where there is nothing to score, never a zero in its place.

    Of a class whose truth has cells but no instance ids, only ``iou`` is known.

    Attributes:
        iou: Of the class's cells, over all leads.
        iou_by_lead: The same, lead by lead.
        vpq: Video panoptic quality as FIERY counts it, over all leads.
        vpq_by_lead: The same, lead by lead; switches look back to the leads before.
        vpq_moving: VPQ of the agents that move.
        vpq_moving_by_lead: The same, lead by lead.
        sq: Mean IoU of the true positives of VPQ.
        rq: Share of segments recognised; VPQ = SQ x RQ.
        ade: Mean distance of forecast from true centres, agents there at present, metres.
        fde: The same at the last lead.
        ade_moving: ADE of the agents that move.
        fde_moving: FDE of the agents that move.
        counts: How many cells, segments, agents (per lead; how many of them have no cell at
            present) and forecasts of them were scored.
        interval: 95 % bootstrap interval over scenes of each single number; None with one scene.
    """

    iou: float | None
    iou_by_lead: list[float | None]
    vpq: float | None
    vpq_by_lead: list[float | None]
    vpq_moving: float | None
    vpq_moving_by_lead: list[float | None]
    sq: float | None
    rq: float | None
    ade: float | None
    fde: float | None
    ade_moving: float | None
    fde_moving: float | None
    counts: dict[str, int]
    interval: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What scores were computed from.

    ``protocol`` is that of the truth, ``forecast_protocol`` that of the store which was rolled out.
    ``input`` is what the forecaster read: "tracked", or "detected" where ids and boxes were hidden.
    """

    sequences: int
    scenes: int
    horizon: int
    protocol: Mapping[str, Any] = field(default_factory=dict)
    forecast_protocol: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    input: str = ""
    data: str = ""
    dt_s: float | None = None
    forecast_horizon: int | None = None
    data_sequences: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; an undefined score is null."""
        protocols = {"protocol": self.protocol, "forecast_protocol": self.forecast_protocol}
        return asdict(self) | {name: dict(rules) for name, rules in protocols.items()}


@dataclass(frozen=True, kw_only=True)
class Scores(Scope):
    """What `forecast evaluate` prints: scores per class and what they were computed from."""

    classes: dict[str, ClassScores]

    @property
    def lack_ids(self) -> bool:
        """Whether the truth has cells but no ids: of all scores only IoU is known."""
        counts = [one.counts for one in self.classes.values()]
        return any(one["cells"] for one in counts) and not any(one["segments"] for one in counts)


class SceneSums(ABC):
    """Adds up tables of sums ``(class, lead, column)`` by scene, one sequence at a time.

    Args:
        classes: Names; class k of the rasters is ``classes[k - 1]``.
        horizon: Leads that are scored.
        grid: Of truth and forecast.
    """

    columns: ClassVar[int]
    """Sums of each class and lead."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Variables of a forecast store that are read beside masks and poses, where they are there."""
    headlines: ClassVar[tuple[str, ...]]
    """The scores that a sentence is about; a table has all."""

    def __init__(self, classes: Sequence[str], horizon: int, grid: BEVGrid) -> None:
        self.classes = tuple(classes)
        self.horizon = horizon
        self.grid = grid
        self.sequences = 0
        self._scenes: defaultdict[str, NDArray[np.float64]] = defaultdict(
            lambda: np.zeros((len(self.classes), self.horizon, self.columns))
        )

    @abstractmethod
    def add(self, truth: Truth, forecast: Forecast) -> None:
        """Counts one sequence: ``horizon`` leads of truth and at least as many of forecast."""

    @staticmethod
    @abstractmethod
    def values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The single numbers of one class, NaN where undefined.

        Args:
            sums: ``(..., leads, columns)``.

        Returns:
            Name -> ``(...)``.
        """

    @abstractmethod
    def scores(self, **provenance: Any) -> Scope:
        """The scores so far; ``provenance`` fills in protocol, model, data and so on."""

    def comparable(self, other: SceneSums, label: str, score: str) -> bool:
        """Whether the difference of a score of two forecasts says which of them is better."""
        return True

    def add_table(self, scene: str, table: NDArray[np.float64]) -> None:
        """Adds the sums of one sequence."""
        self._scenes[scene] += table
        self.sequences += 1

    def counted(self) -> dict[str, Any]:
        """What was counted so far, as plain JSON values; :meth:`merge` adds it to another."""
        scenes = {name: sums.tolist() for name, sums in self._scenes.items()}
        return {"sequences": self.sequences, "scenes": scenes}

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Adds what another one of the same classes, horizon and grid counted."""
        for name, sums in counted["scenes"].items():
            self._scenes[name] += np.array(sums)
        self.sequences += counted["sequences"]

    def sums(self) -> NDArray[np.float64]:
        """Sums per scene in the order of their names: ``(scenes, classes, leads, columns)``."""
        if not self._scenes:
            return np.zeros((0, len(self.classes), self.horizon, self.columns))
        return np.stack([self._scenes[name] for name in sorted(self._scenes)])


class Accumulator(SceneSums):
    """Counts cells, segments and displacements, and scores them at any moment."""

    columns = len(Sum)
    headlines = ("vpq_moving", "iou", "vpq", "ade_moving")

    def add(self, truth: Truth, forecast: Forecast) -> None:
        """Counts one sequence; see :func:`forecast.evaluation.counts.count`."""
        self.add_table(truth.scene, count(truth, forecast, len(self.classes), self.grid))

    @staticmethod
    def values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """See :func:`values`."""
        return values(sums)

    def scores(self, **provenance: Any) -> Scores:
        """The scores so far; ``provenance`` fills in protocol, model, data and so on."""
        sums = self.sums()
        draws = resample(sums) if len(sums) > 1 else None
        classes = {
            name: _class_scores(sums[:, k].sum(axis=0), None if draws is None else draws[:, k])
            for k, name in enumerate(self.classes)
        }
        return Scores(
            classes=classes,
            sequences=self.sequences,
            scenes=len(sums),
            horizon=self.horizon,
            **provenance,
        )


def resample(sums: NDArray[np.float64], draws: int = DRAWS) -> NDArray[np.float64]:
    """Bootstrap over scenes: totals of as many scenes, drawn with replacement, many times.

    The seed is fixed, so that two forecasts of the same scenes see the same draws and their
    difference can be judged pair by pair.

    Args:
        sums: ``(scenes, ...)``.
        draws: How many times.

    Returns:
        ``(draws, ...)``.
    """
    scenes = len(sums)
    times = np.random.default_rng(SEED).multinomial(scenes, np.full(scenes, 1 / scenes), draws)
    flat = times.astype(np.float64) @ sums.reshape(scenes, -1)
    return flat.reshape(draws, *sums.shape[1:])


def values(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The single numbers of one class, NaN where undefined.

    Args:
        sums: ``(..., leads, len(Sum))``.

    Returns:
        Name -> ``(...)``.
    """
    total, last = sums.sum(axis=-2), sums[..., -1, :]
    return {
        "iou": iou(total),
        "vpq": vpq(total),
        "vpq_moving": vpq(total, Sum.MOVING_TP),
        "sq": ratio(total[..., Sum.IOU], total[..., Sum.TP]),
        "rq": ratio(total[..., Sum.TP], _segments(total, Sum.TP)),
        "ade": ratio(total[..., Sum.DISTANCE], total[..., Sum.PAIRS]),
        "fde": ratio(last[..., Sum.DISTANCE], last[..., Sum.PAIRS]),
        "ade_moving": ratio(total[..., Sum.MOVING_DISTANCE], total[..., Sum.MOVING_PAIRS]),
        "fde_moving": ratio(last[..., Sum.MOVING_DISTANCE], last[..., Sum.MOVING_PAIRS]),
    }


def iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """TP / (TP + FP + FN) over cells."""
    return ratio(sums[..., Sum.CELL_TP], sums[..., Sum.CELL_TP : Sum.CELL_FN + 1].sum(axis=-1))


def vpq(sums: NDArray[np.float64], first: Sum = Sum.TP) -> NDArray[np.float64]:
    """Sum of IoU / (TP + FP / 2 + FN / 2) over segments; columns from ``first``."""
    return ratio(sums[..., first + Sum.IOU - Sum.TP], _segments(sums, first))


def _segments(sums: NDArray[np.float64], first: Sum) -> NDArray[np.float64]:
    """TP + FP / 2 + FN / 2; 0 (nothing to score) where the truth has cells but no ids."""
    hits, false, missed = (sums[..., first + offset] for offset in range(3))
    cells = sums[..., Sum.CELL_TP] + sums[..., Sum.CELL_FN]
    known = (cells == 0) | (sums[..., Sum.TP] + sums[..., Sum.FN] > 0)
    return np.where(known, hits + false / 2 + missed / 2, 0.0)


def ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the other, NaN where that is 0."""
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def _class_scores(sums: NDArray[np.float64], draws: NDArray[np.float64] | None) -> ClassScores:
    total = sums.sum(axis=0)
    found = {name: defined(value) for name, value in values(sums).items()}
    drawn = {} if draws is None else values(draws)
    counts = {
        "cells": total[Sum.CELL_TP] + total[Sum.CELL_FN],
        "segments": total[Sum.TP] + total[Sum.FN],
        "moving_segments": total[Sum.MOVING_TP] + total[Sum.MOVING_FN],
        "agents": total[Sum.AGENTS],
        "agents_without_cell": total[Sum.AGENTS_WITHOUT_CELL],
        "agents_forecast": total[Sum.PAIRS],
        "moving_agents": total[Sum.MOVING_AGENTS],
        "moving_agents_forecast": total[Sum.MOVING_PAIRS],
    }
    return ClassScores(
        **found,
        iou_by_lead=[defined(value) for value in iou(sums)],
        vpq_by_lead=[defined(value) for value in vpq(sums)],
        vpq_moving_by_lead=[defined(value) for value in vpq(sums, Sum.MOVING_TP)],
        counts={name: int(number) for name, number in counts.items()},
        interval={name: percentile_interval(drawn.get(name)) for name in found},
    )


def scores_by_lead(
    counted: SceneSums, label: str
) -> tuple[dict[str, list[float | None]], dict[str, list[Interval]]]:
    """The scores of one class at each lead, and their 95 % intervals over scenes.

    Returns:
        Two of score -> one for each lead; None where there is nothing to score.
    """
    sums = counted.sums()[:, counted.classes.index(label)]
    total, draws = sums.sum(axis=0), resample(sums) if len(sums) > 1 else None
    found: defaultdict[str, list[float | None]] = defaultdict(list)
    intervals: defaultdict[str, list[Interval]] = defaultdict(list)
    for lead in range(counted.horizon):
        alone = slice(lead, lead + 1)
        drawn = {} if draws is None else counted.values(draws[:, alone])
        for name, value in counted.values(total[alone]).items():
            found[name].append(defined(value))
            intervals[name].append(percentile_interval(drawn.get(name)))
    return dict(found), dict(intervals)


def defined(value: Any) -> float | None:
    """A number, or None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def percentile_interval(draws: NDArray[np.float64] | None) -> Interval:
    """The middle 95 % of draws; None if a draw is undefined, as the rest would be biased."""
    if draws is None or not np.isfinite(draws).all():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def skill(score: float | None, reference: float | None, best: float | None) -> float | None:
    """A score as a share of the range from the reference (constant turn, 0) to the oracle (1).

    None where a score is missing or the range is smaller than :data:`LEAST_RANGE`.
    """
    if score is None or reference is None or best is None or best - reference < LEAST_RANGE:
        return None
    return (score - reference) / (best - reference)


@dataclass(frozen=True)
class Gain:
    """What a score is above a reference's, with its paired 95 % interval over scenes."""

    difference: float
    interval: Interval

    @property
    def below(self) -> bool:
        """Whether the forecast scores less than the reference."""
        return self.difference < 0

    @property
    def sure(self) -> bool:
        """Whether the whole interval is on one side."""
        return self.interval is not None and self.interval[0] * self.interval[1] > 0


def gain(
    model: SceneSums, reference: SceneSums, name: str, leads: slice = slice(None)
) -> dict[str, Gain]:
    """One of :func:`gains`: class -> gain."""
    return {
        label: found[name]
        for label, found in gains(model, reference, leads, (name,)).items()
        if name in found
    }


def gains(
    model: SceneSums,
    reference: SceneSums,
    leads: slice = slice(None),
    names: Sequence[str] | None = None,
) -> dict[str, dict[str, Gain]]:
    """What a model's scores are above a reference's, per class, with their paired intervals.

    Args:
        model: Counted on the same scenes as the reference.
        reference: Such as constant turn.
        leads: Which leads count.
        names: Of the scores, as ``model.values`` has them; None = all.

    Returns:
        Class -> score -> gain; scores that one of the two lacks are left out.
    """
    ours, theirs = (sums.sums()[:, :, leads] for sums in (model, reference))
    result: dict[str, dict[str, Gain]] = {}
    for k, label in enumerate(model.classes):
        mine, other = (model.values(sums[:, k].sum(axis=0)) for sums in (ours, theirs))
        drawn, others = (model.values(resample(sums[:, k])) for sums in (ours, theirs))
        result[label] = {}
        for name in names or mine:
            difference = float(mine[name] - other[name])
            if np.isfinite(difference):
                interval = percentile_interval(drawn[name] - others[name])
                result[label][name] = Gain(difference, interval if len(ours) > 1 else None)
    return result
