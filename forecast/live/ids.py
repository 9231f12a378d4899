"""Whom the numbers that a model counts agents by belong to."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence, Set
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.jumps import MAX_SPEED_M_S, TOLERANCE_M
from forecast.errors import DataError
from forecast.schema import MAX_INSTANCE_ID


@dataclass(frozen=True)
class _Known:
    number: int
    time_s: float
    frame: int
    place: list[float] | None = None


def leaps(before: Sequence[float], now: Sequence[float], since_s: float) -> bool:
    """Whether the way between two places x, y is longer than any vehicle drives in some seconds."""
    return math.dist(before, now) > MAX_SPEED_M_S * since_s + TOLERANCE_M


class IdPool:
    """Gives every id of a stack a number from 1 for as long as a model may know it.

    An id that has been seen neither in the last ``frames`` frames nor in the last ``seconds`` is
    forgotten. One that has leapt as no vehicle does is somebody new, and gets another number: what
    was known of the agent that had the id before says nothing of it. A freed number is reused only
    after all other numbers; by then the model has dropped the agent that had it.

    Args:
        frames: Frames that a model remembers.
        seconds: Longest time for which it forecasts someone who is hidden.
        most: Numbers that there are.

    Attributes:
        leapt: Numbers that were freed in the last frame because their agents had leapt.
    """

    def __init__(self, frames: int, seconds: float, most: int = MAX_INSTANCE_ID) -> None:
        self.frames, self.seconds, self.most = frames, seconds, most
        self._known: dict[Hashable, _Known] = {}
        self._owner: dict[int, Hashable] = {}
        self._next = 1
        self.leapt: list[int] = []

    def __len__(self) -> int:
        return len(self._known)

    def copy(self) -> IdPool:
        """The same pool, to be changed without changing this one."""
        other = copy(self)
        other._known, other._owner = dict(self._known), dict(self._owner)
        return other

    def owner(self, number: int) -> Hashable:
        """Whose number it is."""
        return self._owner[number]

    def without_slot(self, frame: int, slots: Set[int]) -> set[Hashable]:
        """Those seen in a frame whose numbers have none of a model's slots."""
        seen = {id_: known.number for id_, known in self._known.items() if known.frame == frame}
        return {id_ for id_, number in seen.items() if number not in slots}

    def numbers(
        self,
        ids: Sequence[Hashable],
        time_s: float,
        frame: int,
        places: NDArray[np.float64] | None = None,
    ) -> list[int]:
        """The numbers of those who are seen in a frame.

        Args:
            ids: Who they are, each once.
            time_s: When.
            frame: Which frame it is, counted.
            places: ``(N, 2)`` x, y of each in the world, metres; None = not known.

        Raises:
            DataError: More are remembered than there are numbers.
        """
        self._forget(time_s, frame)
        where = [None] * len(ids) if places is None else places.tolist()
        seen = list(zip(ids, where, strict=True))
        self.leapt = [self._drop(id_) for id_, place in seen if self._leaps(id_, place, time_s)]
        found = []
        for id_, place in seen:
            known = self._known.get(id_)
            number = self._free() if known is None else known.number
            self._known[id_], self._owner[number] = _Known(number, time_s, frame, place), id_
            found.append(number)
        return found

    def _leaps(self, id_: Hashable, place: list[float] | None, time_s: float) -> bool:
        known = self._known.get(id_)
        if known is None or known.place is None or place is None:
            return False
        return leaps(known.place, place, time_s - known.time_s)

    def _drop(self, id_: Hashable) -> int:
        """Forgets one; the number that it had."""
        number = self._known.pop(id_).number
        del self._owner[number]
        return number

    def _forget(self, time_s: float, frame: int) -> None:
        gone = [
            id_
            for id_, known in self._known.items()
            if frame - known.frame >= self.frames and time_s - known.time_s > self.seconds
        ]
        for id_ in gone:
            self._drop(id_)

    def _free(self) -> int:
        if len(self._known) >= self.most:
            wanted = f"{self.most} ids within {self.seconds:g} s at most"
            raise DataError(wanted, "more", "give an agent the same id in every frame")
        while self._next in self._owner:
            self._next = self._next % self.most + 1
        number = self._next
        self._next = self._next % self.most + 1
        return number
