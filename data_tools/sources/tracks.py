"""A user's own tracks: a CSV or Parquet table, any rate, resampled linearly.

Positions between two observations of a track lie on the straight line between them, unless they
are more than :data:`MAX_GAP_S` apart: then the track is absent in between. Before its first and
after its last observation a track is absent too. ``docs/data_format.md`` lists the columns.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.classes import class_of
from data_tools.formats.geojson import read_map
from data_tools.scene import MapElement, Scene
from data_tools.sources.inputs import find_files
from data_tools.sources.tracks_heading import refuse_other_units, table_headings
from data_tools.sources.tracks_resample import (
    TIME_TOLERANCE_S,
    Track,
    last_score,
    resample,
    samples,
)
from data_tools.sources.tracks_table import SUFFIXES, scene_names, scene_table
from forecast.errors import DataError
from forecast.storage.files import filesystem

Array = NDArray[np.float64]

MAX_SCENE_S = 24 * 3600.0


class Tracks:
    """Tables of tracks; a unit of work is one scene of one table, ``path#scene``."""

    name = "tracks"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenes of some tables.

        A table that cannot be read is a unit too: reading it says what is wrong.

        Raises:
            DataError: An input does not exist or holds no table.
        """
        units: list[str] = []
        for path in find_files(inputs, SUFFIXES):
            try:
                units += [f"{path}#{quote(name)}" for name in scene_names(path)]
            except DataError:
                units.append(path)
        return units

    def read(self, unit: str, dt_s: float) -> Scene:
        """One scene, resampled to steps of ``dt_s`` from its first observation on.

        Raises:
            DataError: The table or the map beside it is not as documented.
        """
        path, mark, scene = unit.rpartition("#")
        if not mark:
            scene_names(unit)  # raises what kept it from being listed scene by scene
            raise DataError("path#scene", repr(unit), "name a scene of the table")
        table = scene_table(path, unquote(scene))
        time_s = _frame_times(table["time_s"].to_numpy(float), dt_s, unit)
        refuse_other_units(table, path)
        elements, notes = _map(path), Counter[str]()
        table["yaw_rad"], table["yaw_then"] = table_headings(table, elements, notes)
        tracks = [
            _track(str(name), rows, notes) for name, rows in table.groupby("track_id", sort=False)
        ]
        ego = _ego(tracks, notes)
        state = np.stack([resample(track, time_s) for track in tracks])
        return Scene(
            name=f"{posixpath.basename(path)}#{unquote(scene)}",
            time_s=time_s,
            dt_s=dt_s,
            track_id=tuple(track.name for track in tracks),
            track_class=tuple(track.kind for track in tracks),
            state=state,
            ego_pose=state[ego, :, :3].copy(),
            map=elements,
            observed=samples(tracks, dt_s),
            score=_scores(tracks, time_s, state, notes),
            notes=dict(notes),
        )


def _frame_times(time_s: Array, dt_s: float, unit: str) -> Array:
    first, last = float(time_s.min()), float(time_s.max())
    if last - first > MAX_SCENE_S:
        raise DataError(
            "a scene of a day at most, times in seconds",
            f"{last - first:g} s in {unit}",
            "convert time_s or split the scene",
        )
    frames = int((last - first + TIME_TOLERANCE_S) / dt_s) + 1
    return first + dt_s * np.arange(frames, dtype=np.float64)


def _track(name: str, rows: pd.DataFrame, notes: Counter[str]) -> Track:
    """One agent's rows as a track; counts what had to be filled in."""
    kinds = rows["class"].value_counts()
    notes["tracks of more than one class, the most frequent taken"] += len(kinds) > 1
    kind = str(kinds.index[0])
    size = rows[["length_m", "width_m"]].median().to_numpy(float)
    # A stack knows the sizes measured so far.
    so_far = rows[["length_m", "width_m"]].expanding().median().to_numpy(float)
    return Track(
        name=name,
        kind=kind,
        time_s=rows["time_s"].to_numpy(float),
        pose=rows[["x_m", "y_m", "yaw_rad"]].to_numpy(float),
        size_m=size,
        observed=np.column_stack([rows[["x_m", "y_m", "yaw_then"]].to_numpy(float), so_far]),
        score=rows["score"].to_numpy(float),
        is_ego=bool(rows["is_ego"].any()),
    )


def _scores(
    tracks: Sequence[Track], time_s: Array, state: Array, notes: Counter[str]
) -> Array | None:
    """The score of each track in each frame, ``(N, T)``; None where the table has none."""
    given = np.concatenate([track.score for track in tracks])
    if np.isnan(given).all():
        return None
    notes["rows without a score"] = int(np.isnan(given).sum())
    score = np.stack([last_score(track, time_s) for track in tracks])
    return np.where(np.isfinite(state[..., 0]), score, np.nan)


def _ego(tracks: Sequence[Track], notes: Counter[str]) -> int:
    """The marked track, else the vehicle that moves furthest; any class where there is none."""
    for place, track in enumerate(tracks):
        if track.is_ego:
            return place
    notes["no ego named"] += 1
    is_vehicle = [class_of("tracks", track.kind) == "vehicle" for track in tracks]
    moved = [
        float(np.linalg.norm(track.pose[-1, :2] - track.pose[0, :2]))
        if vehicle or not any(is_vehicle)
        else -1.0
        for track, vehicle in zip(tracks, is_vehicle, strict=True)
    ]
    return int(np.argmax(moved))


def _map(path: str) -> tuple[MapElement, ...]:
    """The map beside a table: ``<table>.geojson``, or ``<table's stem>.map.geojson``."""
    stem = next((path.removesuffix(end) for end in SUFFIXES if path.endswith(end)), path)
    for name in (f"{path}.geojson", f"{stem}.map.geojson"):
        system, inner = filesystem(name)
        if system.exists(inner):
            return read_map(name)
    return ()
