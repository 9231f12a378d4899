"""Which masks of truth and forecast overlap in a frame, and by how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError

MOST_PAIRS = 2**24  # of segments of truth and forecast in a frame


@dataclass(frozen=True)
class Overlap:
    """The segments of one frame, of truth and forecast, and how many cells they share.

    Attributes:
        true_ids: ``(G,)`` ids with cells in the frame.
        ids: ``(P,)`` forecast ids with cells in the frame.
        true_label: ``(G,)`` class from 1 of each, 0 = none.
        label: ``(P,)`` likewise.
        shared: ``(G, P)`` cells.
        true_area: ``(G,)`` cells.
        area: ``(P,)`` cells.
    """

    true_ids: NDArray[np.int64]
    ids: NDArray[np.int64]
    true_label: NDArray[np.int64]
    label: NDArray[np.int64]
    shared: NDArray[np.int64]
    true_area: NDArray[np.int64]
    area: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        true_instance: NDArray[Any],
        true_semantic: NDArray[Any],
        instance: NDArray[Any],
        semantic: NDArray[Any],
        classes: int,
    ) -> Overlap:
        """One 2-D bincount over the cells that carry an id.

        Raises:
            DataError: There are so many ids that they are none of agents.
        """
        cells = np.flatnonzero((true_instance.ravel() | instance.ravel()) != 0)
        true_ids, rows = compact(true_instance.ravel()[cells])
        ids, columns = compact(instance.ravel()[cells])
        shape = len(true_ids), len(ids)
        if shape[0] * shape[1] > MOST_PAIRS:
            raise DataError(
                f"at most {MOST_PAIRS} pairs of agents in a frame",
                f"{shape[0]} ids beside {shape[1]}",
                "make the stores anew; ids are of agents, not of cells",
            )
        shared = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
        shared = shared.reshape(shape)
        # Row and column 0 are background: they complete the areas and then go.
        return cls(
            true_ids=true_ids[1:],
            ids=ids[1:],
            true_label=majority(rows, true_semantic.ravel()[cells], shape[0], classes)[1:],
            label=majority(columns, semantic.ravel()[cells], shape[1], classes)[1:],
            shared=shared[1:, 1:],
            true_area=shared.sum(axis=1)[1:],
            area=shared.sum(axis=0)[1:],
        )

    def of_class(self, label: int) -> Overlap:
        """The segments of one class; metrics of a class see no other."""
        rows, columns = self.true_label == label, self.label == label
        return Overlap(
            self.true_ids[rows],
            self.ids[columns],
            self.true_label[rows],
            self.label[columns],
            self.shared[np.ix_(rows, columns)],
            self.true_area[rows],
            self.area[columns],
        )

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every pair, ``(G, P)``."""
        union = self.true_area[:, None] + self.area[None, :] - self.shared
        return self.shared / union


def compact(ids: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sorted ids with background first, present or not, and each cell's index into them."""
    present = np.bincount(ids, minlength=1) > 0
    present[0] = True
    return np.flatnonzero(present), (np.cumsum(present) - 1)[ids]


def majority(
    segment: NDArray[np.int64], semantic: NDArray[Any], segments: int, classes: int
) -> NDArray[np.int64]:
    """The class that most of a segment's cells have; 0 if all of them are background."""
    table = np.bincount(segment * (classes + 1) + semantic, minlength=segments * (classes + 1))
    votes = table.reshape(segments, classes + 1)[:, 1:]
    return np.where(votes.any(axis=1), votes.argmax(axis=1) + 1, 0)


def iou_by_id(true: NDArray[Any], forecast: NDArray[Any], tracks: int) -> NDArray[np.float64]:
    """IoU of the two masks of each track (id - 1) in one frame; 0 where either has none."""
    size = tracks + 1
    ids = [np.where(mask < size, mask, 0) for mask in (true, forecast)]
    areas = [np.bincount(mask.ravel(), minlength=size) for mask in ids]
    both = np.bincount(ids[0][ids[0] == ids[1]], minlength=size)
    shares: NDArray[np.float64] = both / np.maximum(areas[0] + areas[1] - both, 1)
    return shares[1:]


def best_iou(true: NDArray[Any], forecast: NDArray[Any], tracks: int) -> NDArray[np.float64]:
    """IoU of each track's mask (id - 1) with whichever forecast mask fits it best in one frame."""
    most = int(forecast.max(initial=0)) + 1
    pairs, both = np.unique(
        true.ravel().astype(np.int64) * most + forecast.ravel(), return_counts=True
    )
    ids, others = np.divmod(pairs, most)
    areas = np.bincount(true.ravel()), np.bincount(forecast.ravel())
    known = (ids > 0) & (ids <= tracks) & (others > 0)
    ids, others, both = ids[known], others[known], both[known]
    best = np.zeros(tracks)
    np.maximum.at(best, ids - 1, both / (areas[0][ids] + areas[1][others] - both))
    return best
