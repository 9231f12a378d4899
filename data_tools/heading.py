"""Headings of tracks from where they were seen, robust against a tracker's noise.

An extended Kalman filter whose agent turns only while it moves, as wheels do: a parked car's jitter
is then no heading, and noise no turn. What a tracker adds varies slowly, over some tenths of a
second; it is a part of the state, so that it is not taken for motion. The filter knows the past
alone; a Rauch-Tung-Striebel smoother after it knows the whole track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.angles import wrap_angle

Array = NDArray[np.float64]

NOISE_FORGET_S = 0.3  # time constant of a tracker's error
LEAST_NOISE_M = 0.02
WHITE = 0.3  # part of the error that does not vary slowly
MOVED_NOISES, MOVED_WITHIN_S = 6.0, 2.0  # so many times the noise away in this time: really moved
CREPT = 2.0  # times that from where it was first seen, in any time
CONFIRM_S = 0.3  # where steps are no longer, one position alone tells no motion
MAX_GAP_S = 1.0  # a longer one ends what is known of the motion, but for the heading
# Squared distances of a position from what was expected, in standard deviations: from the first on
# it counts for less, from the second on, if it is also far, another agent has taken the id.
OUTLIER, SWITCH, SWITCH_M = 9.0, 30.0, 2.0
MAX_SPEED_M_S = 100.0
SIDEWAYS = 1.0  # m/s2, standard deviation of the acceleration in bends
YAW_NOISE, VELOCITY_NOISE = 0.05, 0.3  # of yaws (rad) and velocities (m/s) that a tracker gives
X, Y, YAW, SPEED, CURVATURE, ERROR_X, ERROR_Y = range(7)


@dataclass(frozen=True)
class Gait:
    """How a kind of agent moves; standard deviations.

    Args:
        acceleration: Of speed, m/s in the root of a second.
        curvature: Of the path, 1/m.
        curvature_s: Seconds over which it changes.
        turn: Of the heading on the spot, rad in the root of a second.
        backward: Fastest speed backward, m/s; faster means that it faces the other way.
        moved_m: Metres away from where it was 2 s before: it really moved.
    """

    acceleration: float
    curvature: float
    curvature_s: float
    turn: float
    backward: float
    moved_m: float


WHEELS = Gait(
    acceleration=2.0, curvature=0.05, curvature_s=1.0, turn=0.01, backward=3.0, moved_m=1.0
)
FEET = Gait(acceleration=1.0, curvature=0.3, curvature_s=1.0, turn=0.3, backward=0.3, moved_m=0.5)


@dataclass(frozen=True)
class Sightings:
    """What a tracker says of one agent, NaN where it does not.

    Args:
        time_s: ``(n,)`` ascending, seconds.
        position: ``(n, 2)`` x, y, metres.
        noise_m: ``(n,)`` standard deviation of the positions' error, as known at each time.
        yaw: ``(n,)`` radians.
        velocity: ``(n, 2)`` x, y, m/s.
        speed: ``(n,)`` m/s.
    """

    time_s: Array
    position: Array
    noise_m: Array
    yaw: Array
    velocity: Array
    speed: Array


def headings(seen: Sightings, gait: Gait) -> tuple[Array, Array]:
    """Headings at the times of the sightings.

    Returns:
        ``(n,)`` radians, each from what was seen until then, NaN before the first real motion; and
        ``(n,)`` the same from all that was seen, NaN in all where the agent never really moves.
    """
    nothing = np.full(len(seen.time_s), np.nan)
    begin = _first_motion(seen, gait)
    if begin is None:
        return nothing, nothing
    first, known, yaw = begin
    path = _filter(seen, gait, first, yaw)
    causal, whole = nothing.copy(), nothing.copy()
    causal[first:] = path.state[:, YAW]
    causal[:known] = np.nan  # not yet known then
    whole[first:] = _smooth(path, gait)
    whole[:first] = whole[first]
    return wrap_angle(causal), wrap_angle(whole)


def noise_levels(time_s: Array, track: NDArray[np.int64], position: Array) -> Array:
    """The noise of positions in a scene as known at each row, from the rows until then: ``(n,)``.

    It is that of third differences over 0.4 s, to which neither speed nor acceleration adds; most
    agents do not change theirs much. Their median so far is taken.

    Args:
        time_s: ``(n,)`` seconds, ascending within a track.
        track: ``(n,)`` numbers of tracks, the rows of one behind each other.
        position: ``(n, 2)`` x, y, metres.
    """
    import pandas as pd

    step_s = np.diff(time_s)[np.diff(track) == 0]
    lag = max(1, round(0.4 / float(np.median(step_s)))) if len(step_s) else 1
    third = np.full((len(time_s), 2), np.nan)
    if len(time_s) > 3 * lag:
        p = [position[k * lag : len(position) - (3 - k) * lag] for k in range(4)]
        same = track[3 * lag :] == track[: -3 * lag]
        third[3 * lag :] = np.where(same[:, None], p[3] - 3 * p[2] + 3 * p[1] - p[0], np.nan)
    # sqrt(13): of errors that are alike to exp(-0.4 / 0.3) after 0.4 s; 1.48 * median = deviation.
    size = pd.Series(1.48 / np.sqrt(13) * np.abs(third).mean(axis=1))
    order = np.argsort(time_s, kind="stable")
    so_far = size.iloc[order].expanding(min_periods=20).median()
    known = so_far.groupby(time_s[order]).transform("first").fillna(0.1)
    level = np.empty(len(time_s))
    level[order] = np.maximum(known.to_numpy(), LEAST_NOISE_M)
    return level


def _first_motion(seen: Sightings, gait: Gait) -> tuple[int, int, float] | None:
    """Where the first real motion begins, where it is known, and its heading; None = nowhere."""
    for last in range(len(seen.time_s)):
        if np.isfinite(seen.yaw[last]):
            return last, last, float(seen.yaw[last])
        fast = np.hypot(*seen.velocity[last])
        if fast > 1.0:  # False where NaN
            return last, last, float(np.arctan2(*seen.velocity[last, ::-1]))
        if last == 0 or seen.speed[last] < VELOCITY_NOISE:
            continue
        far_m = max(gait.moved_m, MOVED_NOISES * seen.noise_m[last])
        past = int(np.searchsorted(seen.time_s, seen.time_s[last] - MOVED_WITHIN_S))
        before = np.append(0, np.arange(past, last))
        way = seen.position[last] - seen.position[before]
        away = np.hypot(way[:, 0], way[:, 1])
        away[0] /= CREPT
        moved = np.flatnonzero((away >= far_m) & _confirmed(seen, before, last, far_m))
        if len(moved):
            return int(before[moved[-1]]), last, float(np.arctan2(*way[moved[-1], ::-1]))
    return None


def _confirmed(
    seen: Sightings, before: NDArray[np.int64], last: int, far_m: float
) -> NDArray[np.bool_]:
    """Whether the positions beside both ends say so as well; one alone may be far off."""
    position = seen.position
    to_last = np.hypot(*(position[last] - position[before + 1]).T)
    from_first = np.hypot(*(position[last - 1] - position[before]).T)
    slow = seen.time_s[last] - seen.time_s[last - 1] > CONFIRM_S
    confirmed: NDArray[np.bool_] = (np.minimum(to_last, from_first) > far_m / 2) | slow
    return confirmed


@dataclass(frozen=True)
class _Path:
    """States ``(m, 7)`` and covariances after each sighting, and how each came from the last.

    ``predicted`` and its covariance are those before the sighting; ``move`` the derivative of it by
    the state before; ``joined`` whether the state before is of the same motion; ``turned`` whether
    the agent was turned round.
    """

    state: Array
    covariance: Array
    predicted: Array
    predicted_covariance: Array
    move: Array
    joined: NDArray[np.bool_]
    turned: NDArray[np.bool_]


def _filter(seen: Sightings, gait: Gait, first: int, yaw: float) -> _Path:
    count = len(seen.time_s) - first
    states, squares = np.zeros((2, count, 7)), np.zeros((3, count, 7, 7))
    path = _Path(
        state=states[0],
        covariance=squares[0],
        predicted=states[1],
        predicted_covariance=squares[1],
        move=squares[2],
        joined=np.ones(count, bool),
        turned=np.zeros(count, bool),
    )
    ahead = min(first + 1, len(seen.time_s) - 1)
    span_s = max(seen.time_s[ahead] - seen.time_s[first], 1e-3)
    speed = float(np.hypot(*(seen.position[ahead] - seen.position[first])) / span_s)
    state, covariance = _start(seen, gait, first, yaw, speed)
    for place in range(count):
        row = first + place
        dt = seen.time_s[row] - seen.time_s[row - 1] if place else 0.0
        if place:
            surely = state[SPEED] + np.sqrt(max(covariance[SPEED, SPEED], 0.0))
            path.turned[place] = surely < -gait.backward
            if path.turned[place]:
                state, covariance = _turn_round(state, covariance)
            state, covariance, path.move[place] = _predict(
                state, covariance, gait, dt, seen.noise_m[row]
            )
        away, surprise, _ = _surprise(state, covariance, seen, row)
        switched = surprise > SWITCH and np.hypot(*away) > SWITCH_M
        path.joined[place] = dt <= MAX_GAP_S and not switched
        if not path.joined[place]:
            state, covariance = _start(seen, gait, row, state[YAW], float(state[SPEED]))
        path.predicted[place], path.predicted_covariance[place] = state, covariance
        state, covariance = _update(state, covariance, seen, row)
        path.state[place], path.covariance[place] = state, covariance
    return path


_POSITION = np.zeros((2, 7))
_POSITION[0, [X, ERROR_X]] = _POSITION[1, [Y, ERROR_Y]] = 1.0


def _start(seen: Sightings, gait: Gait, row: int, yaw: float, speed: float) -> tuple[Array, Array]:
    noise = seen.noise_m[row]
    # The speed to an error would swallow all other digits.
    speed = min(max(speed, -MAX_SPEED_M_S), MAX_SPEED_M_S)
    state = np.array([*seen.position[row], yaw, speed, 0.0, 0.0, 0.0])
    deviation = [noise, noise, 0.3, max(3.0, abs(speed) / 2), gait.curvature, noise, noise]
    covariance = np.diag(np.square(deviation))
    # The position seen is that of the agent plus the error, whatever each of them is.
    covariance[X, ERROR_X] = covariance[ERROR_X, X] = -(noise**2)
    covariance[Y, ERROR_Y] = covariance[ERROR_Y, Y] = -(noise**2)
    return state, covariance + 1e-6 * np.eye(7)


def _turn_round(state: Array, covariance: Array) -> tuple[Array, Array]:
    state = _ROUND * state
    state[YAW] += np.pi
    return state, _ROUND[:, None] * covariance * _ROUND


_ROUND = np.array([1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0])


def _predict(
    state: Array, covariance: Array, gait: Gait, dt: float, noise_m: float
) -> tuple[Array, Array, Array]:
    """State and covariance after ``dt`` seconds, and the derivative of the new state by the old."""
    _, _, yaw, speed, curvature, _, _ = state
    keep, forget = np.exp(-dt / gait.curvature_s), np.exp(-dt / NOISE_FORGET_S)
    turn = curvature * speed * dt
    along = np.array([np.cos(yaw + turn / 2), np.sin(yaw + turn / 2)])
    left = speed * dt * np.array([-along[1], along[0]])
    move = np.diag([1.0, 1.0, 1.0, 1.0, keep, forget, forget])
    move[:2, YAW] = left
    move[:2, SPEED] = along * dt + left * curvature * dt / 2
    move[:2, CURVATURE] = left * speed * dt / 2
    move[YAW, [SPEED, CURVATURE]] = curvature * dt, speed * dt
    new = state * np.array([1.0, 1.0, 1.0, 1.0, keep, forget, forget])
    new[:2] += speed * dt * along
    new[YAW] += turn
    error = noise_m**2 * (1 - forget**2)
    bend = min(gait.curvature, SIDEWAYS / max(speed**2, 1e-3))
    added = np.array(
        [
            *(1e-6, 1e-6, gait.turn**2 * dt, gait.acceleration**2 * dt),
            *(bend**2 * (1 - keep**2), error, error),
        ]
    )
    return new, move @ covariance @ move.T + np.diag(added), move


def _surprise(
    state: Array, covariance: Array, seen: Sightings, row: int
) -> tuple[Array, float, float]:
    """How far a position is from where it was expected; that squared in deviations; a variance."""
    away = seen.position[row] - _POSITION @ state
    spread = _POSITION @ covariance @ _POSITION.T + (WHITE * seen.noise_m[row]) ** 2 * np.eye(2)
    return away, float(away @ np.linalg.solve(spread, away)), float(np.trace(spread) / 2)


def _update(state: Array, covariance: Array, seen: Sightings, row: int) -> tuple[Array, Array]:
    """State and covariance with what was seen."""
    yaw = seen.yaw[row]
    away, surprise, variance = _surprise(state, covariance, seen, row)
    white = (WHITE * seen.noise_m[row]) ** 2 + variance * max(0.0, surprise / OUTLIER - 1)
    state, covariance = _correct(state, covariance, away, _POSITION, white)
    if np.isfinite(yaw):
        by = np.eye(7)[[YAW]]
        away = np.atleast_1d(wrap_angle(yaw - state[YAW]))
        state, covariance = _correct(state, covariance, away, by, YAW_NOISE**2)
    if np.isfinite(seen.velocity[row]).all():
        cos, sin, speed = np.cos(state[YAW]), np.sin(state[YAW]), state[SPEED]
        by = np.zeros((2, 7))
        by[:, YAW], by[:, SPEED] = (-speed * sin, speed * cos), (cos, sin)
        away = seen.velocity[row] - speed * np.array([cos, sin])
        state, covariance = _correct(state, covariance, away, by, VELOCITY_NOISE**2)
    elif np.isfinite(seen.speed[row]):
        by = np.copysign(1.0, state[SPEED]) * np.eye(7)[[SPEED]]
        away = seen.speed[row] - np.abs(state[[SPEED]])
        state, covariance = _correct(state, covariance, away, by, VELOCITY_NOISE**2)
    return state, covariance


def _correct(
    state: Array, covariance: Array, away: Array, by: Array, variance: float
) -> tuple[Array, Array]:
    spread = by @ covariance @ by.T + variance * np.eye(len(by))
    gain = np.linalg.solve(spread, by @ covariance).T
    covariance = covariance - gain @ by @ covariance
    return state + gain @ away, (covariance + covariance.T) / 2


def _smooth(path: _Path, gait: Gait) -> Array:
    """Headings ``(m,)`` from the whole path."""
    state = path.state.copy()
    for place in range(len(state) - 2, -1, -1):
        after = place + 1
        if not path.joined[after]:
            continue
        back = path.covariance[place] @ path.move[after].T
        if path.turned[after]:
            back = back * _ROUND[:, None]
        gain = np.linalg.solve(path.predicted_covariance[after], back.T).T
        state[place] += gain @ (state[after] - path.predicted[after])
    yaw = state[:, YAW]
    if gait is FEET:
        return yaw
    # Wheels do not turn round, so it faced one way all the time: that of the longer way.
    later = path.turned[::-1].cumsum()[::-1] - path.turned
    way = state[:, SPEED] * (-1.0) ** later
    backward = -way[way < 0].sum() > 2 * way[way > 0].sum() and path.turned.any()
    return yaw + np.pi * (later + backward)
