"""The wrong cells of a forecast by agent: new, gone, moving or still.

No forecaster can draw an agent that was not there at the present, nor know that a recording loses
one; the rest of the error is motion.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth, moving_ids, present_ids
from forecast.evaluation.scoring import input_of, name_of, open_pair, read_forecasts, read_truths
from forecast.grid import BEVGrid
from forecast.parallel import Progress
from forecast.schema import protocol_text
from forecast.storage.identity import unchanged


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


# Known only where there are ids.
MISSED = [Whose.MISSED_NEW, Whose.MISSED_MOVING, Whose.MISSED_STILL]
FALSE = [Whose.FALSE_GONE, Whose.FALSE_MOVING, Whose.FALSE_STILL]


@dataclass(frozen=True)
class Shares:
    """One class: parts of the cells that are the forecast's or the truth's; together they are 1.

    Attributes:
        class_name: The class.
        lead: Steps after the present; None = all leads together.
        cells: How many cells there are in the forecast, the truth or both.
        iou: Share of the cells that are right.
        missed_new: Missed, of agents that have no cell at the present; None, here and below, where
            ids do not tell.
        missed_moving: Missed, of agents that move, as counted by VPQ moving.
        missed_still: Missed, of the other agents.
        missed_unnamed: Missed, without an id.
        false_gone: False, of agents that have no cell in the truth of that lead.
        false_moving: False, of agents that move.
        false_still: False, of the other agents.
        false_unnamed: False, of an id without a cell at the present; where the forecast has ids of
            its own, all false cells.
    """

    class_name: str
    lead: int | None
    cells: int
    iou: float
    missed_new: float | None
    missed_moving: float | None
    missed_still: float | None
    missed_unnamed: float
    false_gone: float | None
    false_moving: float | None
    false_still: float | None
    false_unnamed: float


@dataclass(frozen=True)
class WrongCells:
    """The wrong cells of a forecast by agent.

    Attributes:
        model: Which forecaster made it.
        input: "tracked" or "detected".
        sequences: How many were compared.
        horizon: Leads that were compared.
        protocol: By which the truth's masks were drawn, name and hash.
        shares: Per class: all leads, then each; classes without a cell are left out.
    """

    model: str
    input: str
    sequences: int
    horizon: int
    protocol: str
    shares: list[Shares]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def attribute_cells(
    forecast_path: str, data_path: str, progress: Progress | None = None
) -> WrongCells:
    """The wrong cells of a forecast store by agent.

    Args:
        forecast_path: Forecast store.
        data_path: The sequence store that holds what happened.
        progress: Told (sequences done, sequences in all) after each.

    Raises:
        DataError: A store cannot be read, the two do not belong together, or the truth holds no
            future.
    """
    with unchanged(forecast_path, data_path):
        forecast, data, meta = open_pair(forecast_path, data_path)
        horizon = min(meta.horizon, forecast.sizes["lead"])
        sequences = range(forecast.sizes["sequence"])
        truths = read_truths(data_path, data, meta, sequences, horizon)
        guesses = read_forecasts(forecast_path, forecast, meta, sequences, horizon)
        named, truth_has_ids = input_of(forecast.attrs) == "tracked", False
        sums = np.zeros((len(meta.classes), horizon, len(Whose)), np.int64)
        for index in sequences:
            truth, guess = next(truths), next(guesses)
            sums += count_by_agent(truth, guess, meta.grid, len(meta.classes), named)
            truth_has_ids = truth_has_ids or bool(truth.instance.any())
            if progress is not None:
                progress(index + 1, len(sequences))
    unknown = {
        *(() if truth_has_ids else MISSED),
        *(() if truth_has_ids and named else FALSE),
    }
    shares = [
        _shares(name, lead, counts, unknown)
        for name, own in zip(meta.classes, sums, strict=True)
        for lead, counts in ((None, own.sum(0)), *enumerate(own, start=1))
        if counts.any()
    ]
    return WrongCells(
        model=name_of(forecast.attrs),
        input=input_of(forecast.attrs),
        sequences=len(sequences),
        horizon=horizon,
        protocol=protocol_text(meta.protocol),
        shares=shares,
    )


def count_by_agent(
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
    known = present_ids(truth, grid)
    moving = np.array(sorted(moving_ids(truth, grid)), np.int64)
    sums = np.zeros((classes, len(guess.semantic), len(Whose)), np.int64)
    for lead, (instance, ids) in enumerate(zip(truth.instance[1:], guess.instance, strict=True)):
        missed = _fate(instance, known, moving, Whose.MISSED_MOVING, Whose.MISSED_STILL)
        missed[(missed == 0) & (instance > 0)] = Whose.MISSED_NEW
        missed[missed == 0] = Whose.MISSED_UNNAMED
        false = _fate(
            ids, known if named else known[:0], moving, Whose.FALSE_MOVING, Whose.FALSE_STILL
        )
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
    known: NDArray[np.int64],
    moving: NDArray[np.int64],
    moves: Whose,
    stays: Whose,
) -> NDArray[np.int64]:
    """For each cell whether its agent moves or stays; 0 if it was not there at the present."""
    does = np.where(np.isin(ids, moving), int(moves), int(stays))
    return np.where(np.isin(ids, known), does, 0)


def _shares(
    name: str, lead: int | None, counts: NDArray[np.int64], unknown: Collection[Whose]
) -> Shares:
    total = int(counts.sum())
    shares = {whose: float(counts[whose] / total) for whose in Whose}
    wrong: dict[str, Any] = {
        whose.name.lower(): None if whose in unknown else share
        for whose, share in shares.items()
        if whose != Whose.HIT
    }
    return Shares(name, lead, total, shares[Whose.HIT], **wrong)
