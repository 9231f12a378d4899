"""What trackers say of agents, side by side, and how agents move: the input of the filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WHITE = 0.3  # part of the error that does not vary slowly


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


@dataclass(frozen=True)
class Batch:
    """Sightings of agents side by side: place in the agent's own order first, then the agent.

    Args:
        count: ``(N,)`` sightings of each agent, descending.
        yaw_0: ``(N,)`` heading at the first, radians.
        on_wheels: ``(N,)`` whether each moves on wheels.
        acceleration, curvature, curvature_s, turn, backward: ``(N,)``, see :class:`Gait`.
        time_s, noise_m, yaw, speed: ``(M, N)``, see :class:`Sightings`; NaN past an agent's last.
        position, velocity: ``(M, N, 2)``, the same.
    """

    count: NDArray[np.int64]
    yaw_0: Array
    on_wheels: NDArray[np.bool_]
    acceleration: Array
    curvature: Array
    curvature_s: Array
    turn: Array
    backward: Array
    time_s: Array
    position: Array
    noise_m: Array
    yaw: Array
    velocity: Array
    speed: Array

    @cached_property
    def white(self) -> Array:
        """The variance of the part of the error that does not vary slowly, ``(M, N)``."""
        return np.square(WHITE * self.noise_m)

    @cached_property
    def told(self) -> NDArray[np.bool_]:
        """Whether a tracker tells more than a position of any agent, at each place."""
        known = np.isfinite([self.yaw, self.speed, self.velocity.sum(axis=2)])
        return np.asarray(known.any(axis=(0, 2)))

    @classmethod
    def of(cls, agents: Sequence[tuple[Sightings, Gait, int, float]]) -> Batch:
        """Agents from a sighting on, at which their heading is given; most sightings first."""
        seen = [(one, first) for one, _, first, _ in agents]
        gaits = [gait for _, gait, _, _ in agents]
        rows = ("time_s", "position", "noise_m", "yaw", "velocity", "speed")
        ways = ("acceleration", "curvature", "curvature_s", "turn", "backward")
        return cls(
            count=np.array([len(one.time_s) - first for one, first in seen]),
            yaw_0=np.array([yaw for *_, yaw in agents]),
            on_wheels=np.array([gait is WHEELS for gait in gaits]),
            **{name: np.array([getattr(gait, name) for gait in gaits]) for name in ways},
            **{n: _side_by_side([getattr(one, n)[first:] for one, first in seen]) for n in rows},
        )

    def seen_at(self, place: NDArray[np.int64]) -> list[int]:
        """How many agents, the first ones, have a sighting at each of some places."""
        seen: list[int] = np.searchsorted(-self.count, -place).tolist()
        return seen


def _side_by_side(rows: Sequence[Array]) -> Array:
    stacked = np.full((len(rows[0]), len(rows), *rows[0].shape[1:]), np.nan)
    for column, values in enumerate(rows):
        stacked[: len(values), column] = values
    return stacked
