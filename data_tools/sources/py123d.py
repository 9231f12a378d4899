"""Logs of py123d (123D): Arrow tables of boxes and of the ego, read without its package.

A log is a folder ``logs/SPLIT/LOG`` with ``box_detections_se3.arrow`` and ``ego_state_se3.arrow``;
beside those lies ``map.arrow``, or ``maps/DATASET/DATASET_LOCATION.arrow`` serves many logs. Boxes
are in the log's world frame already. The ego's table has the pose of its IMU; what the file says
of the vehicle makes it the pose of its middle.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_tools.formats.columns import read_columns, read_table
from data_tools.py123d_labels import native_labels, short_name
from data_tools.scene import Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.observations import Observations, frame_numbers, scene_of, stack
from data_tools.sources.py123d_map import map_of
from data_tools.spatial import headings, rotations
from forecast.errors import DataError

Array = NDArray[np.float64]

BOXES, EGO = "box_detections_se3", "ego_state_se3"
JITTER = 0.3  # of a step
SAME_RATE = 0.01  # rates this near to a whole number a second are that
MAX_GAP_S = 0.25  # between poses of the ego that another is made between
EGO_NAME, EGO_KIND = "ego", "Default.EGO"
_BOX_TYPES = {
    f"{BOXES}.timestamp_us": pa.int64(),
    f"{BOXES}.bounding_box_se3": pa.list_(pa.list_(pa.float64(), 10)),
    f"{BOXES}.track_token": pa.list_(pa.string()),
    f"{BOXES}.label": pa.list_(pa.int64()),
}
_EGO_TYPES = {f"{EGO}.timestamp_us": pa.int64(), f"{EGO}.imu_se3": pa.list_(pa.float64(), 7)}


@dataclass(frozen=True)
class Py123D:
    """One log a unit, named by its table of boxes.

    Args:
        maps: Folder of the maps; where it is not given, ``maps`` beside ``logs``.
    """

    name: str = "py123d"
    maps: str = ""

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The logs in some inputs.

        Raises:
            DataError: An input does not exist or holds no ``box_detections_se3.arrow``.
        """
        return find_files(inputs, (f"{BOXES}.arrow",))

    def read(self, unit: str, dt_s: float) -> Scene:
        """A log at ``dt_s``, which must be a multiple of its own step.

        Raises:
            DataError: A table is missing, damaged, or of another layout.
        """
        moment, box, labels = _boxes(unit)
        frame, step_s = _frames(moment, unit)
        ego = np.full((int(frame[-1]) + 1, 5), np.nan)
        ego[frame] = _ego(posixpath.join(posixpath.dirname(unit), f"{EGO}.arrow"), moment)
        there = np.flatnonzero(np.isfinite(ego[:, 0]))
        if not len(there):
            raise DataError("the ego at the time of the boxes", f"none in {unit}", "leave it out")
        row, track, kind, state = box
        seen = Observations(
            np.concatenate([frame[row], there]),
            np.concatenate([track, np.full(len(there), EGO_NAME)]),
            np.concatenate([kind, np.full(len(there), EGO_KIND)]),
            np.concatenate([state, ego[there]]),
        )
        elements = map_of(posixpath.dirname(unit), self.maps, ego[:, :2])
        return scene_of(
            posixpath.basename(posixpath.dirname(unit)),
            stack(seen, len(ego), unit),
            ego[:, :3],
            step_s=step_s,
            dt_s=dt_s,
            where=unit,
            map=elements or (),
            notes={
                "scenes without a map": int(elements is None),
                "frames without a pose of the ego": len(ego) - len(there),
                "boxes whose labels have no names": 0 if labels else len(row),
            },
        )


_Boxes = tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], Array]


def _boxes(path: str) -> tuple[NDArray[np.int64], _Boxes, tuple[str, ...]]:
    """Microseconds of each row; row, track, label and state of each box; the labels there are."""
    table = read_table(path, _BOX_TYPES)
    time, boxes, tracks, numbers = (table[name].combine_chunks() for name in _BOX_TYPES)
    if any(column.null_count for column in (time, boxes, tracks, numbers)):
        raise DataError("values in every row", f"none in one of {path}", "restore it")
    row = np.asarray(pc.list_parent_indices(boxes), np.int64)
    counts = pc.list_value_length(boxes)
    if not all(pc.list_value_length(column).equals(counts) for column in (tracks, numbers)):
        raise DataError("a track and a label for every box", f"others in {path}", "restore it")
    values, names, label = (pc.list_flatten(column) for column in (boxes, tracks, numbers))
    flat = pc.list_flatten(values)
    if any(column.null_count for column in (values, flat, names, label)):
        raise DataError("values in every box", f"none in one of {path}", "restore it")
    box = np.asarray(flat, np.float64).reshape(-1, 10)
    if not np.isfinite(box).all():
        bad = row[int(np.isfinite(box).all(axis=1).argmin())] + 1
        raise DataError("finite numbers", f"others in row {bad} of {path}", "restore it")
    known, kind = _kinds(table.schema.metadata, np.asarray(label, np.int64), path)
    yaw = headings(rotations(box[:, 3:7], f"the boxes of {path}"))
    state = np.column_stack([box[:, :2], yaw, box[:, 7:9]])
    track = np.array(names.to_pylist(), str)
    return np.asarray(time, np.int64), (row, track, kind, state), known


