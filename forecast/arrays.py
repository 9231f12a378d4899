"""A user's own arrays, checked and completed to what a ``BEVSequence`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.schema import POSE_NAMES, SEQUENCE_VARIABLES, STATE_NAMES

Array = NDArray[Any]

# Torch has no arithmetic on uint16, and indices of scatter and gather are int64 in the end.
TENSOR_TYPES = {"uint8": np.uint8, "uint16": np.int32, "float64": np.float32, "float32": np.float32}
"""Type of a variable on disk -> its type in memory."""


def sequence_arrays(grid: BEVGrid, given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Arrays of the sequence schema by name, with a batch axis and the types of a ``BEVSequence``.

    Args:
        grid: Where the cells are.
        given: Variables of ``schema.SEQUENCE_VARIABLES``; the first axis, the batch, may be left
            out of any. ``semantic`` and ``instance`` are made of the others where they lack.

    Raises:
        DataError: One is missing, or has another shape or values than it may have.
    """
    arrays = _shaped(grid, given)
    for name, array in arrays.items():
        _check_values(name, array)
    for pair in (("track_state", "track_class"), ("track_history", "sample_time")):
        if (pair[0] in arrays) != (pair[1] in arrays):
            raise DataError(f"{' and '.join(pair)} together", "one of them", "give both")
    if "track_history" in arrays and "track_class" not in arrays:
        wanted = "track_state and track_class beside track_history"
        raise DataError(wanted, "none", "give the classes of its tracks")
    if "instance" not in arrays:
        arrays["instance"] = _instance(grid, arrays)
    if "semantic" not in arrays:
        arrays["semantic"] = _semantic(arrays)
    return {
        name: array.astype(TENSOR_TYPES[SEQUENCE_VARIABLES[name][1]])
        for name, array in arrays.items()
    }


def _shaped(grid: BEVGrid, given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The arrays with a batch axis, all of one batch, one number of frames and one of tracks."""
    sizes = {"y": grid.height, "x": grid.width}
    sizes |= {"pose": len(POSE_NAMES), "point_state": len(POSE_NAMES), "state": len(STATE_NAMES)}
    arrays: dict[str, Array] = {}
    for name, value in given.items():
        dims, array = SEQUENCE_VARIABLES[name][0], _numbers(name, value)
        if array.ndim == len(dims) - 1:
            array = array[None]
        if array.ndim != len(dims) or any(
            size != sizes.get(dim, size) for dim, size in zip(dims, array.shape, strict=True)
        ):
            wanted = ", ".join(str(sizes.get(dim, dim)) for dim in dims)
            raise DataError(
                f"{name} of shape ({wanted}), where the first axis may be left out",
                str(np.shape(value)),
                "correct the array or the grid",
            )
        sizes.update(zip(dims, array.shape, strict=True))
        arrays[name] = array
    return arrays


def _numbers(name: str, value: ArrayLike) -> Array:
    """An array of numbers.

    Raises:
        DataError: It holds something else, or rows of several lengths, or cannot be read here, as
            a tensor on a GPU or with gradients.
    """
    if np.ma.isMaskedArray(value):  # what its mask hides would be read as seen
        raise DataError(
            f"an array without mask as {name}", "a masked one", "fill it, with NaN = absent"
        )
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"an array of numbers as {name}", str(error), "correct it") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array of numbers as {name}", f"one of {array.dtype}", "correct it")
    return array


def _check_values(name: str, array: Array) -> None:
    """Refuses numbers that the type on disk cannot hold, and what is nowhere or has no size."""
    kind = np.dtype(SEQUENCE_VARIABLES[name][1])
    if kind.kind == "u":
        most = np.iinfo(kind).max
        if not ((array >= 0) & (array <= most) & (array == np.floor(array))).all():
            wanted = f"whole numbers from 0 to {most} in {name}"
            raise DataError(wanted, f"{array.min()} to {array.max()}", "correct the array")
    if name == "ego_pose" and not np.isfinite(array).all():
        raise DataError("finite ego poses", "NaN or infinity", "correct ego_pose")
    if name in ("track_state", "track_history") and (array[..., 3:] <= 0).any():  # False where NaN
        raise DataError("boxes of a size above 0", "none", f"correct {name}, or NaN = absent")
    if name == "sample_time" and not _ascends_to_present(array):
        wanted = "times that ascend to 0, the present"
        raise DataError(wanted, str(array.tolist()), "correct sample_time")


def _ascends_to_present(time_s: Array) -> bool:
    """Whether times end at 0 and ascend, padding in front aside."""
    padding = np.isnan(time_s)
    in_front = (np.diff(padding.astype(int)) <= 0).all()
    steps = np.diff(time_s)
    return bool(in_front and (steps[~np.isnan(steps)] > 0).all() and (time_s[..., -1] == 0).all())


def _instance(grid: BEVGrid, arrays: Mapping[str, Array]) -> Array:
    """The boxes drawn, the smaller ones on top; no ids where there are classes alone."""
    from data_tools.labels.rasterise import rasterise_boxes  # shapely takes long to load

    if "track_state" not in arrays:
        if "semantic" in arrays:
            return np.zeros_like(arrays["semantic"], np.uint16)
        wanted = "semantic, instance, or track_state and track_class"
        raise DataError(wanted, ", ".join(arrays), "give rasters or boxes")
    drawn = []
    for state, label in zip(arrays["track_state"], arrays["track_class"], strict=True):
        track, frame = np.nonzero(np.isfinite(state).all(-1) & (label > 0)[:, None])
        boxes, ids = state[track, frame].astype(np.float64), (track + 1).astype(np.uint16)
        drawn.append(rasterise_boxes(boxes, frame, ids, state.shape[1], grid))
    return np.stack(drawn)


def _semantic(arrays: Mapping[str, Array]) -> Array:
    """The class of each cell's id."""
    instance, label = arrays["instance"].astype(np.int64), arrays.get("track_class")
    tracks = 0 if label is None else label.shape[1]
    if label is None or instance.max(initial=0) > tracks:
        raise DataError(
            "semantic, or track_class of every id of instance",
            f"ids up to {instance.max(initial=0)} and {tracks} classes",
            "give semantic too",
        )
    classes = np.concatenate([np.zeros_like(label[:, :1]), label], axis=1)
    return np.stack([own[ids] for own, ids in zip(classes, instance, strict=True)])
