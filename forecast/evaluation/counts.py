"""Counts of one forecast sequence against its truth, per class and lead.

Everything here is sums, so that sequences, scenes and bootstrap draws simply add up;
forecast.evaluation.scores turns sums into scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.overlap import Overlap, compact, majority
from forecast.grid import BEVGrid

MOVING_DISTANCE_M = 2.0
"""A truth id is moving if at some lead it is further than this from its present place."""
FOUND_IOU = 0.5
"""Two segments match if their IoU exceeds this, as in panoptic quality."""


class Sum(IntEnum):
    """The columns of a table of sums ``(class, lead, Sum)``."""

    CELL_TP = 0
    CELL_FP = 1
    CELL_FN = 2
    TP = 3
    FP = 4
    FN = 5
    IOU = 6
    MOVING_TP = 7
    MOVING_FP = 8
    MOVING_FN = 9
    MOVING_IOU = 10
    AGENTS = 11
    PAIRS = 12
    DISTANCE = 13
    MOVING_AGENTS = 14
    MOVING_PAIRS = 15
    MOVING_DISTANCE = 16
    AGENTS_WITHOUT_CELL = 17  # of AGENTS, those that no cell shows at present


CELLS = slice(Sum.CELL_TP, Sum.CELL_FN + 1)
SEGMENTS = slice(Sum.TP, Sum.IOU + 1)
MOVING_SEGMENTS = slice(Sum.MOVING_TP, Sum.MOVING_IOU + 1)
DISPLACEMENT = slice(Sum.AGENTS, Sum.DISTANCE + 1)
MOVING_DISPLACEMENT = slice(Sum.MOVING_AGENTS, Sum.MOVING_DISTANCE + 1)


@dataclass(frozen=True)
class Truth:
    """What happened in one sequence: the present frame and L leads.

    Attributes:
        semantic: ``(1 + L, y, x)`` 0 background, k = class k - 1.
        instance: ``(1 + L, y, x)`` 0 background, else id.
        track_state: ``(N, 1 + L, >= 2)`` x, y, ... in metres per track (= id - 1), or None.
        track_class: ``(N,)`` class of each track from 1, or None.
        scene: Name of the recording, the unit of the bootstrap.
        dt_s: Time from frame to frame, for scores that know speeds.
    """

    semantic: NDArray[Any]
    instance: NDArray[Any]
    track_state: NDArray[Any] | None = None
    track_class: NDArray[Any] | None = None
    scene: str = ""
    dt_s: float = 0.5

    def from_present(self, history: int, horizon: int | None = None) -> Truth:
        """What is left of whole sequences of ``history + L`` frames: present frame and leads."""
        state = self.track_state
        frames = slice(history - 1, None if horizon is None else history + horizon)
        return replace(
            self,
            semantic=self.semantic[frames],
            instance=self.instance[frames],
            track_state=None if state is None else state[:, frames],
        )

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return len(self.instance) - 1


@dataclass(frozen=True)
class Forecast:
    """What was forecast for one sequence, at least as many leads as the truth has.

    Attributes:
        semantic: ``(L, y, x)`` most likely class, 0 background.
        instance: ``(L, y, x)`` ids; any cell with an id belongs to its segment.
        pose: ``(L, N, >= 2)`` x, y, ... in metres per track (= id - 1), NaN = none; None if the
            ids are not those of the truth, so that poses cannot be compared.
        existence: ``(L, N)`` probability that each track is still there, NaN = none; None where
            ``pose`` is.
        occupancy: ``(L, K, y, x)`` probability that a cell is of each class; None where it is
            not asked for.
        flow: ``(L, 2, y, x)`` backward flow (x, y) at the destination cell, metres per step; None
            likewise.
        realization_pose: ``(K, L, N, >= 2)`` K futures, each as ``pose`` is one; None likewise, or
            if there are none.
        realization_weight: ``(K,)`` how likely each is; None = all alike.
        realization_instance: ``(K, L, y, x)`` the ids of each, as ``instance``; None = not drawn.
    """

    semantic: NDArray[Any]
    instance: NDArray[Any]
    pose: NDArray[Any] | None = None
    existence: NDArray[Any] | None = None
    occupancy: NDArray[Any] | None = None
    flow: NDArray[Any] | None = None
    realization_pose: NDArray[Any] | None = None
    realization_weight: NDArray[Any] | None = None
    realization_instance: NDArray[Any] | None = None


def count(truth: Truth, forecast: Forecast, classes: int, grid: BEVGrid) -> NDArray[np.float64]:
    """The sums of one sequence.

    Args:
        truth: L leads.
        forecast: At least L leads; those beyond are left out.
        classes: Number of classes K.
        grid: Of both, to find the centres of truth without ``track_state``.

    Returns:
        ``(K, L, len(Sum))``.
    """
    sums = np.zeros((classes, truth.horizon, len(Sum)))
    moving = moving_ids(truth, grid)
    references: list[dict[int, int]] = [{} for _ in range(classes)]
    for lead in range(truth.horizon):
        true_class, class_ = truth.semantic[lead + 1], forecast.semantic[lead]
        sums[:, lead, CELLS] = count_cells(true_class, class_, classes)
        frame = Overlap.of(
            truth.instance[lead + 1], true_class, forecast.instance[lead], class_, classes
        )
        for k in range(classes):
            segments = frame.of_class(k + 1)
            sums[k, lead, SEGMENTS], sums[k, lead, MOVING_SEGMENTS] = count_segments(
                segments, references[k], moving
            )
    if forecast.pose is not None and truth.track_state is not None:
        _count_displacement(sums, truth, forecast.pose[: truth.horizon], moving, grid)
    return sums


def count_cells(truth: NDArray[Any], forecast: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """True positives, false positives, misses of each class: ``(K, 3)`` cells of one frame."""
    pairs = truth.ravel().astype(np.int64) * (classes + 1) + forecast.ravel()
    confusion = np.bincount(pairs, minlength=(classes + 1) ** 2).reshape(classes + 1, classes + 1)
    hits = np.diag(confusion)
    table = np.stack([hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits], axis=-1)
    return table[1:].astype(np.float64)


def count_segments(
    frame: Overlap, reference: dict[int, int], moving: frozenset[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FIERY's video panoptic counts of one class in one frame, of all and of moving agents.

    A truth and a forecast segment match if their IoU exceeds 0.5. A match is a true positive,
    unless the truth id was last matched to another forecast id: that is a false positive and a
    miss, and the new id becomes the reference. Other segments are false positives or misses.

    Of moving agents: true positives, switches and misses count only for truth ids in ``moving``;
    an unmatched forecast segment is a false positive only if it touches a moving truth segment
    or none at all; matches with still agents are left out.

    Args:
        frame: The segments of one class.
        reference: Truth id -> the forecast id last matched to it in this sequence; updated.
        moving: Truth ids that move.

    Returns:
        Two rows of TP, FP, FN, sum of IoU.

    Source:
        Hu et al., FIERY, ICCV 2021; the `PanopticMetric` of its repository. Two segments cannot
        both exceed 0.5 with a third, so matches are unique.
    """
    iou = frame.iou()
    rows, columns = np.nonzero(iou > FOUND_IOU)
    pairs = list(zip(frame.true_ids[rows].tolist(), frame.ids[columns].tolist(), strict=True))
    kept = np.array([reference.get(true_id, id_) == id_ for true_id, id_ in pairs], dtype=bool)
    reference.update(pairs)

    missed = np.ones(len(frame.true_ids), dtype=bool)
    unmatched = np.ones(len(frame.ids), dtype=bool)
    missed[rows], unmatched[columns] = False, False
    moves = np.array([id_ in moving for id_ in frame.true_ids.tolist()], dtype=bool)
    touches = frame.shared > 0
    false_moving = unmatched & (touches[moves].any(axis=0) | ~touches.any(axis=0))

    def counts(chosen: NDArray[np.bool_], false: NDArray[np.bool_]) -> NDArray[np.float64]:
        hits = kept & chosen[rows]
        switches = np.count_nonzero(~kept & chosen[rows])
        misses = np.count_nonzero(missed & chosen)
        quality = iou[rows[hits], columns[hits]].sum()
        false_alarms = np.count_nonzero(false)
        return np.array([hits.sum(), switches + false_alarms, switches + misses, quality])

    return counts(np.ones_like(moves), unmatched), counts(moves, false_moving)


