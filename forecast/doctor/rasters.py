"""Ids, classes and masks of one sequence: the rasters must agree with each other and the tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.doctor.clip import Clip, Finding

LARGEST_M = 30.0  # longer than any vehicle on a public road
OUTSIDE = 0.2  # share of a mask that may lie outside of its box
SAME_PLACE = 0.25  # of the smaller width: centres of two agents are not nearer than this


def classes_known(clip: Clip) -> Iterator[Finding]:
    """Every cell and track is of a class that the store names, and padding is empty."""
    highest = int(clip.semantic.max(initial=0))
    if highest > len(clip.classes):
        yield Finding(f"semantic has class {highest}, but only {len(clip.classes)} are named")
    if clip.state is None or clip.label is None:
        return
    for track in np.flatnonzero(clip.label > len(clip.classes)).tolist():
        yield Finding(f"is of class {clip.label[track]}, which has no name", track + 1)
    used = np.isfinite(clip.state).any(axis=(1, 2))
    for track in np.flatnonzero(used & (clip.label == 0)).tolist():
        yield Finding("has boxes but no class", track + 1)


def ids_constant(clip: Clip) -> Iterator[Finding]:
    """Every id has a track, keeps its class, and cells have both an id and a class or neither.

    Rasters of classes alone, without any id or track, pass.
    """
    odd = int(((clip.semantic > 0) != (clip.instance > 0)).sum())
    if odd and clip.has_ids:
        yield Finding(f"{odd} cells have a class but no id, or an id but no class")
    codes = np.unique(clip.instance.astype(np.int64).ravel() * 256 + clip.semantic.ravel())
    pairs = np.stack([codes // 256, codes % 256], axis=1)
    ids, counts = np.unique(pairs[(pairs > 0).all(axis=1)][:, 0], return_counts=True)
    for id_ in ids[counts > 1].tolist():
        labels = [clip.named(int(k)) for i, k in pairs.tolist() if i == id_ and k > 0]
        yield Finding(f"changes its class: {', '.join(labels)}", id_)
    if clip.label is None:
        return
    labels_of = np.concatenate([[0], clip.label]).astype(int)
    for id_, label in pairs.tolist():
        if id_ == 0 or label == 0:
            continue
        if id_ >= len(labels_of) or labels_of[id_] == 0:
            yield Finding("is drawn but has no track", id_)
        elif labels_of[id_] != label:
            drawn, known = clip.named(label), clip.named(labels_of[id_])
            yield Finding(f"is drawn as {drawn}, but its track is a {known}", id_)


def ids_unique(clip: Clip) -> Iterator[Finding]:
    """No two tracks are the same agent, and no id belongs to agents far from each other."""
    if clip.state is None or clip.label is None:
        yield from _scattered(clip)
        return
    centre, width = clip.state[..., :2], clip.state[..., 4]
    for track in range(len(centre) - 1):
        later = slice(track + 1, None)
        apart = np.linalg.norm(centre[later] - centre[track], axis=-1)
        near = apart < SAME_PLACE * np.minimum(width[later], width[track])  # False where NaN
        shared = np.isfinite(apart).sum(axis=1)
        same = (near.sum(axis=1) >= 2) & (near.sum(axis=1) * 2 > shared)
        same &= (clip.label[later] == clip.label[track]) & (clip.label[track] > 0)
        for other in np.flatnonzero(same).tolist():
            frames = int(near[other].sum())
            text = f"lies on agent {track + other + 2} in {frames} frames: one agent, two ids?"
            yield Finding(text, track + 1)


def _scattered(clip: Clip) -> Iterator[Finding]:
    for frame, labels in enumerate(clip.instance):
        row, column = np.nonzero(labels)
        ids = labels[row, column]
        for id_ in np.unique(ids).tolist():
            extent = np.hypot(np.ptp(row[ids == id_]), np.ptp(column[ids == id_]))
            if (size := extent * clip.grid.resolution_m) > LARGEST_M:
                text = f"is {size:.0f} m across in frame {frame}: one id, several agents?"
                yield Finding(text, id_)
                return


def boxes_whole(clip: Clip) -> Iterator[Finding]:
    """A box has five finite numbers with sides above 0, or five NaN."""
    if clip.state is None:
        return
    given = ~np.isnan(clip.state)
    torn = np.any(given, axis=-1) & ~np.all(given, axis=-1)
    torn = torn | np.any(np.isinf(clip.state), axis=-1)
    flat = np.any(clip.state[..., 3:] <= 0, axis=-1)  # False where NaN
    for what, wrong in (
        ("numbers that are not finite", torn),
        ("a side that is not above 0", flat),
    ):
        for track in np.flatnonzero(wrong.any(axis=1)).tolist():
            frame = int(wrong[track].argmax())
            yield Finding(f"has a box with {what} in frame {frame}", track + 1)


def masks_agree(clip: Clip) -> Iterator[Finding]:
    """Masks lie in their boxes, and boxes on the grid are drawn; the first fault of each agent.

    Only the protocol "exact" promises that; others leave agents out, hold them still or shift them.
    """
    if clip.state is None or not clip.exact:
        return
    reported: set[int] = set()
    for frame in range(len(clip.instance)):
        for finding in (*_outside(clip, frame), *_not_drawn(clip, frame)):
            if finding.agent not in reported:
                reported.add(finding.agent or 0)
                yield finding


def _outside(clip: Clip, frame: int) -> Iterator[Finding]:
    """Masks of which more than ``OUTSIDE`` lies beyond their box and the cell around it."""
    assert clip.state is not None
    row, column = np.nonzero(clip.instance[frame])
    ids = clip.instance[frame, row, column].astype(np.int64)
    known = ids <= len(clip.state)
    row, column, ids = row[known], column[known], ids[known]
    x, y, yaw, length, width = clip.state[ids - 1, frame].T
    ahead, left = clip.grid.x_m[column] - x, clip.grid.y_m[row] - y
    forward = ahead * np.cos(yaw) + left * np.sin(yaw)
    sideways = left * np.cos(yaw) - ahead * np.sin(yaw)
    slack = clip.grid.resolution_m
    inside = (abs(forward) <= length / 2 + slack) & (abs(sideways) <= width / 2 + slack)
    cells = np.bincount(ids)
    share = np.bincount(ids, ~inside) / np.maximum(cells, 1)
    for id_ in np.flatnonzero(share > OUTSIDE).tolist():
        if np.isnan(clip.state[id_ - 1, frame, 0]):
            yield Finding(f"is drawn in frame {frame}, but its track is absent there", id_)
        else:
            text = f"{share[id_]:.0%} of its mask in frame {frame} lies outside of its box"
            yield Finding(text, id_)


def _not_drawn(clip: Clip, frame: int) -> Iterator[Finding]:
    """Boxes that must cover a cell at their centre, where there is none."""
    assert clip.state is not None
    grid, boxes = clip.grid, clip.state[:, frame]
    large = boxes[:, 3:].min(axis=1) > np.sqrt(2) * grid.resolution_m  # False where NaN
    tracks = np.flatnonzero(large & grid.contains(boxes[:, 0], boxes[:, 1]))
    row, column = cell_of(clip, boxes[tracks, :2])
    for track in tracks[clip.instance[frame, row, column] == 0].tolist():
        x, y = boxes[track, :2]
        text = f"nothing is drawn in frame {frame} at its box's centre ({x:.1f}, {y:.1f})"
        yield Finding(text, track + 1)


def cell_of(clip: Clip, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and column of points ``(..., 2)``, those outside brought to the nearest edge."""
    grid = clip.grid
    column = np.floor((points[..., 0] - grid.x_min_m) / grid.resolution_m).astype(int)
    row = np.floor((points[..., 1] - grid.y_min_m) / grid.resolution_m).astype(int)
    return row.clip(0, grid.height - 1), column.clip(0, grid.width - 1)