def _kinds(
    metadata: Any, label: NDArray[np.int64], path: str
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The labels that the log's list has, none if it is unknown, and that of each box."""
    name = _metadata(metadata, path).get("box_detection_label_class")
    if not isinstance(name, str) or len(name) > 200:
        raise DataError("the name of the list of labels", f"none in {path}", "restore it")
    known = native_labels(name)
    if not known:
        return (), np.array([f"{short_name(name)}.{number}" for number in label], str)
    outside = (label < 0) | (label >= len(known))
    if outside.any():
        got = f"{label[int(outside.argmax())]} in {path}"
        raise DataError(f"labels of 0 to {len(known) - 1}", got, "convert it by py123d 0.7")
    return known, np.array(known)[label]


def _metadata(metadata: Any, path: str) -> dict[str, Any]:
    """What the schema of a table says of its content."""
    try:
        content = msgpack.unpackb((metadata or {})[b"metadata"])
    except (KeyError, ValueError, msgpack.exceptions.UnpackException) as error:
        raise DataError("py123d's metadata", f"none in {path}", "restore it") from error
    if not isinstance(content, dict):
        raise DataError("py123d's metadata", f"others in {path}", "restore it")
    return content


def _frames(moment: NDArray[np.int64], unit: str) -> tuple[NDArray[np.int64], float]:
    """The numbers of frames and the step between them."""
    since_s = np.asarray((moment.astype(np.float64) - moment[:1]) * 1e-6)
    step_s = float(np.median(np.diff(since_s))) if len(moment) > 1 else 0.0
    if not 1e-3 <= step_s <= 10.0:
        raise DataError("frames up to 10 s apart", f"{step_s:g} s in {unit}", "leave it out")
    steps = max(1.0, float(np.round(np.diff(since_s) / step_s).sum()))
    mean_s = float(since_s[-1]) / steps
    rate = max(1, round(1 / mean_s))
    step_s = 1 / rate if abs(mean_s * rate - 1) < SAME_RATE else mean_s
    return frame_numbers(since_s, step_s, JITTER * step_s, unit), step_s


def _ego(path: str, moment: NDArray[np.int64]) -> Array:
    """The ego ``(T, 5)`` at some moments, between the poses there are; NaN where these are far."""
    columns = read_columns(path, _EGO_TYPES)
    table = read_table(path, {})
    length, width, middle = _vehicle(_metadata(table.schema.metadata, path), path)
    time = columns[f"{EGO}.timestamp_us"]
    if len(time) == 0 or (np.diff(time) <= 0).any():
        raise DataError("poses in the order of time", f"others in {path}", "restore it")
    imu = np.array([*columns[f"{EGO}.imu_se3"]], np.float64).reshape(-1, 7)
    if not np.isfinite(imu).all():
        row = int(np.isfinite(imu).all(axis=1).argmin()) + 1
        raise DataError("finite poses", f"others in row {row} of {path}", "restore it")
    turned = rotations(imu[:, 3:], path)
    place = imu[:, :3] + turned.apply(middle[:3])
    yaw = np.unwrap(headings(turned * rotations(middle[None, 3:], path)[0]))
    pose = np.column_stack([place[:, :2], yaw])
    after = np.searchsorted(time, moment)
    before = np.where(time[after.clip(max=len(time) - 1)] == moment, after, after - 1)
    outside = (before < 0) | (after >= len(time))
    before, after = before.clip(0), after.clip(max=len(time) - 1)
    gap = (time[after] - time[before]).astype(np.float64)
    share = (moment - time[before]) / np.maximum(gap, 1.0)
    between = pose[before] + share[:, None] * (pose[after] - pose[before])
    between[:, 2] = np.arctan2(np.sin(between[:, 2]), np.cos(between[:, 2]))
    between[outside | (gap > MAX_GAP_S * 1e6)] = np.nan
    size = np.where(np.isnan(between[:, :1]), np.nan, [[length, width]])
    return np.column_stack([between, size])


def _vehicle(metadata: dict[str, Any], path: str) -> tuple[float, float, Array]:
    """Length and width of the ego, and the pose of its middle in the frame of its IMU, ``(7,)``."""
    try:
        length, width = (float(metadata[name]) for name in ("length", "width"))
        middle = np.array(metadata["center_to_imu_se3"], np.float64).reshape(7)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        got = f"{error!r:.100} in {path}"
        raise DataError("length, width and middle of the ego", got, "restore it") from error
    if not np.isfinite([length, width, *middle]).all():
        raise DataError("the ego's finite size and middle", f"others in {path}", "restore it")
    return length, width, middle
