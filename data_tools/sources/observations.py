"""Boxes seen at single moments, put together to tracks: what most recordings need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.jumps import jumps
from data_tools.scene import MapElement, Observed, Scene
from data_tools.sources.inputs import decimate, mostly_regular
from forecast.errors import DataError

Array = NDArray[np.float64]

MAX_CELLS = 2**24  # tracks times frames; recordings of minutes have thousands
MAX_FRAMES = 2**20


@dataclass(frozen=True)
class Observations:
    """Boxes, one per row, in any order but ascending in time within a track.

    Args:
        frame: ``(M,)`` the frame that each was seen in, from 0.
        track: ``(M,)`` the source's own id, as text.
        kind: ``(M,)`` the source's own label.
        box: ``(M, 5)`` x, y, yaw, length, width in the world frame.
    """

    frame: NDArray[np.int64]
    track: NDArray[Any]
    kind: NDArray[Any]
    box: Array


@dataclass(frozen=True)
class Stacked:
    """The same by track: ids, labels, ``(N, T, 5)`` states (NaN = not seen) and notes."""

    track_id: tuple[str, ...]
    track_class: tuple[str, ...]
    state: Array
    notes: Mapping[str, int]


def frame_numbers(time_s: Array, step_s: float, jitter_s: float, where: str) -> NDArray[np.int64]:
    """The numbers of frames in a regular recording that may lack some.

    Args:
        time_s: ``(T,)`` when each was taken, seconds.
        step_s: Seconds between frames.
        jitter_s: How far the time from one to the next may be from whole steps, but for a few.
        where: Name of the recording, for errors.

    Raises:
        DataError: There is no frame, time runs backwards, or steps are others.
    """
    if len(time_s) == 0:
        raise DataError("frames with annotations", f"none in {where}", "leave it out")
    since_s = np.diff(time_s)
    steps = np.round(since_s / step_s)
    off = np.abs(since_s / step_s - steps)
    wrong = ~(steps >= 1)
    if not mostly_regular(off, jitter_s / step_s):
        wrong |= off > jitter_s / step_s
    if wrong.any() or steps.sum() >= MAX_FRAMES:
        place = int((wrong if wrong.any() else steps).argmax())
        raise DataError(
            f"frames {step_s:g} s apart, ascending in time",
            f"{since_s[place]:g} s from frame {place + 1} to the next in {where}",
            "leave it out",
        )
    return np.concatenate([[0], steps.cumsum()]).astype(np.int64)


def apart(seen: Observations, ego_pose: Array, step_s: float) -> Observations:
    """The same, with ids that begin anew wherever the ego jumps: there recordings were joined.

    Args:
        seen: The boxes.
        ego_pose: ``(T, 2 or more)`` x, y of the ego in every frame.
        step_s: Seconds between frames.
    """
    part = np.append(0, jumps(ego_pose, step_s).cumsum())[seen.frame]
    names = seen.track.astype(str).astype(object)
    later = np.array([f"{name}#{number + 1}" for name, number in zip(names, part, strict=True)])
    return replace(seen, track=np.where(part > 0, later, names).astype(str))


def stack(seen: Observations, frames: int, where: str) -> Stacked:
    """Tracks in the order in which they first appear in the rows.

    Args:
        seen: The boxes.
        frames: Number of frames of the recording.
        where: Its name, for errors.

    Raises:
        DataError: There is no box, a frame is out of range, a track goes back in time or is twice
            in one frame, or the recording is too large.
    """
    if len(seen.frame) == 0:
        raise DataError("agents", f"none in {where}", "leave it out")
    names, first, index = np.unique(seen.track.astype(str), return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    index = np.argsort(order, kind="stable")[index]
    _check_frames(seen, index, frames, where)
    if len(names) * frames > MAX_CELLS:
        raise DataError(
            f"tracks times frames of {MAX_CELLS} at most",
            f"{len(names)} times {frames} in {where}",
            "split the recording",
        )
    state = np.full((len(names), frames, 5), np.nan)
    state[index, seen.frame] = seen.box
    kinds, changing = _kinds(seen.kind.astype(str), index, len(names))
    notes = {"tracks of more than one class, the most frequent taken": changing}
    return Stacked(tuple(map(str, names[order])), kinds, state, notes)


def scene_of(
    name: str,
    tracks: Stacked,
    ego_pose: Array,
    *,
    step_s: float,
    dt_s: float,
    where: str,
    hidden: NDArray[np.bool_] | None = None,
    map: tuple[MapElement, ...] = (),
    notes: Mapping[str, int] | None = None,
) -> Scene:
    """The scene of a regular recording, of whose frames as many are taken as ``dt_s`` needs.

    Args:
        name: Unique name of the recording within its source.
        tracks: Its tracks.
        ego_pose: ``(T, 3)`` x, y, yaw of the ego in every frame.
        step_s: Seconds between its frames.
        dt_s: Seconds between those taken.
        where: Its name for errors.
        hidden: ``(N, T)`` whether the source says that an agent is hardly visible.
        map: Its map.
        notes: Counts besides those of the tracks.

    Raises:
        DataError: ``dt_s`` is no multiple of ``step_s``.
    """
    time_s = step_s * np.arange(len(ego_pose), dtype=np.float64)
    every = decimate(time_s, dt_s, where)
    return Scene(
        name=name,
        time_s=time_s[every],
        dt_s=dt_s,
        track_id=tracks.track_id,
        track_class=tracks.track_class,
        state=tracks.state[:, every],
        ego_pose=ego_pose[every],
        hidden=None if hidden is None else hidden[:, every],
        observed=Observed(time_s, tracks.state),
        map=map,
        notes={**tracks.notes, **(notes or {})},
    )


def _check_frames(seen: Observations, index: NDArray[np.int64], frames: int, where: str) -> None:
    outside = (seen.frame < 0) | (seen.frame >= frames)
    by_track = np.argsort(index, kind="stable")
    late = np.zeros(len(index), bool)
    late[by_track[1:]] = (np.diff(index[by_track]) == 0) & (np.diff(seen.frame[by_track]) <= 0)
    if (outside | late).any():
        row = int((outside | late).argmax())
        raise DataError(
            f"frames 0 to {frames - 1}, ascending within a track",
            f"frame {seen.frame[row]} of track {seen.track[row]} in row {row + 1} of {where}",
            "leave it out, or give agents different ids",
        )


def _kinds(
    kind: NDArray[Any], index: NDArray[np.int64], tracks: int
) -> tuple[tuple[str, ...], int]:
    """The most frequent label of each track, and how many tracks have more than one."""
    labels, number = np.unique(kind, return_inverse=True)
    pairs, count = np.unique(index * len(labels) + number, return_counts=True)
    track, label = pairs // len(labels), pairs % len(labels)
    order = np.lexsort((label, -count, track))  # of labels as frequent, the first by name
    _, first = np.unique(track[order], return_index=True)
    chosen = label[order][first]
    return tuple(str(labels[i]) for i in chosen), len(pairs) - tracks
