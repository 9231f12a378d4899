"""What was observed of a scene's tracks in the seconds before a moment, that moment included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_tools.scene import Observed

Array = NDArray[np.float64]

HISTORY_S = 2.0
CLOCK_S = 0.02  # clocks jitter: a sample so much older than HISTORY_S still counts
SAME_S = 1e-3  # a sample so close to the present is that of the present
VELOCITY_S = 0.5  # over which the velocity is measured that carries a sample to the present
MAX_CARRY_S = 0.5


def recent(observed: Observed, present_s: float) -> Observed:
    """The samples of the last :data:`HISTORY_S`, up to and including the present.

    Args:
        observed: A whole recording.
        present_s: The present on its clock, seconds.

    Returns:
        Those samples, their times in seconds after the present, the last exactly 0. Where no sample
        was taken at the present, the last one before it is carried there.
    """
    time_s = observed.time_s - present_s
    last = int(np.searchsorted(time_s, SAME_S, side="right"))
    first = int(np.searchsorted(time_s[:last], -HISTORY_S - CLOCK_S))
    time_s, state = time_s[first:last].copy(), observed.state[:, first:last].copy()
    if len(time_s) and abs(time_s[-1]) <= SAME_S:
        time_s[-1] = 0.0
        return Observed(time_s, state)
    return _to_present(time_s, state)


def _to_present(time_s: Array, state: Array) -> Observed:
    """Moves the last sample to the present if it is nearer than half a step, else adds one."""
    carried = np.full((len(state), 1, 5), np.nan)
    if len(time_s) and -time_s[-1] <= MAX_CARRY_S:
        carried[:, 0] = _carried(time_s, state)
        step_s = float(np.median(np.diff(time_s))) if len(time_s) > 1 else 0.0
        if -time_s[-1] < step_s / 2:
            time_s, state = time_s[:-1], state[:, :-1]
    return Observed(np.append(time_s, 0.0), np.concatenate([state, carried], axis=1))


def _carried(time_s: Array, state: Array) -> Array:
    """The last sample of each track at the present, moved at its velocity: ``(N, 5)``."""
    near = time_s >= time_s[-1] - VELOCITY_S
    now = state[:, -1].copy()
    for track in np.flatnonzero(np.isfinite(now[:, 0])):
        seen = near & np.isfinite(state[track, :, 0])
        now[track, :2] = carry(time_s[seen], state[track, seen, :2], 0.0)
    return now


def carry(time_s: Array, position: Array, to_s: float) -> Array:
    """Where a track is at a later time, from its last position and mean velocity: ``(2,)``.

    Args:
        time_s: ``(n,)`` ascending, seconds.
        position: ``(n, 2)`` x, y, metres.
        to_s: The time wanted.
    """
    span_s = max(float(time_s[-1] - time_s[0]), SAME_S)  # one position alone does not move
    moved: Array = position[-1] + (position[-1] - position[0]) * (to_s - time_s[-1]) / span_s
    return moved
