"""Counts of how good flow is, alone and beside occupancy: sums, as all counts are.

Flow is backward: it says of a cell where what covers it was one lead before. As in Waymo's
occupancy and flow challenge.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.counts import Truth
from forecast.evaluation.probabilities import (
    THRESHOLDS,
    likely_cells,
    pr_auc,
    soft_iou,
    threshold_counts,
    weigh,
)
from forecast.grid import BEVGrid


class Flow(IntEnum):
    """The columns of a table of sums ``(class, lead, Flow)``.

    As those of :class:`forecast.evaluation.probabilities.Chance`: what is averaged over sequences,
    then the same weighed by the share of a sequence that each of its leads is.
    """

    CARRIED = 0  # sequences with a cell of the class at this lead and the one before
    AUC = 1
    SOFT_IOU = 2
    CARRIED_SHARE = 3
    AUC_SHARE = 4
    SOFT_IOU_SHARE = 5
    MOVED = 6  # sequences with a cell of the class that moved
    ERROR = 7
    MOVED_SHARE = 8
    ERROR_SHARE = 9


def count_flow(
    truth: Truth, occupancy: NDArray[Any], guess: NDArray[Any] | None, grid: BEVGrid
) -> NDArray[np.float64]:
    """The sums of one sequence.

    Args:
        truth: L leads.
        occupancy: ``(L, K, y, x)`` forecast probability of each class.
        guess: ``(>= L, 2, y, x)`` forecast flow, metres per step; None = none.
        grid: Of all.

    Returns:
        ``(K, L, len(Flow))``; NaN where there is no flow, errors likewise without true poses.

    Raises:
        DataError: The flow is not finite.
    """
    classes = occupancy.shape[1]
    sums = np.zeros((classes, truth.horizon, len(Flow)))
    if guess is None:
        return np.full_like(sums, np.nan)
    if not np.isfinite(guess[: truth.horizon]).all():
        raise DataError(
            "a flow of finite numbers",
            f"NaN or infinity in scene {truth.scene}",
            "make the forecast anew with `forecast rollout`, or leave its flow out",
        )
    carried, soft = np.zeros(sums.shape[:2], bool), np.zeros(sums.shape[:2])
    cells = np.zeros((*sums.shape[:2], 2, THRESHOLDS - 1))
    moved, error = np.zeros(sums.shape[:2], bool), np.full(sums.shape[:2], np.nan)
    for lead in range(truth.horizon):
        flow = guess[lead].reshape(2, -1)
        for k in range(classes):
            before, now = (frame == k + 1 for frame in truth.semantic[lead : lead + 2])
            carried[k, lead] = before.any() and now.any()
            if carried[k, lead]:
                found = _grounded(occupancy[lead, k], flow, before, now.ravel(), grid)
                soft[k, lead], cells[k, lead] = found
        if truth.track_state is not None:
            places, shift = true_flow(truth, lead, grid)
            label = truth.semantic[lead + 1].ravel()[places]
            off = np.linalg.norm(flow[:, places].T - shift, axis=-1)
            number = np.bincount(label, minlength=classes + 1)[1:]
            moved[:, lead] = number > 0
            total = np.bincount(label, off, minlength=classes + 1)[1:]
            error[:, lead] = total / number.clip(1)
    quality = np.stack([pr_auc(cells), soft], axis=-1)
    weigh(sums[..., Flow.CARRIED : Flow.MOVED], carried, quality)
    weigh(sums[..., Flow.MOVED :], moved, error[..., None])
    if truth.track_state is None:
        sums[..., Flow.MOVED :] = np.nan
    return sums


def true_flow(
    truth: Truth, lead: int, grid: BEVGrid
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where what covers a cell at a lead was one lead before: it moves with its agent.

    Waymo's flow is the mean over an agent's points of differences between positions that were
    rounded to cells, so that cells which stay within themselves have none; those are left out here
    too, all others have the exact one.

    Args:
        truth: With ``track_state``.
        lead: From 0.
        grid: Of the truth.

    Returns:
        The cells of agents that were there before and moved, as indices into the flat raster, and
        their shift ``(n, 2)`` in metres.
    """
    assert truth.track_state is not None
    instance = truth.instance[lead + 1].ravel()
    cells = np.flatnonzero(instance != 0)
    track = instance[cells].astype(np.int64) - 1
    known = track < len(truth.track_state)
    cells, track = cells[known], track[known]
    if not len(cells) or truth.track_state.shape[-1] < 3:
        return cells[:0], np.zeros((0, 2))
    before, now = (truth.track_state[:, lead + k, :3].astype(np.float64) for k in (0, 1))
    turn = before[:, 2] - now[:, 2]
    cos, sin = np.cos(turn)[track], np.sin(turn)[track]
    row, column = np.divmod(cells, grid.width)
    place = np.stack([grid.x_m[column], grid.y_m[row]])
    x, y = place - now.T[:2, track]
    there = before.T[:2, track] + np.stack([cos * x - sin * y, sin * x + cos * y])
    shift = (there - place).T
    moved = (np.abs(shift) >= grid.resolution_m / 2).any(axis=-1) & np.isfinite(shift).all(axis=-1)
    return cells[moved], shift[moved]


def _grounded(
    probability: NDArray[Any],
    flow: NDArray[Any],
    before: NDArray[np.bool_],
    now: NDArray[np.bool_],
    grid: BEVGrid,
) -> tuple[float, NDArray[np.float64]]:
    """What the flow brings here of the true cells before, times occupancy: soft IoU and counts."""
    some, likely = likely_cells(probability)
    row, column = np.divmod(some, grid.width)
    shift = flow[:, some].astype(np.float64) / grid.resolution_m
    x, y = column + shift[0], row + shift[1]
    grounded = likely * sample(before, x, y)
    hit, occupied = now[some], int(np.count_nonzero(now))
    cells = threshold_counts(grounded.astype(np.float32), hit, len(now), occupied)
    return soft_iou(grounded, hit, occupied), cells


def sample(
    raster: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A raster between its cells, bilinear, and 0 outside.

    Args:
        raster: ``(y, x)``.
        x: ``(n,)`` columns; whole numbers are centres.
        y: ``(n,)`` rows.
    """
    height, width = (side + 2 for side in raster.shape)
    padded = np.zeros((height, width), bool)
    padded[1:-1, 1:-1] = raster
    # Farther outside than the padding is outside all the same.
    x, y = np.clip(x + 1, 0, width - 1), np.clip(y + 1, 0, height - 1)
    left, low = (
        np.minimum(x.astype(np.int64), width - 2),
        np.minimum(y.astype(np.int64), height - 2),
    )
    right, up = x - left, y - low
    below = padded[low, left] * (1 - right) + padded[low, left + 1] * right
    above = padded[low + 1, left] * (1 - right) + padded[low + 1, left + 1] * right
    mixed: NDArray[np.float64] = below * (1 - up) + above * up
    return mixed
