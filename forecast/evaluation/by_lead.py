"""Scores lead by lead: quality, which agents are still drawn, and the gain over other forecasts.

A model that reads its own forecasts may begin well and fall below constant velocity at later leads,
which scores over all leads hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.against import RollOut, is_baseline, reference_shown
from forecast.evaluation.counts import FOUND_IOU, Forecast, Truth
from forecast.evaluation.overlap import Overlap, iou_by_id
from forecast.evaluation.scores import Accumulator, Gain, Scores, gain
from forecast.evaluation.scoring import (
    open_pair,
    provenance,
    read_forecasts,
    read_truths,
)
from forecast.parallel import Progress
from forecast.storage.identity import unchanged

GAINS = ("iou", "vpq", "vpq_moving")
"""The scores in which a forecast is compared with others."""


class Fate(IntEnum):
    """Columns of a table of sums ``(class, lead, Fate)`` over the agents visible at present."""

    VISIBLE = 0
    SQUARES = 1  # squared error of their forecast existence
    THERE = 2  # those with cells in the truth of the lead; the next two are subsets
    DRAWN = 3
    MATCHED = 4


@dataclass(frozen=True)
class Point:
    """One class at one lead; None where there is nothing to score.

    Attributes:
        lead: Steps after the present.
        iou: Of the class's cells.
        vpq: Of this lead alone; switches look back to the leads before.
        vpq_moving: The same of the agents that move.
        agents: True ids visible at present that have cells at this lead.
        drawn: Share of them that the forecast draws at all, under the same id.
        matched: Share of them whose masks overlap by an IoU above one half.
        brier: Mean squared error of the forecast existence of the ids visible at present, against
            whether they have cells at this lead.
        gains: Reference -> score -> what it is above the reference's.
    """

    lead: int
    iou: float | None
    vpq: float | None
    vpq_moving: float | None
    agents: int
    drawn: float | None
    matched: float | None
    brier: float | None
    gains: dict[str, dict[str, Gain]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoresByLead:
    """The curve of each class over the leads.

    Attributes:
        scores: Over all leads, with what they were computed from.
        curves: Class -> a point for each lead.
        references: What the forecast was compared with, by path or baseline's name -> its model.
    """

    scores: Scores
    curves: dict[str, list[Point]]
    references: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as of `forecast evaluate` but with the curves in place of scores."""
        curves = {name: [asdict(point) for point in curve] for name, curve in self.curves.items()}
        return self.scores.to_json() | {"references": self.references, "classes": curves}


def score_by_lead(
    forecast_path: str,
    data_path: str,
    against: Sequence[str] = (),
    progress: Progress | None = None,
    roll_out: RollOut | None = None,
) -> ScoresByLead:
    """Scores a forecast store lead by lead, and what it gains over other forecasts of the same.

    Leads and sequences that one of the stores lacks are left out.

    Args:
        forecast_path: Local path or fsspec URL. Detected input has ids of its own,
            so that existence, drawn and matched agents cannot be scored.
        data_path: The sequence store that holds what happened.
        against: Forecast stores to compare with, such as the model's own with teacher forcing, or
            baselines by name.
        progress: Told (sequences done, sequences in all) after each.
        roll_out: Rolls baselines out; without it there are only stores.

    Raises:
        DataError: A store cannot be read, they do not describe the same sequences, or the truth
            holds no future.
    """
    rolled = [name for name in against if roll_out is not None and is_baseline(name)]
    paths = [path for path in against if path not in rolled]
    with unchanged(forecast_path, data_path, *paths):
        own, data, meta = open_pair(forecast_path, data_path)
        others = {path: open_pair(path, data_path)[0] for path in paths}
        stores = {**others, forecast_path: own}
        horizon = min(meta.horizon, *(store.sizes["lead"] for store in stores.values()))
        sequences = range(min(store.sizes["sequence"] for store in stores.values()))
        truths = read_truths(data_path, data, meta, sequences, horizon)
        guesses = {
            path: read_forecasts(path, store, meta, sequences, horizon)
            for path, store in stores.items()
        }
        if roll_out is not None:
            guesses |= {name: roll_out(name, data_path, sequences, horizon) for name in rolled}
        accumulators = {path: Accumulator(meta.classes, horizon, meta.grid) for path in guesses}
        fates = np.zeros((len(meta.classes), horizon, len(Fate)))
        for index in sequences:
            truth = next(truths)
            for path, accumulator in accumulators.items():
                guess = next(guesses[path])
                accumulator.add(truth, guess)
                if path == forecast_path:
                    fates += count_fates(truth, guess, len(meta.classes))
            if progress is not None:
                progress(index + 1, len(sequences))
    mine = accumulators[forecast_path]
    scores = mine.scores(**provenance(own, data, meta, data_path))
    gains = {path: _gains(mine, accumulators[path]) for path in against}
    attrs = {path: store.attrs for path, store in others.items()}
    return ScoresByLead(
        scores,
        {name: _curve(scores, k, fates[k], gains) for k, name in enumerate(meta.classes)},
        {name: reference_shown(name, attrs.get(name), scores.input) for name in against},
    )


