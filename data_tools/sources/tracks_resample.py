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
# Tracks that share a clock have no more times together than the fastest of them alone, or hardly.
MOST_TIMES = 1.05
# At so many of its times less than half of those who are there may be seen: others are missed now
# and then, but at more times than these only a few have them all.
MOST_LONELY = 0.4
MAX_TURN_RAD = np.pi / 2  # between two observations; more is no turn
MAX_AGE_STEPS = 1.5  # of its own, of an observation that is carried to a time of the common clock


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

    Where yaw changes by more than :data:`MAX_TURN_RAD` from one observation to the next, a tracker
    took front for rear: it is that of the nearer one, and never one across the way.

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
    since_s, until_s = np.abs(time_s - seen[before]), np.abs(time_s - seen[after])
    off = np.minimum(since_s, until_s)
    inside = (time_s >= seen[0]) & (time_s <= seen[-1])
    bridged = inside & (seen[after] - seen[before] <= MAX_GAP_S + TIME_TOLERANCE_S)
    x, y, yaw = track.pose.T
    state = np.empty((len(time_s), 5))
    for axis, values in enumerate((x, y, np.unwrap(yaw) if _turns(yaw) else yaw)):
        state[:, axis] = np.interp(time_s, seen, values)
    nearer = yaw[np.where(since_s <= until_s, before, after)]
    flips = np.abs(wrap_angle(yaw[after] - yaw[before])) > MAX_TURN_RAD
    state[:, 2] = wrap_angle(np.where(flips, nearer, state[:, 2]))
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

    Tracks that share a clock are taken at its times, which may be irregular. Where there are
    several clocks, all are carried to regular times that have the frames among them, each from its
    last observation before.

    Args:
        tracks: Of one scene.
        frame_s: Seconds between frames, the first of which is at the first observation.
    """
    every = _different(np.sort(np.concatenate([track.time_s for track in tracks])))
    if _is_shared(every, tracks):
        return Observed(every, np.stack([_at(track, every) for track in tracks]))
    own_s = [_step(track) for track in tracks]
    usual_s, span_s = float(np.nanmedian(own_s)), every[-1] - every[0]
    # Not more times than there are: those of a track may be very near each other.
    step_s = frame_s / max(1, round(frame_s / max(usual_s, span_s / len(every))))
    regular = every[0] + step_s * np.arange(int(span_s / step_s + 1e-6) + 1)
    carried = [
        _carried(track, regular, usual_s if np.isnan(own) else own)
        for track, own in zip(tracks, own_s, strict=True)
    ]
    return Observed(regular, np.stack(carried))


def _different(time_s: Array) -> Array:
    """The first of all ascending times that are the same but for the tolerance."""
    later = np.searchsorted(time_s, time_s + TIME_TOLERANCE_S, side="right").tolist()
    first = [0]
    while later[first[-1]] < len(time_s):
        first.append(later[first[-1]])
    return time_s[first]


def _is_shared(time_s: Array, tracks: Sequence[Track]) -> bool:
    """Whether times are the clock of all tracks, rather than clocks of several put together.

    Off each other's phase, clocks have more times together than the fastest has; in phase, most of
    the fastest one's times are without the others.
    """
    steps = [np.quantile(np.diff(one.time_s), 0.1) for one in tracks if len(one.time_s) > 1]
    span_s = time_s[-1] - time_s[0]
    if steps and len(time_s) > MOST_TIMES * (span_s / max(min(steps), TIME_TOLERANCE_S) + 1):
        return False
    seen, change = np.zeros((2, len(time_s) + 1))
    for track in tracks:
        place = _place(track, time_s)
        seen[place] += 1
        change[place[0]] += 1
        change[place[-1] + 1] -= 1
    return bool((seen < change.cumsum() / 2).mean() <= MOST_LONELY)


def _step(track: Track) -> float:
    """The usual time between two observations of a track; NaN where there is one."""
    return float(np.median(np.diff(track.time_s))) if len(track.time_s) > 1 else np.nan


def _place(track: Track, time_s: Array) -> NDArray[np.int64]:
    """Which time each observation is of: the last that is not later, but for the tolerance."""
    return np.searchsorted(time_s, track.time_s, side="right") - 1


def _at(track: Track, time_s: Array) -> Array:
    """The observations at some times ``(S, 5)``, NaN where there is none."""
    state = np.full((len(time_s), 5), np.nan)
    state[_place(track, time_s)] = track.observed
    return state


def _carried(track: Track, time_s: Array, step_s: float) -> Array:
    """The last observation before each time, carried there; NaN where it is too old.

    Args:
        track: The observations.
        time_s: ``(T,)`` times wanted.
        step_s: The usual time between two of them.
    """
    oldest_s = min(MAX_AGE_STEPS * step_s, MAX_GAP_S)  # after which the track is absent
    state = np.full((len(time_s), 5), np.nan)
    last = np.searchsorted(track.time_s, time_s + TIME_TOLERANCE_S, side="right") - 1
    first = np.searchsorted(track.time_s, track.time_s - VELOCITY_S)
    young = time_s - track.time_s[last] <= oldest_s + TIME_TOLERANCE_S
    for place in np.flatnonzero((last >= 0) & young):
        at = last[place]
        past = slice(first[at], at + 1)
        state[place] = track.observed[at]
        state[place, :2] = carry(track.time_s[past], track.observed[past, :2], time_s[place])
    return state
