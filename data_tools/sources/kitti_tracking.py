"""KITTI tracking: boxes in the camera's frame, brought into the world by calibration and OXTS.

A sequence is three files of one name: labels, calibration (how camera, velodyne and IMU sit on the
car) and OXTS (where the IMU was). The world is a plane with x to the east and y to the north, from
the IMU's first place; Mercator's projection, scaled at the first latitude, as in KITTI's own tools.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from data_tools.scene import Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.observations import Observations, apart, scene_of, stack
from data_tools.spatial import headings
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.files import read_whole

Array = NDArray[np.float64]

STEP_S = 0.1
EARTH_RADIUS_M = 6378137.0
MAX_LATITUDE = 85.0  # Mercator's projection ends near the poles
LABEL_FOLDERS = ("label_02", "label")
REGION = "DontCare"  # of the picture, not an agent
MAX_NUMBER = 1e9  # neither metres nor degrees come near it
MAX_BYTES = 1 << 26  # the largest label file is below 1 MB
# Columns of labels: frame, track, type, then numbers of which these are height to rotation_y.
BOX = slice(10, 17)
# Names of the calibration in the tracking and in the object benchmark.
CALIBRATION = {
    "R_rect": (3, 3),
    "R0_rect": (3, 3),
    "Tr_velo_cam": (3, 4),
    "Tr_velo_to_cam": (3, 4),
    "Tr_imu_velo": (3, 4),
    "Tr_imu_to_velo": (3, 4),
}


class KittiTracking:
    """Sequences; a unit is one file of labels."""

    name = "kitti-tracking"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The label files in some inputs.

        Raises:
            DataError: An input does not exist, or none has a folder of labels.
        """
        files = find_files(inputs, (".txt",))
        found = [file for file in files if _folder(file) in LABEL_FOLDERS]
        if not found:
            raise DataError(
                f"label files in a folder {' or '.join(LABEL_FOLDERS)}",
                f"none in {', '.join(inputs)}",
                "check the path",
            )
        return found

    def read(self, unit: str, dt_s: float) -> Scene:
        """A sequence at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: One of its files is missing, damaged or contradicts another.
        """
        imu_of_camera = _imu_of_camera(_beside(unit, "calib"))
        place, rotation = _imu_poses(_beside(unit, "oxts"))
        seen = _in_world(_labels(unit, len(place)), imu_of_camera, place, rotation)
        return scene_of(
            posixpath.basename(unit).removesuffix(".txt"),
            stack(apart(seen, place, STEP_S), len(place), f"the agents of {unit}"),
            np.column_stack([place[:, :2], headings(rotation)]),
            step_s=STEP_S,
            dt_s=dt_s,
            where=unit,
            notes={"ego without a box": 1},
        )


def _folder(unit: str) -> str:
    return posixpath.basename(posixpath.dirname(unit))


def _beside(unit: str, folder: str) -> str:
    root = posixpath.dirname(posixpath.dirname(unit))
    return posixpath.join(root, folder, posixpath.basename(unit))


