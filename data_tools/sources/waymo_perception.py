"""Waymo Open Dataset, Perception, version 2: tables of boxes and of vehicle poses.

A segment is two Parquet files of one name, ``lidar_box/SEGMENT.parquet`` and
``vehicle_pose/SEGMENT.parquet``. Boxes are in the frame of the vehicle at their moment; here they
are in that of the world. The format has neither a box nor a size of the vehicle itself, and no map.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_tools.formats.columns import read_columns
from data_tools.scene import Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.observations import Observations, frame_numbers, scene_of, stack
from forecast.errors import DataError

Array = NDArray[np.float64]

STEP_S = 0.1
JITTER_S = 0.03
BOXES, POSES = "lidar_box", "vehicle_pose"  # components, and their folders
TYPES = ("TYPE_UNKNOWN", "TYPE_VEHICLE", "TYPE_PEDESTRIAN", "TYPE_SIGN", "TYPE_CYCLIST")
SEGMENT, TIME = "key.segment_context_name", "key.frame_timestamp_micros"
OBJECT, KIND = "key.laser_object_id", "[LiDARBoxComponent].type"
TRANSFORM = "[VehiclePoseComponent].world_from_vehicle.transform"
_BOX = tuple(
    f"[LiDARBoxComponent].box.{name}"
    for name in ("center.x", "center.y", "center.z", "heading", "size.x", "size.y")
)
_KEYS = {SEGMENT: pa.string(), TIME: pa.int64()}
_BOX_TYPES = {**_KEYS, OBJECT: pa.string(), KIND: pa.int64(), **dict.fromkeys(_BOX, pa.float64())}
# Float in some releases, double in others.
_POSE_TYPES = {**_KEYS, TRANSFORM: pa.list_(pa.float64(), 16)}


class WaymoPerception:
    """One segment of 20 s a unit, named by its table of boxes."""

    name = "waymo-perception"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The segments in some inputs: ``.parquet`` files in folders named ``lidar_box``.

        Raises:
            DataError: An input does not exist, or none has such a file.
        """
        files = find_files(inputs, (".parquet",))
        found = [file for file in files if posixpath.basename(posixpath.dirname(file)) == BOXES]
        if not found:
            raise DataError(
                f"files in a folder {BOXES}", f"none in {', '.join(inputs)}", "check the path"
            )
        return found

    def read(self, unit: str, dt_s: float) -> Scene:
        """A segment at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: A table is missing, damaged, or contradicts the other.
        """
        rows, poses = read_columns(unit, _BOX_TYPES), read_columns(_poses(unit), _POSE_TYPES)
        name = _segment(rows, poses, unit)
        world, moment = _world(poses, _poses(unit))
        since_s = np.asarray((moment - moment[:1]) * 1e-6, np.float64)
        frame = frame_numbers(since_s, STEP_S, JITTER_S, unit)
        ego_pose = np.full((int(frame[-1]) + 1, 3), np.nan)
        ego_pose[frame] = np.column_stack([world[:, :2, 3], _yaw(world[:, :3, 0])])
        place = _places(rows[TIME], moment, unit)
        order = np.argsort(place, kind="stable")  # rows may be in any order
        rows, place = {key: values[order] for key, values in rows.items()}, place[order]
        box, kind = _in_world(rows, world[place]), _kinds(rows[KIND], unit)
        return scene_of(
            name,
            stack(Observations(frame[place], rows[OBJECT], kind, box), len(ego_pose), unit),
            ego_pose,
            step_s=STEP_S,
            dt_s=dt_s,
            where=unit,
            notes={
                "ego without a box": 1,
                "frames without annotations": len(ego_pose) - len(np.unique(place)),
            },
        )


def _poses(unit: str) -> str:
    root = posixpath.dirname(posixpath.dirname(unit))
    return posixpath.join(root, POSES, posixpath.basename(unit))


def _segment(rows: dict[str, NDArray[Any]], poses: dict[str, NDArray[Any]], unit: str) -> str:
    names = {*rows[SEGMENT], *poses[SEGMENT]}
    if len(names) != 1:
        raise DataError(
            "the boxes and poses of one segment", f"{len(names)} in {unit}", "write a file for each"
        )
    return str(names.pop())


def _world(poses: dict[str, NDArray[Any]], path: str) -> tuple[Array, NDArray[np.int64]]:
    """World from vehicle ``(T, 4, 4)`` and microseconds ``(T,)``, in the order of time."""
    order = np.argsort(poses[TIME], kind="stable")
    # A row whose number of values is another does not get here.
    flat = np.array([*poses[TRANSFORM][order]], np.float64).reshape(-1, 16)
    world = flat.reshape(-1, 4, 4)
    with np.errstate(all="ignore"):  # of what is not finite or far too large, refused here
        turned = world[:, :3, :3]
        off = np.abs(turned @ turned.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0.0)
        rigid = (off < 1e-3) & (np.linalg.det(turned) > 0) & np.isfinite(flat).all(axis=1)
    rigid &= (np.abs(world[:, 3] - [0, 0, 0, 1]) < 1e-6).all(axis=1)
    if not rigid.all():
        row = int(order[int(rigid.argmin())]) + 1
        raise DataError(
            "a 4 x 4 transform that turns and moves", f"others in row {row} of {path}", "restore it"
        )
    return world, poses[TIME][order]


def _places(time_us: NDArray[np.int64], moment: NDArray[np.int64], unit: str) -> NDArray[np.int64]:
    """The row of the poses for each box."""
    place = np.searchsorted(moment, time_us).clip(max=len(moment) - 1)
    missing = moment[place] != time_us
    if missing.any():
        row = int(missing.argmax()) + 1
        raise DataError(
            "a vehicle pose for every box", f"none for row {row} of {unit}", "restore the poses"
        )
    return place


def _in_world(rows: dict[str, NDArray[Any]], world: Array) -> Array:
    """Boxes ``(M, 5)`` in the world, each by its own ``world`` from vehicle."""
    x, y, z, heading, length, width = (rows[name] for name in _BOX)
    place = world @ np.stack([x, y, z, np.ones_like(x)], axis=-1)[..., None]
    forward = np.stack([np.cos(heading), np.sin(heading), np.zeros_like(x)], axis=-1)
    yaw = _yaw((world[:, :3, :3] @ forward[..., None])[..., 0])
    return np.column_stack([place[:, :2, 0], yaw, length, width])


def _yaw(forward: Array) -> Array:
    return np.arctan2(forward[:, 1], forward[:, 0])


def _kinds(kind: NDArray[np.int64], unit: str) -> NDArray[Any]:
    unknown = (kind < 0) | (kind >= len(TYPES))
    if unknown.any():
        row = int(unknown.argmax())
        got = f"{kind[row]} in {unit}"
        raise DataError(f"a type of 0 to {len(TYPES) - 1}", got, "leave it out")
    return np.array(TYPES)[kind]
