"""Sizes and speeds of a whole store by class: sides swapped, feet for metres, a wrong time step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.doctor.clip import FAST_M_S, ON_ROADS, Clip, Finding

FEWEST = 3
CREEPING_M_S = 0.05  # slower is parked

CAR = ((2.5, 14.0), (1.2, 3.2))
LORRY = ((4.0, 25.0), (1.5, 3.5))
TWO_WHEELS = ((1.0, 3.0), (0.3, 1.5))
SIZES_M: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "vehicle": CAR,
    "car": CAR,
    "van": CAR,
    "truck": LORRY,
    "bus": LORRY,
    "trailer": LORRY,
    "cyclist": TWO_WHEELS,
    "motorcycle": TWO_WHEELS,
    "pedestrian": ((0.2, 1.6), (0.2, 1.6)),
}
"""Class -> range of its longer and of its shorter side, of which the median of a store must be."""

UNITS = {
    "feet? Multiply by 0.3048": 0.3048,
    "centimetres? Divide by 100": 0.01,
    "half of the sides? Multiply by 2": 2.0,
    "inches? Multiply by 0.0254": 0.0254,
}
FASTEST_MEDIAN_M_S = {"pedestrian": 4.0, "cyclist": 15.0}
FASTEST_ON_WHEELS_M_S = 50.0
"""Of those that move, the median of a store is slower."""


@dataclass
class SizesAndSpeeds:
    """Asks a store whether its classes have the sizes and speeds of what they are called.

    Attributes:
        sides: Class -> length and width of each track, metres.
        speeds: Class -> speed of each track over the frames it is seen in, m/s.
    """

    sides: defaultdict[str, list[NDArray[Any]]] = field(default_factory=lambda: defaultdict(list))
    speeds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    egos: list[float] = field(default_factory=list)

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the tracks of one sequence."""
        del sequence, scene  # the whole store is asked
        if speed := _speed(clip.ego_pose[:, :2], clip.dt_s):
            self.egos.append(speed)
        if clip.state is None or clip.label is None:
            return
        for track, label in enumerate(clip.label.tolist()):
            state = clip.state[track][np.isfinite(clip.state[track]).all(axis=-1)]
            if label and len(state):
                self.sides[clip.named(label)].append(np.median(state[:, 3:], axis=0))
                speed = _speed(clip.state[track, :, :2], clip.dt_s)
                if speed is not None:
                    self.speeds[clip.named(label)].append(speed)

    def findings(self) -> Iterator[Finding]:
        """What no store of road users has."""
        for name, sides in self.sides.items():
            if len(sides) >= FEWEST:
                yield from _sides(name, np.array(sides))
        for name, speeds in self.speeds.items():
            yield from _too_fast(name, np.array(speeds))
        yield from self._nobody_drives()

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        most = max((len(sides) for sides in self.sides.values()), default=0)
        return "" if most >= FEWEST else f"no class has {FEWEST} agents"

    def _nobody_drives(self) -> Iterator[Finding]:
        """All that is on wheels creeps, although it moves: not what parked or jammed traffic does.

        In a jam somebody stands; where time is wrong, pedestrians creep too.
        """
        wheels = [speed for name in ON_ROADS for speed in self.speeds.get(name, ())]
        moving = np.array([speed for speed in wheels if speed > CREEPING_M_S])
        fastest = max([0.0, *wheels, *self.egos, *self.speeds.get("pedestrian", ())])
        if len(moving) >= FEWEST and 2 * len(moving) > len(wheels) and fastest < FAST_M_S / 2:
            yield Finding(
                f"no agent is faster than a walker ({fastest:.1f} m/s), though {len(moving)} of"
                f" {len(wheels)} on wheels move: frame numbers for seconds? Divide times by the"
                " frame rate"
            )


def _speed(path: NDArray[Any], dt_s: float) -> float | None:
    """From where a path ``(T, 2)`` is first seen to where it is last, m/s; None if seen once."""
    (seen,) = np.nonzero(np.isfinite(path).all(axis=-1))
    if len(seen) < 2:
        return None
    first, last = int(seen[0]), int(seen[-1])
    return float(np.linalg.norm(path[last] - path[first]) / ((last - first) * dt_s))


def _sides(name: str, sides: NDArray[Any]) -> Iterator[Finding]:
    """Of one class, ``(tracks, 2)`` length and width."""
    wide = int((sides[:, 1] > sides[:, 0]).sum())
    if name in ON_ROADS and 2 * wide > len(sides):
        yield Finding(
            f"{wide} of {len(sides)} of class {name} are wider than long: length and width"
            " swapped? Swap them"
        )
    typical = np.sort(np.median(sides, axis=0))[::-1]
    if name not in SIZES_M or _within(typical, name):
        return
    units = [unit for unit, factor in UNITS.items() if _within(typical * factor, name)]
    reason = units[0] if units else "another unit, or another class?"
    yield Finding(
        f"{len(sides)} of class {name} are {typical[0]:.1f} x {typical[1]:.1f} m (median): {reason}"
    )


def _within(typical: NDArray[Any], name: str) -> bool:
    return all(
        low <= side <= high for side, (low, high) in zip(typical, SIZES_M[name], strict=True)
    )


def _too_fast(name: str, speeds: NDArray[Any]) -> Iterator[Finding]:
    """Of one class, the speed of each track."""
    limit = FASTEST_MEDIAN_M_S.get(name, FASTEST_ON_WHEELS_M_S)
    moving = speeds[speeds > FAST_M_S / 4]
    if len(moving) >= FEWEST and (typical := float(np.median(moving))) > limit:
        yield Finding(
            f"{len(moving)} of class {name} move at {typical:.0f} m/s (median): classes mixed up,"
            " feet for metres, or a wrong time step?"
        )
