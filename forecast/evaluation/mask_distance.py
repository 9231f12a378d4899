"""Generalized energy distance of masks: how far from the truth, less how far from each other.

Two futures are 1 - VPQ apart.

Source: Szekely and Rizzo, Energy statistics, 2013; with 1 - VPQ: Hu et al., FIERY, ICCV 2021, whose
code does not have it. Fair, as the energy score of ``energy.py`` is: only different futures make
pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth, count_segments, track_class
from forecast.evaluation.overlap import Overlap, compact, majority


def mask_distances(
    truth: Truth, forecast: Forecast, classes: int, moving: frozenset[int]
) -> NDArray[np.float64] | None:
    """The distance of one sequence up to each lead: 2 E d(future, truth) - E d(future, future).

    Args:
        truth: L leads.
        forecast: At least L leads. Without futures it is one; with futures that have no masks
            nothing is known.
        classes: Number of classes C.
        moving: Truth ids that move; those of the forecast must be the truth's.

    Returns:
        ``(C + 1, L, 2)``, the last class being all of them together, of all agents and of those
        that move; NaN where neither the truth nor a future shows one. None where masks are missing.
    """
    masks = forecast.realization_instance
    if masks is None:
        if forecast.realization_pose is not None:
            return None
        masks = forecast.instance[None]
    many = len(masks)
    weight = forecast.realization_weight
    weight = np.full(many, 1 / many) if weight is None else weight.astype(np.float64)
    labels = _labels(truth, forecast, int(masks.max(initial=0)), classes)
    futures = [(one[: truth.horizon], labels[one[: truth.horizon]]) for one in masks]
    happened = truth.instance[1:], truth.semantic[1:]
    apart = np.zeros((classes + 1, truth.horizon, 2))
    shown = np.zeros(apart.shape, bool)
    for first, future in enumerate(futures):
        distance, some = _apart(happened, future, classes, moving)
        apart += 2 * weight[first] * distance
        shown |= some
        rest = 1 - np.square(weight).sum()
        for second in range(first + 1, many if rest > 1e-9 else 0):
            distance = _apart(future, futures[second], classes, moving)[0]
            apart -= 2 * weight[first] * weight[second] / rest * distance
    return np.where(shown, apart, np.nan)


def _labels(truth: Truth, forecast: Forecast, largest: int, classes: int) -> NDArray[np.int64]:
    """The class from 1 of each id of a forecast, 0 = not known: by its masks, else its track."""
    labels = np.zeros(largest + 1, np.int64)
    if forecast.pose is not None and truth.track_state is not None:
        tracks = track_class(truth)[:largest]
        labels[1 : len(tracks) + 1] = tracks
    ids, segment = compact(forecast.instance.ravel())
    said = majority(segment, forecast.semantic.ravel(), len(ids), classes)
    known = (ids <= largest) & (said > 0)
    labels[ids[known]] = said[known]
    return labels


def _apart(
    one: tuple[NDArray[Any], NDArray[Any]],
    other: tuple[NDArray[Any], NDArray[Any]],
    classes: int,
    moving: frozenset[int],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """1 - VPQ of two videos up to each lead, 0 where neither shows anything, and where one does."""
    leads = len(one[0])
    sums = np.zeros((classes + 1, leads, 2, 4))
    references: list[dict[int, int]] = [{} for _ in range(classes)]
    for lead in range(leads):
        frame = Overlap.of(one[0][lead], one[1][lead], other[0][lead], other[1][lead], classes)
        for k in range(classes):
            segments = frame.of_class(k + 1)
            sums[k, lead] = count_segments(segments, references[k], moving)
    sums[-1] = sums[:-1].sum(axis=0)
    hits, false, missed, quality = np.moveaxis(sums.cumsum(axis=1), -1, 0)
    shown = hits + (false + missed) / 2
    return np.where(shown > 0, 1 - quality / shown.clip(0.5), 0.0), shown > 0
