"""Headings of tracks from where they were seen, robust against a tracker's noise.

An extended Kalman filter whose agent turns only while it moves, as wheels do: a parked car's jitter
is then no heading, and noise no turn. What a tracker adds varies slowly, over some tenths of a
second; it is a part of the state, so that it is not taken for motion. The filter knows the past
alone; a Rauch-Tung-Striebel smoother after it knows the whole track. Both are in
:mod:`data_tools.heading_filter`; here is where motion begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.heading_batch import FEET, WHEELS, Batch, Gait, Sightings
from data_tools.heading_filter import VELOCITY_NOISE, YAW, filtered, smoothed
from data_tools.labels.rasterise import ranges
from forecast.angles import wrap_angle

__all__ = ["FEET", "WHEELS", "Gait", "Sightings", "headings", "headings_of", "noise_levels"]

Array = NDArray[np.float64]

LEAST_NOISE_M = 0.02
MOVED_NOISES, MOVED_WITHIN_S = 6.0, 2.0  # so many times the noise away in this time: really moved
CREPT = 2.0  # times that from where it was first seen, in any time
CONFIRM_S = 0.3  # where steps are no longer, one position alone tells no motion
BLOCK = 64  # sightings that are searched at once for the first motion
MOST_SIDE_BY_SIDE = 2**13  # sightings of agents that are filtered together, a kilobyte each


def headings(seen: Sightings, gait: Gait) -> tuple[Array, Array]:
    """Headings of one agent at the times of its sightings, see :func:`headings_of`."""
    return headings_of([seen], [gait])[0]


def headings_of(agents: Sequence[Sightings], gaits: Sequence[Gait]) -> list[tuple[Array, Array]]:
    """Headings of agents at the times of their sightings, together, which is faster.

    Returns:
        For each agent ``(n,)`` radians, each from what was seen until then, NaN before the first
        real motion; and ``(n,)`` the same from all that was seen, NaN in all where the agent never
        really moves.
    """
    found = [(np.full(len(a.time_s), np.nan), np.full(len(a.time_s), np.nan)) for a in agents]
    moving = _first_motions(agents, gaits)
    count = {agent: len(agents[agent].time_s) - first for agent, (first, _, _) in moving.items()}
    for together in _batches(count):
        batch = Batch.of([(agents[a], gaits[a], moving[a][0], moving[a][2]) for a in together])
        path = filtered(batch)
        smooth = smoothed(batch, path)
        for column, agent in enumerate(together):
            first, known, _ = moving[agent]
            causal, whole = found[agent]
            causal[first:] = wrap_angle(path.state[: count[agent], column, YAW])
            causal[:known] = np.nan  # not yet known then
            whole[first:] = wrap_angle(smooth[: count[agent], column])
            whole[:first] = whole[first]
    return found


def _batches(count: Mapping[int, int]) -> Iterator[list[int]]:
    """Agents of about as many sightings, most first, few enough to be filtered together."""
    together: list[int] = []
    for agent in sorted(count, key=lambda agent: -count[agent]):
        if together and (len(together) + 1) * count[together[0]] > MOST_SIDE_BY_SIDE:
            yield together
            together = []
        together.append(agent)
    if together:
        yield together


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
    # No lag is longer than the track, however small its steps.
    lag = max(1, round(min(0.4 / float(np.median(step_s)), len(time_s)))) if len(step_s) else 1
    third = np.full((len(time_s), 2), np.nan)
    if len(time_s) > 3 * lag:
        p = [position[k * lag : len(position) - (3 - k) * lag] for k in range(4)]
        same = track[3 * lag :] == track[: -3 * lag]
        third[3 * lag :] = np.where(same[:, None], p[3] - 3 * p[2] + 3 * p[1] - p[0], np.nan)
    # sqrt(13): of errors that are alike to exp(-0.4 / 0.3) after 0.4 s; 1.48 * median = deviation.
    size = pd.Series(1.48 / np.sqrt(13) * np.abs(third).mean(axis=1))
    order = np.argsort(time_s, kind="stable")
    so_far = size.iloc[order].expanding(min_periods=20).median()
    known = _first_of_each(so_far.to_numpy(), time_s[order])
    level = np.empty(len(time_s))
    level[order] = np.maximum(np.where(np.isnan(known), 0.1, known), LEAST_NOISE_M)
    return level


def _first_of_each(so_far: Array, time_s: Array) -> Array:
    """At each of some times, ascending, the first value of that time; values are NaN at first."""
    starts = np.flatnonzero(np.append(True, np.diff(time_s) != 0))
    count = np.diff(np.append(starts, len(time_s)))
    known = int(np.append(np.isnan(so_far), False).argmin())  # from there on
    first = np.minimum(np.maximum(starts, known), starts + count - 1)
    return np.repeat(so_far[first], count)


def _first_motions(
    agents: Sequence[Sightings], gaits: Sequence[Gait]
) -> dict[int, tuple[int, int, float]]:
    """Where the first real motion of each agent begins, where it is known, and its heading.

    Agents that never move are left out.
    """
    rows = _Rows.of(agents, gaits)
    found: dict[int, tuple[int, int, float]] = {}
    for start in range(1, max(rows.told, default=0), BLOCK):
        waiting = [agent for agent in np.flatnonzero(rows.told > start) if agent not in found]
        stop = np.minimum(start + BLOCK, rows.told[waiting])
        block = ranges(rows.begin[waiting] + start, stop - start)
        found |= _first_ways(rows, block[~(rows.speed[block] < VELOCITY_NOISE)])
    for agent, (seen, told) in enumerate(zip(agents, rows.told, strict=True)):
        if agent not in found and told < len(seen.time_s):
            yaw, (x, y) = seen.yaw[told], seen.velocity[told]
            found[agent] = told, told, float(yaw if np.isfinite(yaw) else np.arctan2(y, x))
    return found


@dataclass(frozen=True)
class _Rows:
    """The sightings of several agents, one after another.

    Args:
        begin: ``(N,)`` the first sighting of each agent.
        told: ``(N,)`` the first of its own that tells a heading, their number if none does.
        agent: ``(n,)`` whose each is.
        moved_m: ``(n,)``, see :class:`Gait`.
        past: ``(n,)`` the first sighting of the same agent that is not too long before.
        time_s, position, noise_m, speed: See :class:`Sightings`.
    """

    begin: NDArray[np.int64]
    told: NDArray[np.int64]
    agent: NDArray[np.int64]
    moved_m: Array
    past: NDArray[np.int64]
    time_s: Array
    position: Array
    noise_m: Array
    speed: Array

    @classmethod
    def of(cls, agents: Sequence[Sightings], gaits: Sequence[Gait]) -> _Rows:
        """The sightings of agents."""
        count = np.array([len(seen.time_s) for seen in agents], np.int64)
        begin = count.cumsum() - count
        time_s, position, noise_m, yaw, velocity, speed = (
            np.concatenate([getattr(seen, name) for seen in agents])
            for name in ("time_s", "position", "noise_m", "yaw", "velocity", "speed")
        )
        fast = np.hypot(velocity[:, 0], velocity[:, 1]) > 1.0  # False where NaN
        tells = np.isfinite(yaw) | fast
        own = ranges(np.zeros_like(count), count)
        past = [np.searchsorted(seen.time_s, seen.time_s - MOVED_WITHIN_S) for seen in agents]
        return cls(
            begin=begin,
            told=np.minimum.reduceat(np.where(tells, own, np.repeat(count, count)), begin),
            agent=np.repeat(np.arange(len(agents)), count),
            moved_m=np.repeat([gait.moved_m for gait in gaits], count),
            past=np.concatenate(past) + np.repeat(begin, count),
            time_s=time_s,
            position=position,
            noise_m=noise_m,
            speed=speed,
        )


def _first_ways(seen: _Rows, rows: NDArray[np.int64]) -> dict[int, tuple[int, int, float]]:
    """Of each agent the first of some sightings to which a way leads that is motion, not noise."""
    past = seen.past[rows]
    # Each is compared with the first of all and with those of the last seconds.
    count = rows - past + 1
    before, last = ranges(past - 1, count), np.repeat(rows, count)
    of_all = count.cumsum() - count
    before[of_all] = seen.begin[seen.agent[rows]]
    way = seen.position[last] - seen.position[before]
    away = np.hypot(way[:, 0], way[:, 1])
    away[of_all] /= CREPT
    far_m = np.repeat(np.maximum(seen.moved_m[rows], MOVED_NOISES * seen.noise_m[rows]), count)
    far = np.flatnonzero(away >= far_m)
    moved = far[_confirmed(seen, before[far], last[far], far_m[far])]
    agent, first = np.unique(seen.agent[last[moved]], return_index=True)
    # Of the ways to that sighting the shortest in time.
    nearest = moved[np.searchsorted(last[moved], last[moved[first]], side="right") - 1]
    yaw = np.arctan2(way[nearest, 1], way[nearest, 0])
    begin = seen.begin[agent]
    ways = zip(before[nearest] - begin, last[nearest] - begin, yaw, strict=True)
    return {
        int(of): (int(start), int(known), float(to))
        for of, (start, known, to) in zip(agent, ways, strict=True)
    }


def _confirmed(
    seen: _Rows, before: NDArray[np.int64], last: NDArray[np.int64], far_m: Array
) -> NDArray[np.bool_]:
    """Whether the positions beside both ends say so as well; one alone may be far off."""
    position = seen.position
    to_last, from_first = (
        position[last] - position[before + 1],
        position[last - 1] - position[before],
    )
    nearer = np.minimum(np.hypot(*to_last.T), np.hypot(*from_first.T))
    slow = seen.time_s[last] - seen.time_s[last - 1] > CONFIRM_S
    confirmed: NDArray[np.bool_] = (nearer > far_m / 2) | slow
    return confirmed
