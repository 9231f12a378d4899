"""Packing: the live slots of a batch, one after the other, because most slots are empty."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where the live slots are. Found once, because each search makes the program wait for a GPU.

    Attributes:
        live: Which slots are live.
        place: Their indices among all slots of the batch, ascending.
    """

    live: Bool[Tensor, "b q"]
    place: Int[Tensor, "n"]

    @classmethod
    def of(cls, live: Bool[Tensor, "b q"]) -> Packing:
        """The packing of some slots."""
        return cls(live, live.flatten().nonzero().squeeze(1))

    @property
    def sequence(self) -> Int[Tensor, "n"]:
        """Which sequence of the batch each row belongs to."""
        return self.place // self.live.shape[1]

    def pack(self, slots: Shaped[Tensor, "b q *d"]) -> Shaped[Tensor, "n *d"]:
        """The rows of the live slots."""
        return slots.flatten(0, 1).index_select(0, self.place)

    def pad(self, rows: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "b q *d"]:
        """Rows back in their slots; empty slots are zero."""
        padded = rows.new_zeros(self.live.numel(), *rows.shape[1:])
        return padded.index_copy(0, self.place, rows).view(*self.live.shape, *rows.shape[1:])
