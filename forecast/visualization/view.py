"""What is drawn of one sequence: its history, its truth and its forecast, read from the stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta
from forecast.visualization.futures import Realizations, realizations_of


@dataclass(frozen=True)
class View:
    """One sequence to be drawn.

    Attributes:
        grid: Of all rasters.
        dt_s: Seconds between frames.
        history: ``(T, y, x)`` ids of the frames up to and including the present, or classes.
        truth: ``(L, y, x)`` ids of the leads whose truth is known, perhaps none; or classes.
        forecast: ``(M, y, x)`` forecast ids, perhaps of more leads.
        ego_pose: ``(T + L, 3)`` x, y, yaw in the present frame.
        map: Layer name -> ``(y, x)`` 0/1.
        model: Who forecast, for the panel's title.
        scene: What is seen, for the picture's title.
        classes: Names of the classes, where history and truth show these for want of ids; else ().
        probability: ``(M, k, y, x)`` per cent that a cell is of a class; None = not read.
        realizations: Several futures beside the forecast; None = there are none.
    """

    grid: BEVGrid
    dt_s: float
    history: NDArray[Any]
    truth: NDArray[Any]
    forecast: NDArray[Any]
    ego_pose: NDArray[Any]
    map: dict[str, NDArray[Any]]
    model: str = "forecast"
    scene: str = ""
    classes: tuple[str, ...] = ()
    probability: NDArray[np.uint8] | None = None
    realizations: Realizations | None = None

    @property
    def frames(self) -> list[int]:
        """Offsets from the present that can be drawn: ... -1, 0, 1 ... last lead."""
        return list(range(1 - len(self.history), 1 + max(len(self.truth), len(self.forecast))))


def view_of(
    data: xr.Dataset,
    meta: SequenceMeta,
    index: int,
    forecast: xr.Dataset | None = None,
    *,
    probability: bool = False,
) -> View:
    """The view of one sequence of a store and, beside it, of its forecast store.

    Without ids, agents are drawn in the colours of their classes.

    Args:
        data: Sequence store.
        meta: Its attributes.
        index: Which sequence.
        forecast: Forecast store made from it, or None.
        probability: Whether the forecast's occupancy is read too.

    Raises:
        DataError: There is no such sequence.
    """
    if not 0 <= index < data.sizes["sequence"]:
        raise DataError(
            f"a sequence from 0 to {data.sizes['sequence'] - 1}", str(index), "choose another"
        )
    one = data.isel(sequence=index)
    seen, classes = _seen(one, meta)
    layers: Sequence[NDArray[Any]] = list(one["map"].values) if "map" in one else []
    ours = None if forecast is None else forecast.isel(sequence=index)
    return View(
        grid=meta.grid,
        dt_s=meta.dt_s,
        history=seen[: meta.history],
        truth=seen[meta.history :],
        forecast=seen[:0] if ours is None else ours["instance"].values,
        ego_pose=one["ego_pose"].values,
        map=dict(zip(meta.map_layers, layers, strict=False)),
        model="forecast" if ours is None else str(ours.attrs.get("model", "forecast")),
        scene=str(one["scene"].values),
        classes=classes,
        probability=None if ours is None or not probability else percent(ours["occupancy"].values),
        realizations=None if ours is None else realizations_of(one, ours, meta),
    )


def _seen(one: xr.Dataset, meta: SequenceMeta) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The ids in a sequence's frames and no names, or for want of ids the classes and theirs."""
    instance, semantic = one["instance"].values, one["semantic"].values
    if instance.any() or not semantic.any():
        return instance, ()
    return semantic, meta.classes


def percent(occupancy: NDArray[Any]) -> NDArray[np.uint8]:
    """Probabilities ``(M, k, y, x)`` in whole per cent, what is not a number as 0.

    They take half of the memory that they take on disk, and shades finer than a per cent are not
    told apart.
    """
    leads = np.empty(occupancy.shape, np.uint8)
    for lead, cells in zip(leads, occupancy, strict=True):  # one by one: no large copy of all
        lead[:] = np.rint(100 * np.nan_to_num(cells.astype(np.float32)).clip(0, 1))
    return leads


def of_any_class(probability: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(y, x)`` per cent that a cell is of some class, from those of each class ``(k, y, x)``.

    Classes count as independent, as agents do in a forecast's occupancy.
    """
    free: NDArray[np.float64] = np.prod(1 - probability / 100, axis=0)
    taken: NDArray[np.uint8] = np.rint(100 * (1 - free)).astype(np.uint8)
    return taken
