"""Counts of how good occupancy is as a probability, per class and lead: sums, as all counts are."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.counts import Truth

THRESHOLDS = 100
"""Of the precision-recall curve: 0, 1/99, ..., 1; a cell is forecast if it exceeds one."""
BINS = 20
"""Of the reliability curve: probabilities above 0 to 0.05, above 0.05 to 0.1, ..."""
LEAST = 1e-3
"""The log loss takes no outcome for less likely: one that was ruled out would cost all."""


class Chance(IntEnum):
    """The columns of a table of sums ``(class, lead, Chance)`` before those of the bins."""

    CELLS = 0
    OCCUPIED = 1
    SQUARES = 2
    LOG_LOSS = 3
    SEQUENCES = 4  # with a cell of the class at this lead; the next two are over these
    AUC = 5
    SOFT_IOU = 6
    SHARE = 7  # of a sequence that each of its leads with a cell is; the next two are weighed so
    AUC_SHARE = 8
    SOFT_IOU_SHARE = 9


COLUMNS = len(Chance) + 3 * BINS


def bins_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bins of the reliability curve: ``(..., COLUMNS)`` to ``(..., 3, BINS)``.

    The three are cells with a probability above 0, how many of them are occupied, and the sum of
    their probabilities.
    """
    return sums[..., len(Chance) : COLUMNS].reshape(*sums.shape[:-1], 3, BINS)


