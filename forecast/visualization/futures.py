"""The realizations of a forecast as they are drawn: paths of agents, and how large these are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from forecast.evaluation.counts import mask_centres
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta

MOST_REALIZATIONS = 16  # the first so many of a store are drawn: of more no path is told apart


@dataclass(frozen=True)
class Realizations:
    """K futures of N agents, of whom the n-th has id n + 1.

    Attributes:
        pose: ``(K, M, N, 3)`` x, y (m) and yaw (rad) in the present frame; NaN = not there.
        present: ``(N, 2)`` x, y (m) at present; NaN where it is not known.
        size: ``(N, 2)`` length and width (m); NaN where they are not known.
        label: ``(N,)`` class from 1; 0 where it is not known.
    """

    pose: NDArray[np.float64]
    present: NDArray[np.float64]
    size: NDArray[np.float64]
    label: NDArray[np.int64]


def realizations_of(one: xr.Dataset, ours: xr.Dataset, meta: SequenceMeta) -> Realizations | None:
    """The first realizations of one sequence, sixteen at most; None where its forecast has none.

    Sizes, classes and present places are those of the observed boxes. Where the forecast's ids are
    not the store's, or there are no boxes, sizes and classes are those of the forecast's masks.

    Args:
        one: The sequence, of a sequence store.
        ours: Its forecast, of a forecast store.
        meta: Attributes of the sequence store.
    """
    if "realization_pose" not in ours:
        return None
    drawn = ours["realization_pose"].isel(realization=slice(MOST_REALIZATIONS))
    pose = drawn.values.astype(np.float64)
    pose[~np.isfinite(pose).all(axis=-1)] = np.nan
    count = pose.shape[2]
    same_ids = has_ids_of_store(ours)
    if same_ids and "track_state" in one:
        state, label = np.full((count, 5), np.nan), np.zeros(count, np.int64)
        boxes = one["track_state"].values[:count, meta.history - 1]
        state[: len(boxes)], label[: len(boxes)] = boxes, one["track_class"].values[:count]
        return Realizations(pose, state[:, :2], state[:, 3:], label)
    present = np.full((count, 2), np.nan)
    if same_ids:
        now = one["instance"].values[meta.history - 1]
        present = mask_centres(now, np.arange(1, count + 1), meta.grid)
    return Realizations(pose, present, *_of_masks(ours, count, meta.grid))


def has_ids_of_store(ours: xr.Dataset) -> bool:
    """Whether a forecast's ids are those of the sequence store: of detected input they are not."""
    return bool(ours.attrs.get("input", "tracked") == "tracked")


def _of_masks(
    ours: xr.Dataset, count: int, grid: BEVGrid
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sizes and classes of ids 1 to ``count``, of each one's mask at the first lead that has it."""
    size, label = np.full((count, 2), np.nan), np.zeros(count, np.int64)
    yaw = ours["pose"].values[..., 2]
    for lead, (ids, classes) in enumerate(
        zip(ours["instance"].values, ours["semantic"].values, strict=True)
    ):
        for track, window in enumerate(ndimage.find_objects(ids)[:count]):
            if window is None or label[track] or not np.isfinite(yaw[lead, track]):
                continue
            mask = ids[window] == track + 1
            size[track] = _extent(mask, yaw[lead, track], grid.resolution_m)
            label[track] = classes[window][mask][0]
    return size, label


def _extent(mask: NDArray[np.bool_], yaw: float, resolution_m: float) -> tuple[float, float]:
    """Length along ``yaw`` and width of the box whose points are spread as a mask's, metres."""
    y, x = np.nonzero(mask)
    ahead, aside = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw)
    # A box of length l has the variance l^2 / 12, and so has each cell its own.
    length, width = (resolution_m * np.sqrt(12 * np.var(along) + 1) for along in (ahead, aside))
    return float(length), float(width)
