"""Whose the wrong cells are: what keeps IoU from 1, by what became of the agent.

Agents that nobody had seen at the present, and those that a recording loses, are in no forecaster's
hands; what is left of the error is motion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation import input_of, open_pair, read_forecasts, read_truths
from forecast.grid import BEVGrid
from forecast.metrics import Forecast, Truth, moving_ids, visible_ids
from forecast.schema import protocol_text

Progress = Callable[[Iterable[int]], Iterable[int]]


class Whose(IntEnum):
    """Columns of a table of sums ``(class, lead, Whose)``."""

    HIT = 0
    MISSED_NEW = 1
    MISSED_MOVING = 2
    MISSED_STILL = 3
    MISSED_UNNAMED = 4
    FALSE_GONE = 5
    FALSE_MOVING = 6
    FALSE_STILL = 7
    FALSE_UNNAMED = 8


@dataclass(frozen=True)
class Shares:
    """One class: parts of the cells that are the forecast's or the truth's; together they are 1.

    Attributes:
        class_name: The class.
        lead: Steps after the present; None = all leads together.
        cells: How many cells there are in the forecast, the truth or both.
        iou: Share of the cells that are right.
        missed_new: Missed, of agents that have no cell at the present.
        missed_moving: Missed, of agents that move, as counted by VPQ moving.
        missed_still: Missed, of the other agents.
        missed_unnamed: Missed, of nobody that the truth names.
        false_gone: False, of agents that have no cell in the truth of that lead.
        false_moving: False, of agents that move.
        false_still: False, of the other agents.
        false_unnamed: False, of nobody in view at the present: all, where the forecast has ids of
            its own.
        protocol: By which the truth's masks were drawn, name and hash.
    """

    class_name: str
    lead: int | None
    cells: int
    iou: float
    missed_new: float
    missed_moving: float
    missed_still: float
    missed_unnamed: float
    false_gone: float
    false_moving: float
    false_still: float
    false_unnamed: float
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def attribute_cells(
    forecast_path: str, data_path: str, progress: Progress | None = None
) -> list[Shares]:
    """Whose the wrong cells of a forecast store are, per class: all leads, then each.

    Args:
        forecast_path: Forecast store.
        data_path: The sequence store that holds what happened.
        progress: Wraps the range of sequences.

    Raises:
        DataError: A store cannot be read, the two do not belong together, or the truth holds no
            future.
    """
    forecast, data, meta = open_pair(forecast_path, data_path)
    horizon = min(meta.horizon, forecast.sizes["lead"])
    sequences = range(forecast.sizes["sequence"])
    truths = read_truths(data_path, data, meta, sequences, horizon)
    guesses = read_forecasts(forecast_path, forecast, meta, sequences, horizon)
    named = input_of(forecast.attrs) == "tracked"
    sums = np.zeros((len(meta.classes), horizon, len(Whose)), np.int64)
    for _ in progress(sequences) if progress else sequences:
        sums += count_cells(next(truths), next(guesses), meta.grid, len(meta.classes), named)
    protocol = protocol_text(meta.protocol)
    return [
        _shares(name, lead, counts, protocol)
        for name, own in zip(meta.classes, sums, strict=True)
        for lead, counts in ((None, own.sum(0)), *enumerate(own, start=1))
        if counts.any()
    ]


def count_cells(
    truth: Truth, guess: Forecast, grid: BEVGrid, classes: int, named: bool = True
) -> NDArray[np.int64]:
    """The cells of one sequence, ``(class, lead, Whose)``.

    Args:
        truth: The present and what happened.
        guess: The forecast of as many leads.
        grid: Of both.
        classes: How many classes there are.
        named: Whether the forecast's ids are those of the truth.
    """
    visible, moving = visible_ids(truth), np.array(sorted(moving_ids(truth, grid)), np.int64)
    sums = np.zeros((classes, len(guess.semantic), len(Whose)), np.int64)
    for lead, (instance, ids) in enumerate(zip(truth.instance[1:], guess.instance, strict=True)):
        missed = _fate(instance, visible, moving, Whose.MISSED_MOVING, Whose.MISSED_STILL)
        missed[(missed == 0) & (instance > 0)] = Whose.MISSED_NEW
        missed[missed == 0] = Whose.MISSED_UNNAMED
        known = visible if named else visible[:0]
        false = _fate(ids, known, moving, Whose.FALSE_MOVING, Whose.FALSE_STILL)
        false[(false > 0) & ~np.isin(ids, instance)] = Whose.FALSE_GONE
        false[false == 0] = Whose.FALSE_UNNAMED
        for kind in range(classes):
            true, drawn = (
                frame == kind + 1 for frame in (truth.semantic[lead + 1], guess.semantic[lead])
            )
            whose = np.where(true & drawn, int(Whose.HIT), np.where(true, missed, false))
            sums[kind, lead] = np.bincount(whose[true | drawn], minlength=len(Whose))
    return sums


def _fate(
    ids: NDArray[Any],
    visible: NDArray[np.int64],
    moving: NDArray[np.int64],
    moves: Whose,
    stays: Whose,
) -> NDArray[np.int64]:
    """For each cell what its agent does; 0 if that was not in view at the present."""
    does = np.where(np.isin(ids, moving), int(moves), int(stays))
    return np.where(np.isin(ids, visible), does, 0)


def _shares(name: str, lead: int | None, counts: NDArray[np.int64], protocol: str) -> Shares:
    total = int(counts.sum())
    right, *wrong = (counts / total).tolist()
    named = {whose.name.lower(): share for whose, share in zip([*Whose][1:], wrong, strict=True)}
    return Shares(name, lead, total, iou=right, **named, protocol=protocol)