def visible_ids(truth: Truth) -> NDArray[np.int64]:
    """Ids with a cell in the present frame."""
    ids = np.unique(truth.instance[0]).astype(np.int64)
    return ids[ids > 0]


def present_ids(truth: Truth, grid: BEVGrid) -> NDArray[np.int64]:
    """Ids that are there at present: with a cell, or with a track whose centre is on the grid.

    A pedestrian between the centres of cells has none, as has who is hidden under another's box;
    but forecasters read tracks too.
    """
    if truth.track_state is None:
        return visible_ids(truth)
    tracked = np.flatnonzero(grid.contains(*truth.track_state[:, 0, :2].T)) + 1  # not where NaN
    return np.union1d(visible_ids(truth), tracked)


def oracle(truth: Truth, grid: BEVGrid, seen: NDArray[np.int64] | None = None) -> Forecast:
    """The perfect motion of every agent that a forecaster knows: the best that one can do.

    Args:
        truth: What happened.
        grid: Of its rasters.
        seen: Ids that the history shows, beside those that are there at present: who is hidden
            just then can still be forecast.
    """
    ids = present_ids(truth, grid)
    known = np.isin(truth.instance[1:], ids if seen is None else np.union1d(ids, seen))
    state = truth.track_state
    return Forecast(
        semantic=np.where(known, truth.semantic[1:], 0),
        instance=np.where(known, truth.instance[1:], 0),
        pose=None if state is None else state[:, 1:].transpose(1, 0, 2),
    )


