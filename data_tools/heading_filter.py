"""An extended Kalman filter of positions, and the smoother after it, for many agents at a time.

Agents of one batch are filtered side by side, sighting by sighting: at each place the ones that are
still seen are the first columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.heading_batch import Batch
from forecast.angles import wrap_angle

Array = NDArray[np.float64]

NOISE_FORGET_S = 0.3  # time constant of a tracker's error
MAX_GAP_S = 1.0  # a longer one ends what is known of the motion, but for the heading
# Squared distances of a position from what was expected, in standard deviations: from the first on
# it counts for less, from the second on, if it is also far, another agent has taken the id.
OUTLIER, SWITCH, SWITCH_M = 9.0, 30.0, 2.0
MAX_SPEED_M_S = 100.0
SIDEWAYS = 1.0  # m/s2, standard deviation of the acceleration in bends
YAW_NOISE, VELOCITY_NOISE = 0.05, 0.3  # of yaws (rad) and velocities (m/s) that a tracker gives
X, Y, YAW, SPEED, CURVATURE, ERROR_X, ERROR_Y = range(7)


@dataclass(frozen=True)
class Path:
    """States ``(M, N, 7)`` and covariances after each sighting, and how each came from the last.

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


def filtered(batch: Batch) -> Path:
    """The states of agents from what was seen until each sighting."""
    shape = batch.time_s.shape
    states, covariances = np.zeros((2, *shape, 7)), np.zeros((2, *shape, 7, 7))
    way = _Way.of(batch)
    path = Path(
        state=states[0],
        covariance=covariances[0],
        predicted=states[1],
        predicted_covariance=covariances[1],
        move=way.move,
        joined=np.ones(shape, bool),
        turned=np.zeros(shape, bool),
    )
    state, covariance = _start(batch, 0, np.arange(shape[1]), batch.yaw_0, _first_speed(batch))
    for place, agents in enumerate(batch.seen_at(np.arange(shape[0]))):
        now = slice(agents)
        state, covariance = state[now], covariance[now]
        if place:
            surely = state[:, SPEED] + np.sqrt(np.maximum(covariance[:, SPEED, SPEED], 0.0))
            turned = path.turned[place, now] = surely < -batch.backward[now]
            if turned.any():
                state, covariance = _turn_round(state, covariance, turned)
            state, covariance = _predict(state, covariance, batch, way, place)
        surprised = _surprise(state, covariance, batch, place)
        joined = way.dt[place, now] <= MAX_GAP_S
        if (far := surprised.squared > SWITCH).any():
            joined &= ~(far & (np.hypot(*surprised.away.T) > SWITCH_M))
        path.joined[place, now] = joined
        if not joined.all():
            new = np.flatnonzero(~joined)
            state[new], covariance[new] = _start(
                batch, place, new, state[new, YAW], state[new, SPEED]
            )
            surprised = _surprise(state, covariance, batch, place)
        path.predicted[place, now], path.predicted_covariance[place, now] = state, covariance
        state, covariance = _update(state, covariance, batch, place, surprised)
        path.state[place, now], path.covariance[place, now] = state, covariance
    return path


def _first_speed(batch: Batch) -> Array:
    ahead = np.minimum(1, batch.count - 1), np.arange(len(batch.count))
    span_s = np.maximum(batch.time_s[ahead] - batch.time_s[0], 1e-3)
    way = batch.position[ahead] - batch.position[0]
    return np.asarray(np.hypot(way[:, 0], way[:, 1]) / span_s)


def _start(
    batch: Batch, place: int, agents: NDArray[np.int64], yaw: Array, speed: Array
) -> tuple[Array, Array]:
    noise = batch.noise_m[place, agents]
    # The speed to an error would swallow all other digits.
    speed = speed.clip(-MAX_SPEED_M_S, MAX_SPEED_M_S)
    state = np.zeros((len(agents), 7))
    state[:, :2], state[:, YAW], state[:, SPEED] = batch.position[place, agents], yaw, speed
    deviation = np.empty((len(agents), 7))
    deviation[:, [X, Y, ERROR_X, ERROR_Y]] = noise[:, None]
    deviation[:, YAW], deviation[:, CURVATURE] = 0.3, batch.curvature[agents]
    deviation[:, SPEED] = np.maximum(3.0, np.abs(speed) / 2)
    covariance = np.square(deviation)[:, :, None] * np.eye(7)
    # The position seen is that of the agent plus the error, whatever each of them is.
    for axis, error in ((X, ERROR_X), (Y, ERROR_Y)):
        covariance[:, axis, error] = covariance[:, error, axis] = -(noise**2)
    return state, covariance + 1e-6 * np.eye(7)


def _turn_round(state: Array, covariance: Array, turned: NDArray[np.bool_]) -> tuple[Array, Array]:
    ways = np.where(turned[:, None], _ROUND, 1.0)
    state = ways * state
    state[turned, YAW] += np.pi
    return state, ways[:, :, None] * covariance * ways[:, None]


