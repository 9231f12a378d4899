"""Whom the numbers that a model counts agents by belong to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Set
from copy import copy
from dataclasses import dataclass

from forecast.errors import DataError
from forecast.schema import MAX_INSTANCE_ID


@dataclass(frozen=True)
class _Known:
    number: int
    time_s: float
    frame: int


class IdPool:
    """Gives every id of a stack a number from 1 for as long as a model may know it.

    An id that has been seen neither in the last ``frames`` frames nor in the last ``seconds`` is
    forgotten. A freed number is reused only after all other numbers; by then the model has dropped
    the agent that had it.

    Args:
        frames: Frames that a model remembers.
        seconds: Longest time for which it forecasts someone who is hidden.
        most: Numbers that there are.
    """

    def __init__(self, frames: int, seconds: float, most: int = MAX_INSTANCE_ID) -> None:
        self.frames, self.seconds, self.most = frames, seconds, most
        self._known: dict[Hashable, _Known] = {}
        self._owner: dict[int, Hashable] = {}
        self._next = 1

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

    def without_slot(self, frame: int, slots: Set[int]) -> int:
        """How many of those seen in a frame have none of a model's slots."""
        seen = (known.number for known in self._known.values() if known.frame == frame)
        return sum(number not in slots for number in seen)

    def numbers(self, ids: Iterable[Hashable], time_s: float, frame: int) -> list[int]:
        """The numbers of those who are seen in a frame.

        Args:
            ids: Who they are, each once.
            time_s: When.
            frame: Which frame it is, counted.

        Raises:
            DataError: More are remembered than there are numbers.
        """
        self._forget(time_s, frame)
        found = []
        for id_ in ids:
            known = self._known.get(id_)
            number = self._free() if known is None else known.number
            self._known[id_], self._owner[number] = _Known(number, time_s, frame), id_
            found.append(number)
        return found

    def _forget(self, time_s: float, frame: int) -> None:
        gone = [
            id_
            for id_, known in self._known.items()
            if frame - known.frame >= self.frames and time_s - known.time_s > self.seconds
        ]
        for id_ in gone:
            del self._owner[self._known.pop(id_).number]

    def _free(self) -> int:
        if len(self._known) >= self.most:
            wanted = f"{self.most} ids within {self.seconds:g} s at most"
            raise DataError(wanted, "more", "give an agent the same id in every frame")
        while self._next in self._owner:
            self._next = self._next % self.most + 1
        number = self._next
        self._next = self._next % self.most + 1
        return number