def moving_ids(truth: Truth, grid: BEVGrid) -> frozenset[int]:
    """Ids there at present whose centre is at some lead over 2 m from its present place.

    Centres are those of ``track_state``; without it those of the masks, which a mask that is
    cut by the grid's edge or by another agent shifts.
    """
    ids = present_ids(truth, grid)
    if truth.track_state is None:
        centre = np.stack([mask_centres(frame, ids, grid) for frame in truth.instance], axis=1)
    else:
        ids = ids[ids <= len(truth.track_state)]
        centre = truth.track_state[ids - 1, :, :2].astype(np.float64)
    distance = np.linalg.norm(centre - centre[:, :1], axis=-1)
    return frozenset(ids[(distance > MOVING_DISTANCE_M).any(axis=1)].tolist())


def mask_centres(
    instance: NDArray[Any], ids: NDArray[np.int64], grid: BEVGrid
) -> NDArray[np.float64]:
    """Mean x, y of each id's cells, ``(len(ids), 2)`` metres; NaN where it has none."""
    rows, columns = np.nonzero(instance)
    label = instance[rows, columns]
    size = int(max(label.max(initial=0), ids.max(initial=0))) + 1
    area, x, y = (
        np.bincount(label, weights=weights, minlength=size)[ids].astype(np.float64)
        for weights in (np.ones(len(label)), grid.x_m[columns], grid.y_m[rows])
    )
    centre = np.full((len(ids), 2), np.nan)
    np.divide(np.stack([x, y], axis=-1), area[:, None], out=centre, where=area[:, None] > 0)
    return centre


def _count_displacement(
    sums: NDArray[np.float64],
    truth: Truth,
    pose: NDArray[Any],
    moving: frozenset[int],
    grid: BEVGrid,
) -> None:
    """Adds distances between forecast and true centres of the ids there at present.

    AGENTS counts the true centres at each lead, PAIRS those of them with a forecast.
    """
    assert truth.track_state is not None
    ids = present_ids(truth, grid)
    ids = ids[ids <= len(truth.track_state)]
    true_centre = truth.track_state[ids - 1, 1:, :2].astype(np.float64)
    centre = np.full_like(true_centre, np.nan)
    known = ids <= pose.shape[1]
    centre[known] = pose[:, ids[known] - 1, :2].transpose(1, 0, 2)
    distance = np.linalg.norm(centre - true_centre, axis=-1)
    table = np.stack(
        [np.isfinite(true_centre).all(axis=-1), np.isfinite(distance), np.nan_to_num(distance)],
        axis=-1,
    )
    label = track_class(truth)[ids - 1]
    moves = np.isin(ids, list(moving))
    unseen = ~np.isin(ids, visible_ids(truth))
    for k in range(len(sums)):
        sums[k, :, DISPLACEMENT] = table[label == k + 1].sum(axis=0)
        sums[k, :, MOVING_DISPLACEMENT] = table[(label == k + 1) & moves].sum(axis=0)
        sums[k, :, Sum.AGENTS_WITHOUT_CELL] = table[(label == k + 1) & unseen, :, 0].sum(axis=0)


def track_class(truth: Truth) -> NDArray[np.int64]:
    """Class of each track from 1; without ``track_class`` that of its mask at present."""
    assert truth.track_state is not None
    if truth.track_class is not None:
        return truth.track_class.astype(np.int64)
    label = np.zeros(len(truth.track_state), np.int64)
    ids, segment = compact(truth.instance[0].ravel())
    classes = int(truth.semantic[0].max(initial=1))
    found = majority(segment, truth.semantic[0].ravel(), len(ids), classes)
    inside = (ids > 0) & (ids <= len(label))
    label[ids[inside] - 1] = found[inside]
    return label
