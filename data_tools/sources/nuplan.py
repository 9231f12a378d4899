"""nuPlan: the logs as they are published, one SQLite file each, with the city's map if it is there.

Frames are the lidar's sweeps at 20 Hz. Poses and boxes are in the UTM zone of the city, metres. The
ego's pose is that of its rear axle; here it is the middle of the car, with the size that nuPlan's
own toolkit gives it. Boxes come from an offline tracker.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.formats.databases import Database, numbers, open_database
from data_tools.scene import MapElement, Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.nuplan_map import read_map
from data_tools.sources.observations import Observations, frame_numbers, scene_of, stack
from data_tools.spatial import headings, rotations
from forecast.errors import DataError
from forecast.storage.files import filesystem

Array = NDArray[np.float64]

STEP_S = 0.05
JITTER_S = 0.015  # from one sweep to the next
# The Pacifica of all logs; how far its middle is ahead of the rear axle.
EGO, EGO_SIZE_M, REAR_AXLE_TO_CENTRE_M = "ego", (5.176, 2.297), 1.461
MAX_LEVELS = 5  # from a log up to the folder that holds the maps
_TABLES = {
    "log": ("logfile", "map_version"),
    "scene": ("token", "name"),
    "lidar_pc": ("token", "scene_token", "ego_pose_token", "timestamp"),
    "ego_pose": ("token", "x", "y", "qw", "qx", "qy", "qz"),
    "lidar_box": (
        *("lidar_pc_token", "track_token", "x", "y", "yaw", "length", "width"),
        "confidence",
    ),
    "track": ("token", "category_token"),
    "category": ("token", "name"),
}


@dataclass(frozen=True)
class _Sweeps:
    """The sweeps of a scene: tokens, frames and the ego as ``(T, 5)`` in every frame."""

    number: dict[bytes, int]
    ego: Array


@dataclass(frozen=True)
class NuPlan:
    """Scenes of logs, of 20 s at most; a unit is ``LOG.db#TOKEN`` with the token of the scene.

    Args:
        maps: Folder of the maps; where it is not given, ``maps`` beside a log or above it.
    """

    name: str = "nuplan"
    maps: str = ""

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenes of the logs in some inputs; a log that cannot be read is a unit too.

        Raises:
            DataError: An input does not exist or holds no ``.db``.
        """
        units: list[str] = []
        for path in find_files(inputs, (".db",)):
            try:
                units += [f"{path}#{token.hex()}" for token in _scenes(path)]
            except DataError:
                units.append(path)
        return units

    def read(self, unit: str, dt_s: float) -> Scene:
        """One scene at ``dt_s``, which must be a multiple of 0.05 s.

        Raises:
            DataError: The log or the map is damaged, or has another schema.
        """
        path, _, token = unit.rpartition("#")
        if not re.fullmatch(r"(?:[0-9a-f]{2})+", token) or not path:
            _scenes(unit)  # raises what kept it from being listed scene by scene
            raise DataError("LOG.db#TOKEN", repr(unit), "name a scene of the log")
        scene = bytes.fromhex(token)
        with open_database(path, _TABLES) as log:
            name, location = _log(log)
            label = _scene_name(log, scene, unit)
            sweeps = _sweeps(log, scene, unit)
            seen, confidence = _boxes(log, scene, sweeps, unit)
        tracks = stack(_with_ego(seen, sweeps.ego), len(sweeps.ego), unit)
        found, elements = self._map(path, location, sweeps.ego[:, :2])
        made = scene_of(
            f"{name}-{label}",
            tracks,
            sweeps.ego[:, :3],
            step_s=STEP_S,
            dt_s=dt_s,
            where=unit,
            map=elements,
            notes={
                "scenes without a map": int(not found),
                "frames without annotations": len(sweeps.ego) - len(np.unique(seen.frame)),
            },
        )
        return replace(made, score=_score(made, seen, confidence))

    def _map(self, path: str, location: str, way: Array) -> tuple[bool, tuple[MapElement, ...]]:
        """Whether the city's map is there, and what it has around the ego's way."""
        found = _map_path(self.maps, path, location)
        return found is not None, read_map(found, way) if found else ()


def _scenes(path: str) -> list[bytes]:
    """Tokens of a log's scenes in the order of time."""
    with open_database(path, _TABLES) as log:
        rows = log.rows(
            "SELECT scene_token, min(timestamp) FROM lidar_pc GROUP BY scene_token ORDER BY 2, 1"
        )
    if not rows or not all(isinstance(token, bytes) and token for token, _ in rows):
        raise DataError("scenes with a token", f"none in {path}", "restore the log")
    return [token for token, _ in rows]


def _log(log: Database) -> tuple[str, str]:
    """What the log is called, and the name of the city's map."""
    rows = log.rows("SELECT logfile, map_version FROM log")
    if len(rows) != 1 or not all(isinstance(text, str) and text for text in rows[0]):
        raise DataError(
            "one log with its name and map_version", f"others in {log.path}", "restore the log"
        )
    name, version = rows[0]
    return str(name), str(version).removesuffix(".gpkg")