_ROUND = np.array([1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Way:
    """What of the way from each sighting to the next one does not depend on the state.

    Args:
        dt: ``(M, N)`` seconds since the sighting before; 0 at the first.
        kept: ``(M, N, 7)`` what is kept of each number.
        added: ``(M, N, 7)`` what is added to each variance; of the curvature's for one of 1/m.
        move: ``(M, N, 7, 7)`` the derivative of the new state by the old one, to be completed.
    """

    dt: Array
    kept: Array
    added: Array
    move: Array

    @classmethod
    def of(cls, batch: Batch) -> _Way:
        """The way of each agent."""
        dt = np.diff(batch.time_s, axis=0, prepend=batch.time_s[:1])
        keep, forget = np.exp(-dt / batch.curvature_s), np.exp(-dt / NOISE_FORGET_S)
        kept, added = np.ones((*dt.shape, 7)), np.full((*dt.shape, 7), 1e-6)
        kept[..., CURVATURE] = keep
        kept[..., ERROR_X] = kept[..., ERROR_Y] = forget
        added[..., YAW] = batch.turn**2 * dt
        added[..., SPEED] = batch.acceleration**2 * dt
        added[..., CURVATURE] = 1 - keep**2
        added[..., ERROR_X] = added[..., ERROR_Y] = batch.noise_m**2 * (1 - forget**2)
        return cls(dt, kept, added, kept[..., None] * np.eye(7))


def _predict(
    state: Array, covariance: Array, batch: Batch, way: _Way, place: int
) -> tuple[Array, Array]:
    """State and covariance at the next sighting; completes the derivative of it in ``way``."""
    now = slice(len(state))
    dt, move = way.dt[place, now], way.move[place, now]
    speed, curvature = state[:, SPEED], state[:, CURVATURE]
    straight = speed * dt
    turn = curvature * speed * dt
    along, left = np.empty((2, len(state), 2))
    angle = state[:, YAW] + turn / 2
    np.cos(angle, out=along[:, 0])
    np.sin(angle, out=along[:, 1])
    left[:, 0], left[:, 1] = -straight * along[:, 1], straight * along[:, 0]
    half = left * (dt / 2)[:, None]
    move[:, :2, YAW] = left
    move[:, :2, SPEED] = along * dt[:, None] + half * curvature[:, None]
    move[:, :2, CURVATURE] = half * speed[:, None]
    move[:, YAW, SPEED], move[:, YAW, CURVATURE] = curvature * dt, straight
    new = state * way.kept[place, now]
    new[:, :2] += straight[:, None] * along
    new[:, YAW] += turn
    added = way.added[place, now].copy()
    added[:, CURVATURE] *= (
        np.minimum(batch.curvature[now], SIDEWAYS / np.maximum(speed**2, 1e-3)) ** 2
    )
    covariance = move @ covariance @ move.mT
    covariance.reshape(-1, 49)[:, ::8] += added  # the diagonals
    return new, covariance


@dataclass(frozen=True)
class _Surprise:
    """How far positions are from where they were expected.

    Args:
        away: ``(n, 2)`` metres.
        squared: ``(n,)`` that squared, in deviations.
        seen: ``(n, 2, 7)`` the covariance of the position expected and the state.
        spread: ``(n, 2, 2)`` that of the position.
    """

    away: Array
    squared: Array
    seen: Array
    spread: Array


def _surprise(state: Array, covariance: Array, batch: Batch, place: int) -> _Surprise:
    now = slice(len(state))
    away = batch.position[place, now] - state[:, :2] - state[:, ERROR_X:]
    seen = _position(covariance)
    spread = _position(seen.mT)
    squared = (_times(_inverse(spread, batch.white[place, now]), away) * away).sum(axis=1)
    return _Surprise(away, squared, seen, spread)


def _position(rows: Array) -> Array:
    """Where an agent is seen: its own place and the error; ``(n, 7, k)`` to ``(n, 2, k)``."""
    return rows[:, :2] + rows[:, ERROR_X:]


def _update(
    state: Array,
    covariance: Array,
    batch: Batch,
    place: int,
    surprised: _Surprise,
) -> tuple[Array, Array]:
    """State and covariance with what was seen, and what :func:`_surprise` says of it."""
    now = slice(len(state))
    white, spread = batch.white[place, now], surprised.spread
    variance = (spread[:, 0, 0] + spread[:, 1, 1]) / 2 + white
    white = white + variance * np.fmax(0.0, surprised.squared / OUTLIER - 1)
    state, covariance = _corrected(state, covariance, surprised.away, surprised.seen, spread, white)
    if not batch.told[place]:
        return state, covariance
    yaw, velocity, speed = (a[place, now] for a in (batch.yaw, batch.velocity, batch.speed))
    some = np.flatnonzero(np.isfinite(yaw))
    if len(some):
        away = wrap_angle(yaw[some] - state[some, YAW])[:, None]
        _correct(state, covariance, some, away, np.eye(7)[[YAW]], YAW_NOISE)
    with_velocity = np.isfinite(velocity).all(axis=1)
    some = np.flatnonzero(with_velocity)
    if len(some):
        along = np.stack([np.cos(state[some, YAW]), np.sin(state[some, YAW])], axis=1)
        forward = state[some, SPEED, None]
        by = np.zeros((len(some), 2, 7))
        by[:, :, SPEED] = along
        by[:, 0, YAW], by[:, 1, YAW] = (-forward[:, 0] * along[:, 1], forward[:, 0] * along[:, 0])
        _correct(state, covariance, some, velocity[some] - forward * along, by, VELOCITY_NOISE)
    some = np.flatnonzero(np.isfinite(speed) & ~with_velocity)
    if len(some):
        by = np.copysign(1.0, state[some, SPEED])[:, None, None] * np.eye(7)[[SPEED]]
        away = (speed[some] - np.abs(state[some, SPEED]))[:, None]
        _correct(state, covariance, some, away, by, VELOCITY_NOISE)
    return state, covariance


def _correct(
    state: Array,
    covariance: Array,
    some: NDArray[np.int64],
    away: Array,
    by: Array,
    deviation: float,
) -> None:
    """Corrects some agents in place: ``by`` is the derivative of what they see by their states."""
    seen = by @ covariance[some]
    state[some], covariance[some] = _corrected(
        state[some],
        covariance[some],
        away,
        seen,
        seen @ by.mT,
        np.full(len(some), deviation**2),
    )


def _corrected(
    state: Array, covariance: Array, away: Array, seen: Array, spread: Array, variance: Array
) -> tuple[Array, Array]:
    """States that see themselves off so far.

    Args:
        state: ``(n, 7)``.
        covariance: ``(n, 7, 7)``.
        away: ``(n, m)`` how far, in each of one or two numbers.
        seen: ``(n, m, 7)`` the covariance of these numbers and the state.
        spread: ``(n, m, m)`` that of these numbers.
        variance: ``(n,)`` of the error with which they are seen.
    """
    gain = seen.mT @ _inverse(spread, variance)
    covariance = covariance - gain @ seen
    return state + _times(gain, away), (covariance + covariance.mT) / 2


def _inverse(spread: Array, variance: Array) -> Array:
    """The inverses of symmetric matrices of one row or two, a variance added to the diagonals."""
    if spread.shape[-1] == 1:
        return 1 / (spread + variance[:, None, None])
    one, other = spread[:, 0, 0] + variance, spread[:, 1, 1] + variance
    both = spread[:, 0, 1]
    inverse = np.empty_like(spread)
    inverse[:, 0, 0], inverse[:, 1, 1] = other, one
    inverse[:, 0, 1] = inverse[:, 1, 0] = -both
    return inverse / (one * other - both * both)[:, None, None]


def _times(matrix: Array, vector: Array) -> Array:
    """Matrices ``(n, m, k)`` by vectors ``(n, k)``: ``(n, m)``."""
    return np.asarray((matrix @ vector[:, :, None])[:, :, 0])


def smoothed(batch: Batch, path: Path) -> Array:
    """Headings ``(M, N)`` from the whole of each path."""
    state = path.state.copy()
    gain = _smoother_gain(batch, path)
    for place in range(len(state) - 2, -1, -1):
        state[place] += _times(gain[place], state[place + 1] - path.predicted[place + 1])
    yaw = state[..., YAW]
    # Wheels do not turn round, so it faced one way all the time: that of the longer way.
    later = path.turned[::-1].cumsum(axis=0)[::-1] - path.turned
    way = state[..., SPEED] * (-1.0) ** later
    for column in np.flatnonzero(batch.on_wheels):
        count = batch.count[column]
        made, turned = way[:count, column], path.turned[:, column].any()
        backward = -made[made < 0].sum() > 2 * made[made > 0].sum() and turned
        yaw[:, column] += np.pi * (later[:, column] + backward)
    return yaw


def _smoother_gain(batch: Batch, path: Path) -> Array:
    """What of an error of the prediction a state takes on: ``(M - 1, N, 7, 7)``."""
    gain = np.zeros_like(path.covariance[:-1])
    later = np.arange(1, len(path.state))
    of_same = path.joined[1:] & (later[:, None] < batch.count)
    # Who is turned round is so before it moves.
    ways = np.where(path.turned[1:][of_same][:, None], _ROUND, 1.0)
    back: Array = path.covariance[:-1][of_same] * ways[:, None] @ path.move[1:][of_same].mT
    gain[of_same] = np.linalg.solve(path.predicted_covariance[1:][of_same], back.mT).mT
    return gain
