"""Ids that a recording gives to one agent after another: where the next one begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.scene import FARTHEST_M
from data_tools.sources.grouped import Rows, steps

Array = NDArray[np.float64]

# The way between two observations is that of the mean speed before and after, within what this
# acceleration adds and a tracker's error.
ACCELERATION_M_S2 = 8.0
TOLERANCE_M = 10.0  # real trackers jump by 7 m now and then
MAX_SPEED_M_S = 70.0  # of an agent that is seen once before and once after
SPEED_WINDOW_S = 0.5  # that a speed is taken over, against noise


def may_begin(
    agents: Mapping[str, Rows], time_s: Array, position: Array, gap_s: float
) -> NDArray[np.bool_]:
    """The observations at which :func:`beginnings` has something to decide, ``(n,)``.

    Args:
        agents: The rows of each id, which are together all.
        time_s: ``(n,)`` seconds, ascending within an id.
        position: ``(n, 2)`` x, y, metres.
        gap_s: Seconds without an observation that make a gap.
    """
    way = steps(agents, position.clip(-FARTHEST_M, FARTHEST_M))
    far = np.hypot(way[:, 0], way[:, 1]) > 0.99 * TOLERANCE_M  # rounded otherwise than there
    return np.asarray((steps(agents, time_s) > gap_s) | far)


def beginnings(time_s: Array, position: Array, kind: NDArray[Any], gap_s: float) -> list[int]:
    """The observations of one id with which an agent begins, from 0.

    Another one begins after a gap if its class is another, and wherever no agent could have made
    the way from the observation before, unless it alone is off and the next one goes on from there.

    Args:
        time_s: ``(n,)`` ascending, seconds.
        position: ``(n, 2)`` x, y, metres.
        kind: ``(n,)`` class of each.
        gap_s: Seconds without an observation that make a gap; within them a class may flicker.
    """
    position = position.clip(-FARTHEST_M, FARTHEST_M)
    gap = np.diff(time_s) > gap_s
    far = np.linalg.norm(np.diff(position, axis=0), axis=1) > TOLERANCE_M
    starts, begin, error = [0], 0, -1
    for step in map(int, np.flatnonzero(gap | far)):
        if step == error:
            continue  # the way back from it
        ends = np.flatnonzero(gap[step + 1 :])
        part = slice(begin, step + 1)
        rest = slice(step + 1, step + 2 + int(ends[0]) if len(ends) else len(time_s))
        other = gap[step] and _most_frequent(kind[part]) != _most_frequent(kind[rest])
        possible = _possible(time_s, position, part, rest)
        after = slice(rest.start + 1, rest.stop)
        # What comes and goes is no error: two agents have one id at the same time.
        steady = not far[step + 2 : step + 3].any()
        lone = not possible and not gap[step] and after.start < after.stop and steady
        if lone and _possible(time_s, position, part, after):
            error = rest.start
        elif other or not possible:
            starts.append(rest.start)
        if gap[step] or starts[-1] == rest.start:
            begin = rest.start  # neither speeds nor classes are taken across gaps and agents
    return starts


def _possible(time_s: Array, position: Array, part: slice, rest: slice) -> bool:
    """Whether one agent may make the way from the end of a part to the start of the rest."""
    before = _velocity(time_s[part][::-1], position[part][::-1])
    after = _velocity(time_s[rest], position[rest])
    since_s = time_s[rest.start] - time_s[part.stop - 1]
    way = position[rest.start] - position[part.stop - 1]
    known = [velocity for velocity in (before, after) if velocity is not None]
    if not known:
        return bool(np.linalg.norm(way) <= TOLERANCE_M + MAX_SPEED_M_S * since_s)
    off = np.linalg.norm(way - np.mean(known, axis=0) * since_s)
    return bool(off <= TOLERANCE_M + ACCELERATION_M_S2 / len(known) * since_s**2)


def _velocity(time_s: Array, position: Array) -> Array | None:
    """Velocity at the first of some observations, whose times go up or down."""
    if len(time_s) < 2:
        return None
    near = np.flatnonzero(np.abs(time_s - time_s[0]) <= SPEED_WINDOW_S)
    last = max(int(near[-1]), 1)
    return np.asarray((position[last] - position[0]) / (time_s[last] - time_s[0]))


def _most_frequent(kind: NDArray[Any]) -> str:
    labels, count = np.unique(kind.astype(str), return_counts=True)
    return str(labels[count.argmax()])
