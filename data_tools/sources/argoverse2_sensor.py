"""Logs of the Argoverse 2 Sensor dataset: annotations, ego poses and the vector map of a log.

A log is a directory with ``annotations.feather`` (or ``annotations_with_ego.feather``, in which
the ego has a box of its own), ``city_SE3_egovehicle.feather`` and ``map/log_map_archive_*.json``.
Boxes are in the ego frame of their own moment; here they are in the frame of the city.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_tools.formats.columns import read_columns
from data_tools.scene import MapElement, Scene
from data_tools.sources.argoverse2_map import read_map
from data_tools.sources.inputs import find_files
from data_tools.sources.observations import Observations, frame_numbers, scene_of, stack
from data_tools.spatial import headings, rotations
from forecast.errors import DataError
from forecast.storage.files import filesystem

Array = NDArray[np.float64]

STEP_S = 0.1
JITTER_S = 0.03  # from one sweep to the next
SUFFIXES = ("annotations.feather", "annotations_with_ego.feather")
MAP = "log_map_archive_*.json"
POSES = "city_SE3_egovehicle.feather"
_ROTATION, _PLACE = ("qw", "qx", "qy", "qz"), ("tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m")
_POSE_TYPES = {"timestamp_ns": pa.int64(), **dict.fromkeys((*_ROTATION, *_PLACE), pa.float64())}
_BOX_TYPES = {
    "track_uuid": pa.string(),
    "category": pa.string(),
    **dict.fromkeys(_SIZE, pa.float64()),
    **_POSE_TYPES,
}


class Argoverse2Sensor:
    """One log a unit, named by its file of annotations."""

    name = "argoverse2-sensor"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The logs in some inputs; where a log has both files, the one with the ego.

        Raises:
            DataError: An input does not exist or holds no annotations.
        """
        chosen: dict[str, str] = {}
        for path in find_files(inputs, SUFFIXES):
            log = posixpath.dirname(path)
            if log not in chosen or path.endswith(SUFFIXES[1]):
                chosen[log] = path
        return list(chosen.values())

    def read(self, unit: str, dt_s: float) -> Scene:
        """A log at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: A file of the log is missing or not as it should be.
        """
        rows = read_columns(unit, _BOX_TYPES)
        poses = read_columns(_beside(unit, POSES), _POSE_TYPES)
        moments, moment = np.unique(rows["timestamp_ns"], return_inverse=True)
        frame = frame_numbers((moments - moments[:1]) * 1e-9, STEP_S, JITTER_S, unit)
        ego, ego_pose = _ego(poses, moments, frame, _beside(unit, POSES))
        box = _in_city(rows, poses, ego[moment], unit)
        seen = Observations(frame[moment], rows["track_uuid"], rows["category"], box)
        tracks = stack(seen, len(ego_pose), unit)
        return scene_of(
            posixpath.basename(posixpath.dirname(filesystem(unit)[1])),
            tracks,
            ego_pose,
            step_s=STEP_S,
            dt_s=dt_s,
            where=unit,
            map=_map(unit),
            notes={
                "ego without a box": int("EGO_VEHICLE" not in tracks.track_class),
                "frames without annotations": len(ego_pose) - len(moments),
            },
        )


def _beside(unit: str, name: str) -> str:
    return posixpath.join(posixpath.dirname(unit), name)


def _ego(
    poses: dict[str, NDArray[Any]],
    moments: NDArray[np.int64],
    frame: NDArray[np.int64],
    path: str,
) -> tuple[NDArray[np.int64], Array]:
    """The row of ``poses`` at each moment, and the ego's pose in each frame, NaN in gaps."""
    time = poses["timestamp_ns"]
    backwards = np.diff(time, prepend=time[:1] - 1) <= 0
    if backwards.any():
        raise DataError(
            "poses in the order of time", f"row {backwards.argmax() + 1} of {path}", "correct it"
        )
    row = np.searchsorted(time, moments).clip(max=max(len(time) - 1, 0))
    missing = time[row] != moments if len(time) else np.ones(len(moments), bool)
    if missing.any():
        raise DataError(
            "an ego pose for every frame with annotations",
            f"none at {moments[missing.argmax()]} ns in {path}",
            "restore it or leave the log out",
        )
    pose = np.full((int(frame[-1]) + 1, 3), np.nan)
    rotation = rotations(_columns(poses, _ROTATION)[row], path)
    pose[frame] = np.column_stack([_columns(poses, _PLACE)[row, :2], headings(rotation)])
    return row, pose


def _in_city(
    rows: dict[str, NDArray[Any]],
    poses: dict[str, NDArray[Any]],
    ego: NDArray[np.int64],
    unit: str,
) -> Array:
    """Boxes ``(M, 5)`` in the frame of the city; ``ego`` is the row of ``poses`` for each."""
    turned = rotations(_columns(poses, _ROTATION)[ego], POSES)
    place = turned.apply(_columns(rows, _PLACE)) + _columns(poses, _PLACE)[ego]
    yaw = headings(turned * rotations(_columns(rows, _ROTATION), unit))
    return np.column_stack([place[:, :2], yaw, _columns(rows, _SIZE)])


def _columns(table: dict[str, NDArray[Any]], names: Sequence[str]) -> Array:
    return np.column_stack([table[name] for name in names])


def _map(unit: str) -> tuple[MapElement, ...]:
    folder = _beside(unit, "map")
    system, inner = filesystem(folder)
    files = map(posixpath.basename, system.find(inner))
    maps = sorted(name for name in files if fnmatch(name, MAP))
    if not maps:
        raise DataError(f"a map {MAP}", f"none in {folder}", "restore it or leave the log out")
    return read_map(posixpath.join(folder, maps[0]))