def _lines(path: str) -> Iterator[tuple[str, list[str]]]:
    """The words of each line that has any, and what to call it."""
    try:
        text = read_whole(path, MAX_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError("a text file of numbers", f"{path} ({error})", "restore it") from error
    for number, row in enumerate(text.splitlines(), start=1):
        if words := row.split():
            yield f"row {number} of {path}", words


def _numbers(words: Sequence[str], where: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DataError("numbers", f"{where} ({error})", "restore the file") from error
    if any(abs(number) > MAX_NUMBER for number in numbers):
        raise DataError(f"numbers up to {MAX_NUMBER:g}", f"more in {where}", "restore the file")
    return numbers


def _imu_of_camera(path: str) -> Array:
    """The ``(4, 4)`` transform of points from the rectified camera to the IMU."""
    found: dict[str, Array] = {}
    for where, words in _lines(path):
        name = words[0].removesuffix(":")
        if name in CALIBRATION:
            found[name.replace("0", "").replace("_to_", "_")] = _rigid(
                _numbers(words[1:], where), CALIBRATION[name], where
            )
    missing = [name for name in ("R_rect", "Tr_velo_cam", "Tr_imu_velo") if name not in found]
    if missing:
        raise DataError("a calibration", f"no {', '.join(missing)} in {path}", "restore it")
    camera_of_imu = found["R_rect"] @ found["Tr_velo_cam"] @ found["Tr_imu_velo"]
    return np.asarray(np.linalg.inv(camera_of_imu))


def _rigid(numbers: list[float], shape: tuple[int, int], where: str) -> Array:
    """A ``(4, 4)`` rigid motion; numbers with so few digits rotate only nearly."""
    motion = np.eye(4)
    if len(numbers) == shape[0] * shape[1]:
        motion[:3, : shape[1]] = np.reshape(numbers, shape)
    product = motion[:3, :3] @ motion[:3, :3].T if np.isfinite(numbers).all() else np.zeros((3, 3))
    if len(numbers) != shape[0] * shape[1] or not np.allclose(product, np.eye(3), atol=1e-3):
        raise DataError(f"a rotation in {shape[0]} x {shape[1]} numbers", where, "restore the file")
    return motion


def _imu_poses(path: str) -> tuple[Array, Rotation]:
    """Places ``(T, 3)`` of the IMU, metres from the first, and its rotations."""
    rows: list[list[float]] = []
    for where, words in _lines(path):
        row = _numbers(words[:6], where)  # latitude, longitude, altitude, roll, pitch, yaw
        fits = len(row) == 6 and np.isfinite(row).all() and abs(row[0]) <= MAX_LATITUDE
        if not fits or abs(row[1]) > 180:
            raise DataError(
                "latitude, longitude, altitude, roll, pitch and yaw", where, "restore the file"
            )
        rows.append(row)
    if not rows:
        raise DataError("poses", f"none in {path}", "restore the file")
    pose = np.array(rows, np.float64)
    latitude = np.radians(pose[:, 0])
    longitude = wrap_angle(np.radians(pose[:, 1] - pose[0, 1]))  # a drive may cross 180 degrees
    scale = EARTH_RADIUS_M * np.cos(latitude[0])
    north = np.log(np.tan(np.pi / 4 + latitude / 2))
    place = np.column_stack([scale * longitude, scale * north, pose[:, 2]])
    return place - place[0], Rotation.from_euler("ZYX", pose[:, 5:2:-1])


def _labels(path: str, frames: int) -> Observations:
    """Agents as labelled: boxes ``(M, 7)`` of height, width, length, x, y, z, rotation_y."""
    frame, track, kind, box = [], [], [], []
    for where, words in _lines(path):
        if len(words) < BOX.stop:
            raise DataError(f"{BOX.stop} columns", f"{len(words)} in {where}", "restore the file")
        if words[2] == REGION:
            continue
        number = int(words[0]) if words[0].isdecimal() and len(words[0]) < 9 else frames
        if number >= frames:
            raise DataError(
                f"a frame below {frames}, the poses there are",
                f"{words[0]} in {where}",
                "restore the file",
            )
        frame.append(number)
        track.append(words[1])
        kind.append(words[2])
        box.append(_numbers(words[BOX], where))
    return Observations(
        np.array(frame, np.int64),
        np.array(track, str),
        np.array(kind, str),
        np.array(box, np.float64).reshape(-1, 7),
    )


def _in_world(
    seen: Observations, imu_of_camera: Array, place: Array, rotation: Rotation
) -> Observations:
    """The same with boxes as x, y, yaw, length, width in the world's plane."""
    if len(seen.frame) == 0:
        return seen
    height, width, length, x, y, z, turn = seen.box.T
    centre = np.column_stack([x, y - height / 2, z])  # from the bottom; the camera's y is down
    ahead = np.column_stack([np.cos(turn), np.zeros_like(turn), -np.sin(turn)])
    rigid, offset = imu_of_camera[:3, :3], imu_of_camera[:3, 3]
    imu = rotation[seen.frame]
    there = imu.apply(centre @ rigid.T + offset) + place[seen.frame]
    course = imu.apply(ahead @ rigid.T)
    yaw = np.arctan2(course[:, 1], course[:, 0])
    box = np.column_stack([there[:, :2], yaw, length, width])
    return Observations(seen.frame, seen.track, seen.kind, box)
