"""What perception does to masks: eaten and grown edges, splits, merges, misses, false masks."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from forecast.config.data import Corruption
from forecast.grid import BEVGrid
from forecast.types import BEVSequence

PATCH = 4
"""Errors at edges are alike within so many cells: outlines are off in bays, not cell by cell."""
SPLIT_M = 0.6
"""Width of the gap that splits a mask."""
FALSE_LENGTH_M = (0.5, 5.0)
"""Lengths of false masks; their widths are a third of it up to all of it."""


def corrupt_rasters(
    sequence: BEVSequence, how: Corruption, history: int, generator: Generator
) -> BEVSequence:
    """The batch with the masks of its history as perception makes them.

    Only ``semantic`` and ``instance`` of the history frames change; those of the future are equal
    to the last bit. The present frame is where the truth starts from as well: give the result to a
    model, and score it by the masks as they were. A false mask has an id above all others, another
    in every frame, or it would be an agent that jumps; cells that are added to a mask have its id
    and class, and a mask that is split keeps its id in both halves.

    Args:
        sequence: The batch.
        how: What is spoiled, and by how much.
        history: Frames that a model may see.
        generator: Of the CPU, so that a run draws the same on every device; nothing is drawn for
            what is off.
    """
    masks = _Masks(sequence, history, how, generator)
    if how.mask_miss:
        masks.miss()
    if how.mask_split:
        masks.split()
    if how.mask_merge:
        masks.merge()
    if how.mask_edge:
        masks.fray()
    if how.mask_false > 0:
        masks.invent()
    return replace(
        sequence,
        instance=_followed(masks.instance, sequence.instance, history),
        semantic=_followed(masks.semantic, sequence.semantic, history),
    )


def _followed(frames: Tensor, raster: Tensor, history: int) -> Tensor:
    """Changed frames of the history, with the others behind them as they were."""
    past = frames.view(len(raster), history, *frames.shape[1:]).to(raster)
    return torch.cat((past, raster[:, history:]), 1)


class _Masks:
    """The history frames of a batch, one after the other, as they are being spoiled."""

    def __init__(
        self, sequence: BEVSequence, history: int, how: Corruption, generator: Generator
    ) -> None:
        self.how = how
        self.generator = generator
        self.grid: BEVGrid = sequence.grid
        self.batch, self.history = sequence.batch, history
        self.instance = sequence.instance[:, :history].flatten(0, 1).cpu().long()
        self.semantic = sequence.semantic[:, :history].flatten(0, 1).cpu().long()
        # Above all tracks too: an id that only a later frame shows is an agent's already.
        tracks = 0 if sequence.track_state is None else sequence.track_state.shape[1]
        self.ids = 1 + max(tracks, int(self.instance.max()) if self.instance.numel() else 0)
        self.classes = int(self.semantic.max()) if self.semantic.numel() else 0

    def miss(self) -> None:
        """Takes whole masks away."""
        chosen = self._even(len(self.instance), self.ids) < self._level("mask_miss")[:, None]
        self._clear(self._of_cells(chosen))

    def split(self) -> None:
        """Cuts masks in two, along a line through their centre."""
        frames = len(self.instance)
        chosen = self._even(frames, self.ids) < self._level("mask_split")[:, None]
        angle = math.pi * self._even(frames, self.ids)
        x, y = self._coordinates()
        ids = self.instance.flatten(1)
        area, sum_x, sum_y = (
            torch.zeros(frames, self.ids).scatter_add_(1, ids, values.expand(frames, -1))
            for values in (torch.ones_like(x), x, y)
        )
        area = area.clamp(min=1)
        # Distance of each cell's centre from the line through its mask's centre.
        centre = angle.cos() * sum_x / area + angle.sin() * sum_y / area
        cell = [values.gather(1, ids) for values in (angle.cos(), angle.sin(), centre)]
        off = (cell[0] * x + cell[1] * y - cell[2]).view_as(self.instance)
        width = max(SPLIT_M, self.grid.resolution_m)
        self._clear(self._of_cells(chosen) & (off.abs() < width / 2))

    def merge(self) -> None:
        """Fills gaps of a cell or two between masks, with the larger of their ids."""
        empty = self.instance == 0
        most, least = self._around()
        filled = empty & (most > 0) & (least < most)
        self._fill(filled & (self._patches() < self._level("mask_merge")[:, None, None]), most)

    def fray(self) -> None:
        """Eats cells at masks' edges away and adds others beside them."""
        share = self._level("mask_edge")[:, None, None]
        patch = self._patches()
        most, least = self._around()
        edge = (self.instance > 0) & _highest_around(self.instance == 0)
        beside = (self.instance == 0) & (most > 0) & (least == most)
        # Filled first: who loses its last cell still has a class to give.
        self._fill(beside & (patch > 1 - share / 2), most)
        self._clear(edge & (patch < share / 2))

    def invent(self) -> None:
        """Draws masks that no agent has, on background alone."""
        frames, most = len(self.instance), math.ceil(self.how.mask_false)
        number = self._level("mask_false")
        # A number with a fraction is the larger one in that share of frames.
        there = torch.arange(most) + self._even(frames, 1) < number[:, None]
        place, kind = self._even(frames, most, 2), self._even(frames, most)
        angle, shape = math.pi * self._even(frames, most), self._even(frames, most, 2)
        x, y = self._coordinates()
        left, bottom = self.grid.x_min_m, self.grid.y_min_m
        width, height = self.grid.x_max_m - left, self.grid.y_max_m - bottom
        shortest, longest = FALSE_LENGTH_M
        for index in range(most if self.classes else 0):
            dx = x - (left + width * place[:, index, :1])
            dy = y - (bottom + height * place[:, index, 1:])
            cos, sin = angle[:, index, None].cos(), angle[:, index, None].sin()
            length = shortest + (longest - shortest) * shape[:, index, :1]
            side = length * (1 + 2 * shape[:, index, 1:]) / 3
            inside = (2 * (cos * dx + sin * dy) / length) ** 2
            inside = inside + (2 * (cos * dy - sin * dx) / side) ** 2
            new = (inside < 1).view_as(self.instance) & (self.instance == 0)
            new = new & there[:, index, None, None]
            label = 1 + (kind[:, index] * self.classes).long().clamp(max=self.classes - 1)
            own = self.ids + index + most * (torch.arange(frames) % self.history)
            self.instance = torch.where(new, own[:, None, None], self.instance)
            self.semantic = torch.where(new, label[:, None, None], self.semantic)

    def _level(self, name: str) -> Float[Tensor, "f"]:
        """The level of one kind of fault in each frame, the same throughout a sequence."""
        most = float(getattr(self.how, name))
        if self.how.exact:
            return torch.full((self.batch * self.history,), most)
        return (most * self._even(self.batch)).repeat_interleave(self.history)

    def _even(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def _patches(self) -> Float[Tensor, "f h w"]:
        """Numbers from 0 to 1, the same within patches of cells."""
        height, width = self.grid.shape
        rows, columns = -(-height // PATCH) + 1, -(-width // PATCH) + 1
        coarse = self._even(len(self.instance), rows, columns)
        fine = coarse.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
        return fine[:, :height, :width]

    def _coordinates(self) -> tuple[Tensor, Tensor]:
        """Places x and y of every cell, ``(h * w,)`` each."""
        x = torch.as_tensor(self.grid.x_m, dtype=torch.float32).expand(self.grid.shape)
        y = torch.as_tensor(self.grid.y_m, dtype=torch.float32)[:, None].expand(self.grid.shape)
        return x.flatten(), y.flatten()

    def _of_cells(self, chosen: Bool[Tensor, "f n"]) -> Bool[Tensor, "f h w"]:
        """Whether each cell is of a chosen mask."""
        cells = chosen.gather(1, self.instance.flatten(1)).view_as(self.instance)
        return cells & (self.instance > 0)

    def _around(self) -> tuple[Int[Tensor, "f h w"], Int[Tensor, "f h w"]]:
        """The largest and the smallest id of the cells around each; 0 and a large one if none."""
        ids, none = self.instance.int(), self.ids
        least = none - _highest_around(torch.where(ids > 0, none - ids, 0))
        return _highest_around(ids).long(), least

    def _clear(self, cells: Bool[Tensor, "f h w"]) -> None:
        self.instance = torch.where(cells, 0, self.instance)
        self.semantic = torch.where(cells, 0, self.semantic)

    def _fill(self, cells: Bool[Tensor, "f h w"], ids: Int[Tensor, "f h w"]) -> None:
        """Gives cells to masks beside them, with their class."""
        of_id = torch.zeros(len(ids), self.ids, dtype=torch.long)
        of_id.scatter_(1, self.instance.flatten(1), self.semantic.flatten(1))
        label = of_id.gather(1, ids.flatten(1)).view_as(ids)
        self.instance = torch.where(cells, ids, self.instance)
        self.semantic = torch.where(cells, label, self.semantic)


def _highest_around(values: Tensor) -> Tensor:
    """The highest of each cell and the eight around it."""
    for axis in (1, 2):
        cells = values.shape[axis]
        beside = values.clone()
        for here, there in ((0, 1), (1, 0)):
            part = beside.narrow(axis, here, cells - 1)
            torch.maximum(part, values.narrow(axis, there, cells - 1), out=part)
        values = beside
    return values
