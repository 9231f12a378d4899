"""A table's tracks at other times: in frames, and at the rate at which they were observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.history import VELOCITY_S, carry
from data_tools.scene import Observed
from forecast.angles import wrap_angle

Array = NDArray[np.float64]

MAX_GAP_S = 1.0
# Clocks written with few digits: a time this close to an observation is that observation's.
TIME_TOLERANCE_S = 1e-3
# More different times than this, for each that tracks of this rate would share: they share none.
MOST_TIMES = 1.5
MAX_AGE_STEPS = 1.5  # of an observation that is carried to a time of the common clock


@dataclass(frozen=True)
class Track:
    """What was seen of one agent.

    Args:
        name: Its id in the table.
        kind: Its class.
        time_s: ``(n,)`` ascending, seconds.
        pose: ``(n, 3)`` x, y, yaw.
        size_m: ``(2,)`` length and width; NaN where the table does not tell.
        observed: ``(n, 5)`` x, y, yaw, length, width as known at each time, from no later one; NaN
            sides where the table tells none until then.
        score: ``(n,)`` the tracker's confidence, 0 to 1; NaN where it gives none.
        is_ego: Whether the table marks it so.
    """

    name: str
    kind: str
    time_s: Array
    pose: Array
    size_m: Array
    observed: Array
    score: Array
    is_ego: bool = False


def resample(track: Track, time_s: Array) -> Array:
    """A track at other times, ``(T, 5)``: linear between observations, yaw by the shortest arc.

    Args:
        track: The observations.
        time_s: ``(T,)`` times wanted.

    Returns:
        x, y, yaw, length, width; NaN where the track was not seen: outside its first and last
        observation, and within gaps of more than :data:`MAX_GAP_S`.
    """
    seen = track.time_s
    after = np.minimum(np.searchsorted(seen, time_s), len(seen) - 1)
    before = np.maximum(after - 1, 0)
    off = np.minimum(np.abs(time_s - seen[after]), np.abs(time_s - seen[before]))
    inside = (time_s >= seen[0]) & (time_s <= seen[-1])
    bridged = inside & (seen[after] - seen[before] <= MAX_GAP_S + TIME_TOLERANCE_S)
    x, y, yaw = track.pose.T
    state = np.empty((len(time_s), 5))
    for axis, values in enumerate((x, y, np.unwrap(yaw) if _turns(yaw) else yaw)):
        state[:, axis] = np.interp(time_s, seen, values)
    state[:, 2] = wrap_angle(state[:, 2])
    state[:, 3:] = track.size_m
    state[~(bridged | (off <= TIME_TOLERANCE_S))] = np.nan
    return state


def _turns(yaw: Array) -> bool:
    """Whether a heading passes from one side of a full turn to the other."""
    return len(yaw) > 1 and bool(np.abs(yaw[1:] - yaw[:-1]).max() >= np.pi)


def last_score(track: Track, time_s: Array) -> Array:
    """The confidence at other times ``(T,)``: that of the last observation before; NaN if none."""
    last = np.searchsorted(track.time_s, time_s + TIME_TOLERANCE_S, side="right") - 1
    return np.where(last >= 0, track.score[last], np.nan)


def samples(tracks: Sequence[Track], frame_s: float) -> Observed:
    """What was observed of tracks, as the table has it.

    Tracks that share a clock are taken at its times, which may be irregular. Where each has a clock
    of its own, all are carried to regular times that have the frames among them, each from its last
    observation before.

    Args:
        tracks: Of one scene.
        frame_s: Seconds between frames, the first of which is at the first observation.
    """
    every = np.sort(np.concatenate([track.time_s for track in tracks]))
    different = np.append(True, np.diff(every) > TIME_TOLERANCE_S)
    shared = every[different]
    step_s = _step(tracks)
    if len(shared) <= MOST_TIMES * ((every[-1] - every[0]) / step_s + 1):
        return Observed(shared, np.stack([_at(track, shared) for track in tracks]))
    step_s = frame_s / max(1, round(frame_s / step_s))
    regular = every[0] + step_s * np.arange(int((every[-1] - every[0]) / step_s + 1e-6) + 1)
    return Observed(regular, np.stack([_carried(track, regular, step_s) for track in tracks]))


def _step(tracks: Sequence[Track]) -> float:
    """The usual time between two observations of a track; infinite where none has two."""
    steps = np.concatenate([np.diff(track.time_s) for track in tracks])
    return float(np.median(steps)) if len(steps) else np.inf


def _at(track: Track, time_s: Array) -> Array:
    """The observations at some times ``(S, 5)``, NaN where there is none."""
    state = np.full((len(time_s), 5), np.nan)
    # The time of an observation is the last that is not later, but for the tolerance.
    place = np.searchsorted(time_s, track.time_s, side="right") - 1
    state[place] = track.observed
    return state


def _carried(track: Track, time_s: Array, step_s: float) -> Array:
    """The last observation before each time, carried there; NaN where it is too old."""
    state = np.full((len(time_s), 5), np.nan)
    last = np.searchsorted(track.time_s, time_s + TIME_TOLERANCE_S, side="right") - 1
    first = np.searchsorted(track.time_s, track.time_s - VELOCITY_S)
    for place in np.flatnonzero(last >= 0):
        at = last[place]
        if time_s[place] - track.time_s[at] > MAX_AGE_STEPS * step_s:
            continue
        past = slice(first[at], at + 1)
        state[place] = track.observed[at]
        state[place, :2] = carry(track.time_s[past], track.observed[past, :2], time_s[place])
    return state
