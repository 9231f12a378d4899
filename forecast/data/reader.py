"""Reads sequence stores one sequence at a time, and batches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.utils.data import Dataset

from forecast.arrays import TENSOR_TYPES
from forecast.errors import DataError
from forecast.schema import SEQUENCE_VARIABLES
from forecast.storage.chunks import DAMAGE, quickly
from forecast.storage.identity import StoreIdentity
from forecast.storage.stores import open_sequence_store, refuse_impossible
from forecast.types import BEVSequence

# The forecaster takes the direction of lanes from their points.
_UNREAD = ("scene", "init_time", "direction", "track_name")
_OF_TRACKS = ("track_class", "track_state", "track_history", "track_score")
_TENSORS = tuple(name for name in SEQUENCE_VARIABLES if name not in _UNREAD)


class SequenceReader(Dataset[BEVSequence]):
    """The sequences of a store, each as a batch of one; opened anew in every worker process.

    Args:
        path: Local path or fsspec URL of a sequence store.
        raster_frames: How many frames have their rasters returned, from the first; None = all.
            Training compares with ``track_state`` and needs no rasters of the future, which are
            slow to pass between processes.

    Attributes:
        store: Opened lazily; it stays in the process that opened it.
        map_layers: Of its map; empty where it has no map, whatever its attributes name.

    Raises:
        DataError: It is missing, damaged or of another schema.
    """

    def __init__(self, path: str, raster_frames: int | None = None) -> None:
        self.path, self.raster_frames = path, raster_frames
        self.identity = StoreIdentity.of(path)
        dataset, self.meta = open_sequence_store(path)
        self.store = dataset
        self.map_layers = self.meta.map_layers
        there = set(dataset.variables) - (set() if self.map_layers else {"map"})
        self.variables = tuple(name for name in _TENSORS if name in there)
        for name in ("track_state", "track_history"):
            if name in dataset and "track_class" not in dataset:
                wanted = f"track_class beside {name}"
                raise DataError(wanted, f"none in {path}", "make the store anew")
        self.tracks = int(dataset.sizes.get("track", 0))
        self.scenes = tuple(str(name) for name in dataset["scene"].values)
        self.bev_channels = int(dataset.sizes.get("channel", 0))
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def one_moment(self) -> bool:
        """Whether histories are a single moment, which tells of no motion."""
        return self.meta.history == 1 and self.store.sizes.get("sample", 1) == 1

    def __getitem__(self, index: int) -> BEVSequence:
        """The sequence at ``index``.

        Raises:
            DataError: Its chunk is damaged, a pose is infinite or, of its ego, NaN, a box has no
                size, a class has no name, or the store is no longer the one that was opened.
        """
        with self.identity.checked():
            arrays = {name: self._read(name, index) for name in self.variables}
        if not np.isfinite(arrays["ego_pose"]).all():
            raise DataError(
                "finite ego poses",
                f"NaN in sequence {index} of {self.path}",
                "make the store anew with `forecast prepare`",
            )
        if (arrays.get("track_state", np.ones(5))[..., 3:] <= 0).any():  # False where NaN
            raise DataError(
                "boxes of a size above 0",
                f"none in a track of sequence {index} of {self.path}",
                "make the store anew with `forecast prepare`",
            )
        refuse_impossible(arrays, len(self.meta.classes), self.path)
        self._check_whole(arrays, index)
        fields = {name: self._tensor(name, array) for name, array in arrays.items()}
        return BEVSequence(grid=self.meta.grid, dt_s=self.meta.dt_s, **fields)

    def _check_whole(self, arrays: Mapping[str, np.ndarray[Any, Any]], index: int) -> None:
        """Rasters and boxes show the same agents; zarr reads a missing file as empty."""
        if "track_state" not in arrays:
            return
        state, grid = arrays["track_state"], self.meta.grid
        # Only a box large enough to cover a cell centre must be in the rasters.
        large = (state[..., 3:] >= 2 * grid.resolution_m).all(-1)
        boxes = bool((large & grid.contains(state[..., 0], state[..., 1])).any())
        masks = bool(arrays["semantic"].any()), bool(arrays["instance"].any())
        known = np.isfinite(state[..., 0]).any(-1)
        lost = (masks[1] and not known.any()) or bool((known & (arrays["track_class"] == 0)).any())
        # Other protocols leave out hidden or new agents, so that rasters may be empty beside boxes.
        exact = self.meta.protocol.get("name", "exact") == "exact"
        bare = exact and boxes and not all(masks)
        if lost or bare:
            raise DataError(
                "the same agents in semantic, instance, track_state and track_class",
                f"sequence {index} of {self.path} with one of them empty (a file is gone?)",
                "make the store anew with `forecast prepare`",
            )

    def _read(self, name: str, index: int) -> np.ndarray[Any, Any]:
        try:
            if name not in self._arrays:
                with quickly(self.path):
                    self._arrays[name] = zarr.open_array(self.path, path=name, mode="r")
            values = np.asarray(self._arrays[name][index])
        except DAMAGE as error:
            raise DataError(
                f"a whole chunk of {name}",
                f"a damaged one for sequence {index} of {self.path} ({type(error).__name__})",
                "make the store anew with `forecast prepare`",
            ) from error
        return values

    def _tensor(self, name: str, array: np.ndarray[Any, Any]) -> Tensor:
        dims, kind = SEQUENCE_VARIABLES[name]
        if {"time", "x"} <= set(dims):
            array = array[: self.raster_frames]
        return torch.from_numpy(array.astype(TENSOR_TYPES[kind]))[None]

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "store"}
        return {**kept, "_arrays": {}}


def collate(sequences: Sequence[BEVSequence]) -> BEVSequence:
    """One batch; padding that no sequence needs is cut off."""
    first = sequences[0]
    parts: dict[str, Tensor | None] = {
        name: torch.cat([getattr(item, name) for item in sequences])
        if getattr(first, name) is not None
        else None
        for name in _TENSORS
    }
    _trim(parts, _OF_TRACKS, lambda label: label > 0, "track_class")
    _trim(parts, ("map_point",), lambda point: torch.isfinite(point[..., 0]), "map_point")
    return BEVSequence(grid=first.grid, dt_s=first.dt_s, **parts)  # type: ignore[arg-type]


def _trim(
    parts: dict[str, Tensor | None],
    names: tuple[str, ...],
    used: Callable[[Tensor], Tensor],
    key: str,
) -> None:
    """Cuts axis 1 of some variables behind its last used entry (one entry is always kept)."""
    values = parts[key]
    if values is None or values.shape[1] == 0:
        return
    columns = used(values).any(0).nonzero()
    last = int(columns.max()) + 1 if len(columns) else 1
    for name in names:
        tensor = parts[name]
        parts[name] = None if tensor is None else tensor[:, :last]
