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

from data_tools.formats.databases import Database, number, numbers, open_database
from data_tools.passing import refuse_passing
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
MAX_TOKEN_BYTES, MAX_NAME = 32, 200  # tokens have 8 bytes
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

    frame: dict[bytes, int]
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
            except DataError as error:
                refuse_passing(error, path)
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
    if not rows or not all(_is_token(token) for token, _ in rows):
        raise DataError("sweeps in scenes with a token", f"others in {path}", "restore the log")
    return [token for token, _ in rows]


def _is_token(value: Any) -> bool:
    return isinstance(value, bytes) and 0 < len(value) <= MAX_TOKEN_BYTES


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def _log(log: Database) -> tuple[str, str]:
    """What the log is called, and the name of the city's map."""
    rows = log.rows("SELECT logfile, map_version FROM log")
    if len(rows) != 1 or not all(map(_is_name, rows[0])):
        raise DataError(
            "one log with its name and map_version", f"others in {log.path}", "restore the log"
        )
    name, version = rows[0]
    return str(name), str(version).removesuffix(".gpkg")


def _scene_name(log: Database, scene: bytes, unit: str) -> str:
    rows = log.rows("SELECT name FROM scene WHERE token = ?", (scene,))
    if len(rows) != 1:
        raise DataError("a scene of that token", f"none in {unit}", "check it")
    return str(rows[0][0]) if _is_name(rows[0][0]) else scene.hex()


def _sweeps(log: Database, scene: bytes, unit: str) -> _Sweeps:
    wanted = ("p.timestamp", "e.x", "e.y", "e.qw", "e.qx", "e.qy", "e.qz")
    rows = log.rows(
        f"SELECT p.token, {', '.join(map(number, wanted))} FROM lidar_pc p"
        " LEFT JOIN ego_pose e ON e.token = p.ego_pose_token"
        " WHERE p.scene_token = ? ORDER BY p.timestamp, p.token",
        (scene,),
    )
    where = f"the sweeps and ego poses of {unit}"
    values = numbers(rows, 1, 8, where)
    since_s = np.array([(int(row[1]) - int(rows[0][1])) * 1e-6 for row in rows])
    frame = frame_numbers(since_s, STEP_S, JITTER_S, unit)
    yaw = headings(rotations(values[:, 3:], where))
    ahead = REAR_AXLE_TO_CENTRE_M * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    size = np.broadcast_to(EGO_SIZE_M, (len(rows), 2))
    ego = np.full((int(frame[-1]) + 1, 5), np.nan)
    ego[frame] = np.column_stack([values[:, 1:3] + ahead, yaw, size])
    return _Sweeps({row[0]: int(n) for row, n in zip(rows, frame, strict=True)}, ego)


def _boxes(log: Database, scene: bytes, sweeps: _Sweeps, unit: str) -> tuple[Observations, Array]:
    """The boxes of a scene, and how sure the tracker was of each, ``(M,)``, NaN = not said."""
    wanted = ("b.x", "b.y", "b.yaw", "b.length", "b.width", "b.confidence")
    rows = log.rows(
        f"SELECT b.lidar_pc_token, b.track_token, {', '.join(map(number, wanted))}"
        " FROM lidar_box b"
        " WHERE b.lidar_pc_token IN (SELECT token FROM lidar_pc WHERE scene_token = ?)",
        (scene,),
    )
    category = _categories(log)
    where = f"the boxes of {unit}"
    for place, (sweep, track, *_) in enumerate(rows, start=1):
        if sweep not in sweeps.frame or track not in category:
            got = f"none in row {place} of {where}"
            raise DataError("a track with a category for every box", got, "restore the log")
    rows.sort(key=lambda row: sweeps.frame[row[0]])  # in a file they may be in any order
    confidence = np.array([row[7] for row in rows], np.float64)
    confidence[~((confidence >= 0) & (confidence <= 1))] = np.nan
    seen = Observations(
        np.array([sweeps.frame[row[0]] for row in rows], np.int64),
        np.array([row[1].hex() for row in rows], str),
        np.array([category[row[1]] for row in rows], str),
        numbers(rows, 2, 7, where),
    )
    return seen, confidence


def _categories(log: Database) -> dict[bytes, str]:
    """The category of each track of a log, by its token."""
    names = dict(log.rows("SELECT token, name FROM category"))
    return {
        token: names[category]
        for token, category in log.rows("SELECT token, category_token FROM track")
        if _is_token(token) and _is_name(names.get(category))
    }


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
        raise DataError("a log with a map_version", f"{location!r:.60} in {log}", "restore the log")
    folders = [maps.rstrip("/")] if maps else []
    prefix, mark, _ = log.rpartition("://")
    above = f"{prefix}{mark}{filesystem(log)[1]}"  # from the root, also of a relative path
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