def count_probabilities(
    truth: Truth, occupancy: NDArray[Any], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of one sequence.

    Args:
        truth: L leads.
        occupancy: ``(>= L, K, y, x)`` probabilities; leads beyond are left out.
        classes: Number of classes K.

    Returns:
        ``(K, L, COLUMNS)``, and ``(K, L, 2, THRESHOLDS - 1)``: how many empty and how many occupied
        cells have a probability between one threshold and the next.

    Raises:
        DataError: A probability is not between 0 and 1.
    """
    sums = np.zeros((classes, truth.horizon, COLUMNS))
    cells = np.zeros((classes, truth.horizon, 2, THRESHOLDS - 1))
    for lead in range(truth.horizon):
        for k in range(classes):
            some, likely = likely_cells(occupancy[lead, k])
            wrong = ~((likely >= 0) & (likely <= 1))
            if wrong.any():
                raise DataError(
                    "an occupancy from 0 to 1",
                    f"{likely[wrong][0]:g} in scene {truth.scene}",
                    "make the forecast anew with `forecast rollout`",
                )
            occupied = (truth.semantic[lead + 1] == k + 1).ravel()
            sums[k, lead], cells[k, lead] = _count_map(some, likely, occupied)
    there = sums[..., Chance.OCCUPIED] > 0
    quality = np.stack([pr_auc(cells), sums[..., Chance.SOFT_IOU]], axis=-1)
    weigh(sums[..., Chance.SEQUENCES : len(Chance)], there, quality)
    return sums, cells


def weigh(
    sums: NDArray[np.float64], there: NDArray[np.bool_], quality: NDArray[np.float64]
) -> None:
    """Writes columns of which means over leads, then over sequences, are made.

    Args:
        sums: ``(K, L, 2 + 2 * Q)``: whether there is something to score; each of Q qualities; the
            share of the sequence's leads with something to score that this one is; the qualities
            times that.
        there: ``(K, L)``.
        quality: ``(K, L, Q)``; those of other leads than ``there`` do not count.
    """
    many = quality.shape[-1]
    quality = np.where(there[..., None], quality, 0.0)
    share = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
    sums[..., 0], sums[..., 1 : 1 + many] = there, quality
    sums[..., 1 + many], sums[..., 2 + many :] = share, share[..., None] * quality


def weighed_mean(sums: NDArray[np.float64], which: int = 0) -> NDArray[np.float64]:
    """The mean of one of the qualities of :func:`weigh`.

    Args:
        sums: ``(..., leads, 2 + 2 * Q)``, summed over sequences.
        which: From 0.
    """
    total, many = sums.sum(axis=-2), sums.shape[-1] // 2 - 1
    # Of one lead alone each sequence counts the same, however many leads of it have cells.
    first = 0 if sums.shape[-2] == 1 else 1 + many
    return _divide(total[..., first + 1 + which], total[..., first], np.nan)


def likely_cells(
    probability: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The cells of a map that have a probability at all, as indices into it, and theirs."""
    flat = probability.ravel()
    # Of all cells only bits are compared, but for the sign: half precision is slow to read.
    some = np.flatnonzero(flat.view(f"u{flat.itemsize}") << 1 != 0)
    return some, flat[some].astype(np.float32)


def _count_map(
    some: NDArray[np.int64], likely: NDArray[np.float32], occupied: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One class at one lead; most cells have probability 0 and are counted all at once."""
    hit = occupied[some]
    total = int(np.count_nonzero(occupied))
    missed = total - np.count_nonzero(hit)
    outcome = np.where(hit, likely.astype(np.float64), 1 - likely.astype(np.float64))
    sums = np.zeros(COLUMNS)
    sums[Chance.CELLS], sums[Chance.OCCUPIED] = len(occupied), total
    sums[Chance.SQUARES] = np.square(1 - outcome).sum() + missed
    sums[Chance.LOG_LOSS] = -np.log(np.maximum(outcome, LEAST)).sum() - missed * np.log(LEAST)
    sums[Chance.SOFT_IOU] = soft_iou(likely, hit, total)
    bin_, columns = _bin(likely, BINS), bins_of(sums)
    columns[:] = [np.bincount(bin_, weights, BINS) for weights in (None, hit, likely)]
    return sums, threshold_counts(likely, hit, len(occupied), total)


def soft_iou(likely: NDArray[Any], hit: NDArray[np.bool_], occupied: int) -> float:
    """Of a map with some likely cells, of which some are hit, as is every occupied one."""
    both = likely[hit].sum(dtype=np.float64)
    return float(both / max(likely.sum(dtype=np.float64) + occupied - both, 1e-12))


def threshold_counts(
    likely: NDArray[np.float32], hit: NDArray[np.bool_], cells: int, occupied: int
) -> NDArray[np.float64]:
    """How many empty and how many occupied cells lie between one threshold and the next.

    Args:
        likely: ``(n,)`` probabilities of some cells; all other cells have 0.
        hit: ``(n,)`` which of them are occupied.
        cells: Of the map.
        occupied: Of the map, in truth.

    Returns:
        ``(2, THRESHOLDS - 1)``.
    """
    # As Keras does it, and in its precision: the first bin holds the zeros too.
    step = _bin(likely, THRESHOLDS - 1)
    counts = np.bincount(2 * step + hit, minlength=2 * (THRESHOLDS - 1))
    steps: NDArray[np.float64] = counts.reshape(-1, 2).T.astype(np.float64)
    missed = occupied - np.count_nonzero(hit)
    steps[:, 0] += cells - len(likely) - missed, missed
    return steps


def _bin(probability: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """The bin of each probability: number b is above b / bins, up to (b + 1) / bins."""
    above: NDArray[np.int64] = np.ceil(probability * np.float32(bins)).astype(np.int64) - 1
    return above.clip(0)


def pr_auc(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the precision-recall curve.

    Args:
        cells: ``(..., 2, THRESHOLDS - 1)``, see :func:`count_probabilities`.

    Returns:
        ``(...)``; 0 where no cell is occupied.

    Source:
        ``tf.keras.metrics.AUC(curve="PR", summation_method="interpolation")``, which Waymo's
        occupancy and flow challenge takes with 100 thresholds; Davis and Goadrich, The Relationship
        Between Precision-Recall and ROC Curves, ICML 2006.
    """
    false, true = np.moveaxis(_above(cells), -2, 0)
    forecast = false + true
    gained, more = true[..., :-1] - true[..., 1:], forecast[..., :-1] - forecast[..., 1:]
    slope = _divide(gained, more)
    base = true[..., 1:] - slope * forecast[..., 1:]
    known = (forecast[..., :-1] > 0) & (forecast[..., 1:] > 0)
    ratio = np.divide(forecast[..., :-1], forecast[..., 1:], out=np.ones_like(slope), where=known)
    area = (slope * (gained + base * np.log(ratio))).sum(axis=-1)
    return _divide(area, true[..., 0])


def precision_recall(
    cells: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each threshold.

    Args:
        cells: ``(2, THRESHOLDS - 1)``, see :func:`count_probabilities`.

    Returns:
        Two of ``(THRESHOLDS,)``; NaN where no cell is forecast, or none occupied.
    """
    false, true = _above(cells)
    precision = _divide(true, false + true, np.nan)
    return precision, _divide(true, np.full_like(true, true[0]), np.nan)


def _above(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many cells exceed each threshold; none exceeds the last."""
    above = np.flip(np.cumsum(np.flip(cells, -1), axis=-1), -1)
    return np.concatenate([above, np.zeros_like(above[..., :1])], axis=-1)


def _divide(
    over: NDArray[np.float64], under: NDArray[np.float64], empty: float = 0.0
) -> NDArray[np.float64]:
    return np.divide(over, under, out=np.full_like(over, empty), where=under > 0)