def _scene_name(log: Database, scene: bytes, unit: str) -> str:
    rows = log.rows("SELECT name FROM scene WHERE token = ?", (scene,))
    if len(rows) != 1:
        raise DataError("a scene of that token", f"none in {unit}", "check it")
    return str(rows[0][0] or scene.hex())


def _sweeps(log: Database, scene: bytes, unit: str) -> _Sweeps:
    rows = log.rows(
        "SELECT p.token, p.timestamp, e.x, e.y, e.qw, e.qx, e.qy, e.qz FROM lidar_pc p"
        " LEFT JOIN ego_pose e ON e.token = p.ego_pose_token"
        " WHERE p.scene_token = ? ORDER BY p.timestamp, p.token",
        (scene,),
    )
    where = f"the sweeps and ego poses of {unit}"
    values = numbers(rows, 1, 8, where)
    time_us = [row[1] for row in rows]
    frame = frame_numbers(
        np.array([(int(t) - int(time_us[0])) * 1e-6 for t in time_us]), STEP_S, JITTER_S, unit
    )
    yaw = headings(rotations(values[:, 3:], where))
    ahead = REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    ego = np.full((int(frame[-1]) + 1, 5), np.nan)
    ego[frame] = np.column_stack(
        [values[:, 1:3] + ahead, yaw, np.broadcast_to(EGO_SIZE_M, (len(rows), 2))]
    )
    number = {row[0]: int(place) for row, place in zip(rows, frame, strict=True)}
    return _Sweeps(number, ego)


def _boxes(log: Database, scene: bytes, sweeps: _Sweeps, unit: str) -> tuple[Observations, Array]:
    """The boxes of a scene, and how sure the tracker was of each, ``(M,)``, NaN = not said."""
    rows = log.rows(
        "SELECT b.lidar_pc_token, b.track_token, c.name, b.x, b.y, b.yaw, b.length, b.width,"
        " b.confidence FROM lidar_box b LEFT JOIN track t ON t.token = b.track_token"
        " LEFT JOIN category c ON c.token = t.category_token"
        " WHERE b.lidar_pc_token IN (SELECT token FROM lidar_pc WHERE scene_token = ?)",
        (scene,),
    )
    # The order of rows in a file means nothing.
    rows.sort(key=lambda row: sweeps.number[row[0]])
    where = f"the boxes of {unit}"
    for place, (_, track, category, *_) in enumerate(rows, start=1):
        if not isinstance(track, bytes) or not isinstance(category, str):
            got = f"others in row {place} of {where}"
            raise DataError("a track with a category for every box", got, "restore the log")
    said = [row[8] if type(row[8]) in (float, int) else np.nan for row in rows]
    confidence = np.array(said, np.float64)
    confidence[~((confidence >= 0) & (confidence <= 1))] = np.nan
    seen = Observations(
        np.array([sweeps.number[row[0]] for row in rows], np.int64),
        np.array([row[1].hex() for row in rows], str),
        np.array([row[2] for row in rows], str),
        numbers(rows, 3, 8, where),
    )
    return seen, confidence


def _with_ego(seen: Observations, ego: Array) -> Observations:
    """The boxes and those of the ego, which has none in the file."""
    there = np.flatnonzero(np.isfinite(ego[:, 0]))
    names = np.full(len(there), EGO)
    return Observations(
        np.concatenate([seen.frame, there]),
        np.concatenate([seen.track, names]),
        np.concatenate([seen.kind, names]),
        np.concatenate([seen.box, ego[there]]),
    )


def _score(made: Scene, seen: Observations, confidence: Array) -> Array:
    """The tracker's confidence in the frames of a scene, ``(N, T)``; NaN for the ego."""
    place: dict[Any, int] = {track: number for number, track in enumerate(made.track_id)}
    every = round(made.dt_s / STEP_S)
    score = np.full(made.state.shape[:2], np.nan)
    taken = seen.frame % every == 0
    track = np.array([place[name] for name in seen.track[taken]], np.int64)
    score[track, seen.frame[taken] // every] = confidence[taken]
    return score


def _map_path(maps: str, log: str, location: str) -> str | None:
    """The map of a city: in the folder given, or in ``maps`` beside the log or above it.

    Raises:
        DataError: It is in several versions, or is not in the folder given.
    """
    if not re.fullmatch(r"\w[\w.-]*", location):  # it becomes part of a path
        raise DataError("a log with a map_version", f"{location!r} in {log}", "restore the log")
    folders = [maps.rstrip("/")] if maps else []
    above = log
    while not maps and len(folders) < MAX_LEVELS and posixpath.dirname(above) not in (above, ""):
        above = posixpath.dirname(above)
        folders.append(posixpath.join(above, "maps"))
    for folder in folders:
        system, inner = filesystem(posixpath.join(folder, location))
        found = [
            version
            for version in (system.ls(inner, detail=False) if system.isdir(inner) else ())
            if system.isfile(posixpath.join(version, "map.gpkg"))
        ]
        if len(found) > 1:
            got = f"{len(found)} in {folder}/{location}"
            raise DataError(
                "one version of the map", got, "leave the one that the log was made with"
            )
        if found:
            return posixpath.join(folder, location, posixpath.basename(found[0]), "map.gpkg")
    if maps:
        raise DataError(f"{location}/VERSION/map.gpkg", f"none in {maps}", "correct --set maps")
    return None