def count_fates(truth: Truth, forecast: Forecast, classes: int) -> NDArray[np.float64]:
    """What became of the agents visible at present, in truth and in the forecast.

    Args:
        truth: One sequence of L leads.
        forecast: At least L leads; an id that it lacks has existence 0.
        classes: Number of classes K.

    Returns:
        ``(K, L, len(Fate))``; where the forecast has ids of its own, NaN in all columns that
        compare ids.
    """
    sums = np.zeros((classes, truth.horizon, len(Fate)))
    present = truth.instance[0], truth.semantic[0]
    visible = Overlap.of(*present, *present, classes)
    ids, tracks = visible.true_ids, int(visible.true_ids.max(initial=0))
    known = forecast.existence is not None
    existence = _existence(forecast, truth.horizon, tracks)
    for lead in range(truth.horizon):
        true, guess = truth.instance[lead + 1], forecast.instance[lead]
        there, drawn = np.isin(ids, true), np.isin(ids, guess)
        matched = iou_by_id(true, guess, tracks)[ids - 1] > FOUND_IOU
        squares = (existence[lead, ids - 1] - there) ** 2
        columns = np.ones(len(ids)), squares, there, there & drawn, matched
        table = np.stack(columns, axis=-1)
        table[:, [Fate.SQUARES, Fate.DRAWN, Fate.MATCHED]] *= 1 if known else np.nan
        for k in range(classes):
            sums[k, lead] = table[visible.true_label == k + 1].sum(axis=0)
    return sums


def _existence(forecast: Forecast, horizon: int, tracks: int) -> NDArray[np.float64]:
    """Existence ``(L, N)`` of at least ``tracks`` tracks; 0 where the forecast has none."""
    given = np.zeros((horizon, 0)) if forecast.existence is None else forecast.existence[:horizon]
    missing = max(tracks - given.shape[1], 0)
    return np.pad(np.nan_to_num(given), ((0, 0), (0, missing)))


def _gains(own: Accumulator, reference: Accumulator) -> list[dict[str, dict[str, Gain]]]:
    """Lead -> score -> class -> gain."""
    leads = [slice(lead, lead + 1) for lead in range(own.horizon)]
    return [{score: gain(own, reference, score, lead) for score in GAINS} for lead in leads]


def _curve(
    scores: Scores,
    k: int,
    fates: NDArray[np.float64],
    gains: Mapping[str, list[dict[str, dict[str, Gain]]]],
) -> list[Point]:
    """The points of the k-th class."""
    name, own = list(scores.classes.items())[k]
    return [
        Point(
            lead=lead + 1,
            iou=own.iou_by_lead[lead],
            vpq=own.vpq_by_lead[lead],
            vpq_moving=own.vpq_moving_by_lead[lead],
            agents=int(fate[Fate.THERE]),
            drawn=_share(fate[Fate.DRAWN], fate[Fate.THERE]),
            matched=_share(fate[Fate.MATCHED], fate[Fate.THERE]),
            brier=_share(fate[Fate.SQUARES], fate[Fate.VISIBLE]),
            gains={
                path: {score: found[name] for score, found in leads[lead].items() if name in found}
                for path, leads in gains.items()
            },
        )
        for lead, fate in enumerate(fates)
    ]


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 and np.isfinite(part) else None
