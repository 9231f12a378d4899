"""Counts of how good flow is, alone and beside occupancy: sums, as all counts are.

Flow is backward: it says of a cell where what covers it was one lead before. As in Waymo's
occupancy and flow challenge.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.probabilities import pr_auc, soft_iou, threshold_counts, weigh
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
    truth: Truth, forecast: Forecast, classes: int, grid: BEVGrid
) -> NDArray[np.float64]:
    """The sums of one sequence.

    Args:
        truth: L leads.
        forecast: At least L leads, with occupancy.
        classes: Number of classes K.
        grid: Of both.

    Returns:
        ``(K, L, len(Flow))``; NaN where there is no flow, errors likewise without true poses.
    """
    sums = np.zeros((classes, truth.horizon, len(Flow)))
    if forecast.flow is None or forecast.occupancy is None:
        return np.full_like(sums, np.nan)
    carried, quality = np.zeros(sums.shape[:2], bool), np.zeros((*sums.shape[:2], 2))
    moved, error = np.zeros(sums.shape[:2], bool), np.full(sums.shape[:2], np.nan)
    for lead in range(truth.horizon):
        flow = forecast.flow[lead].astype(np.float64).reshape(2, -1)
        for k in range(classes):
            before, now = (frame == k + 1 for frame in truth.semantic[lead : lead + 2])
            carried[k, lead] = before.any() and now.any()
            if carried[k, lead]:
                likely = forecast.occupancy[lead, k].astype(np.float64).ravel()
                quality[k, lead] = _grounded(likely, flow, before, now.ravel(), grid)
        if truth.track_state is not None:
            cells, shift = true_flow(truth, lead, grid)
            label = truth.semantic[lead + 1].ravel()[cells]
            off = np.linalg.norm(flow[:, cells].T - shift, axis=-1)
            number = np.bincount(label, minlength=classes + 1)[1:]
            moved[:, lead] = number > 0
            total = np.bincount(label, off, minlength=classes + 1)[1:]
            error[:, lead] = total / number.clip(1)
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
    cells = np.flatnonzero((instance > 0) & (instance <= len(truth.track_state)))
    state = truth.track_state[instance[cells].astype(np.int64) - 1, :, :3].astype(np.float64)
    if not len(cells) or state.shape[-1] < 3:
        return cells[:0], np.zeros((0, 2))
    before, now = state[:, lead], state[:, lead + 1]
    row, column = np.divmod(cells, grid.width)
    place = np.stack([grid.x_m[column], grid.y_m[row]], axis=-1)
    x, y = (place - now[:, :2]).T
    turn = before[:, 2] - now[:, 2]
    cos, sin = np.cos(turn), np.sin(turn)
    shift = before[:, :2] + np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) - place
    moved = (np.abs(shift) >= grid.resolution_m / 2).any(axis=-1) & np.isfinite(shift).all(axis=-1)
    return cells[moved], shift[moved]


def _grounded(
    likely: NDArray[np.float64],
    flow: NDArray[np.float64],
    before: NDArray[np.bool_],
    now: NDArray[np.bool_],
    grid: BEVGrid,
) -> tuple[float, float]:
    """AUC and soft IoU of what the flow brings here of the true cells before, times occupancy."""
    some = np.flatnonzero(likely)
    row, column = np.divmod(some, grid.width)
    x, y = column + flow[0, some] / grid.resolution_m, row + flow[1, some] / grid.resolution_m
    grounded = likely[some] * sample(before, x, y)
    hit, occupied = now[some], int(np.count_nonzero(now))
    cells = threshold_counts(grounded.astype(np.float32), hit, len(now), occupied)
    return float(pr_auc(cells)), soft_iou(grounded, hit, occupied)


def sample(
    raster: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A raster between its cells, bilinear, and 0 outside.

    Args:
        raster: ``(y, x)``.
        x: ``(n,)`` columns; whole numbers are centres.
        y: ``(n,)`` rows.
    """
    padded = np.pad(raster, 1).astype(np.float64)
    height, width = padded.shape
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
