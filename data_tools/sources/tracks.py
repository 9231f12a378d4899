"""A user's own tracks: a CSV or Parquet table, any rate, resampled linearly.

Positions between two observations of a track lie on the straight line between them, unless they
are more than :data:`MAX_GAP_S` apart: then the track is absent in between. Before its first and
after its last observation a track is absent too. ``docs/data_format.md`` lists the columns.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.classes import usual_class
from data_tools.formats.geojson import read_map
from data_tools.labels.map_index import MapIndex
from data_tools.passing import refuse_passing
from data_tools.scene import FARTHEST_M, MapElement, Scene
from data_tools.sources.grouped import Rows, grouped
from data_tools.sources.inputs import find_files
from data_tools.sources.presets import OWN, Preset
from data_tools.sources.reused_ids import beginnings, may_begin
from data_tools.sources.tracks_heading import (
    most_frequent,
    refuse_other_units,
    table_headings,
)
from data_tools.sources.tracks_map import preset_map
from data_tools.sources.tracks_position import to_centres
from data_tools.sources.tracks_resample import (
    MAX_GAP_S,
    TIME_TOLERANCE_S,
    Track,
    last_score,
    resample,
    samples,
)
from data_tools.sources.tracks_table import Table, scene_names, scene_table
from data_tools.suspicions import of_coordinates, of_headings
from forecast.errors import DataError
from forecast.storage.files import filesystem

Array = NDArray[np.float64]

MAX_SCENE_S = 24 * 3600.0


@dataclass(frozen=True)
class Tracks:
    """Tables of tracks; a unit of work is one scene of one table, ``path#scene``.

    Args:
        name: What the source is called.
        preset: What the columns are called and mean. Where it has none of scenes, each table is one
            and a unit by its path.
        map_classes: The user's own pairs of label and class.
    """

    name: str = "tracks"
    preset: Preset = OWN
    map_classes: tuple[tuple[str, str], ...] = ()

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenes of some tables.

        A table that cannot be read is a unit too: reading it says what is wrong.

        Raises:
            DataError: An input does not exist or holds no table.
            PassingError: The machine or a network failed.
        """
        found = find_files(inputs, self.preset.files)
        if self.preset.columns.scene is None:
            return found
        units: list[str] = []
        for path in found:
            try:
                units += [f"{path}#{quote(name)}" for name in scene_names(path, self.preset)]
            except DataError as error:
                refuse_passing(error, path)
                units.append(path)
        return units

    def read(self, unit: str, dt_s: float) -> Scene:
        """One scene, resampled to steps of ``dt_s`` from its first observation on.

        Raises:
            DataError: The table or the map beside it is not as documented.
        """
        path, scene = self._place(unit)
        file = posixpath.basename(path)
        table = scene_table(path, scene, self.preset)
        time_s = _frame_times(table["time_s"], dt_s, unit)
        notes = Counter[str]()
        kind_of = partial(usual_class, overrides=self.map_classes)
        table["track_id"] = _agents(table, kind_of, notes)
        agents = grouped(table["track_id"])
        refuse_other_units(table, agents, path)
        warnings = _suspicions(table, agents)
        elements = MapIndex.of(_map(path) or preset_map(path, self.preset, notes))
        headings = table_headings(table, agents, elements, kind_of, notes)
        table["yaw_rad"], table["yaw_then"] = headings
        notes["scenes without a map"] += not elements
        to_centres(table, self.preset, self.map_classes, notes)
        tracks = _tracks(table, agents, notes)
        egos = _egos(tracks, kind_of, notes)
        state = np.stack([resample(track, time_s) for track in tracks])
        return Scene(
            name=file if scene in (None, file) else f"{file}#{scene}",
            time_s=time_s,
            dt_s=dt_s,
            track_id=tuple(track.name for track in tracks),
            track_class=tuple(track.kind for track in tracks),
            state=state,
            ego_pose=state[egos[0], :, :3].copy(),
            ego_tracks=egos,
            map=elements,
            observed=samples(tracks, dt_s),
            score=_scores(tracks, time_s, state, notes),
            notes=dict(notes),
            warnings=warnings,
        )

    def _place(self, unit: str) -> tuple[str, str | None]:
        """The table and the scene in it that a unit is; None where the whole table is one."""
        if self.preset.columns.scene is None:
            return unit, None
        path, mark, scene = unit.rpartition("#")
        if not mark:
            scene_names(unit, self.preset)  # raises what kept it from being listed by scenes
            raise DataError("path#scene", repr(unit), "name a scene of the table")
        return path, unquote(scene)


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


def _agents(
    table: Table, kind_of: Callable[[str], str], notes: Counter[str]
) -> NDArray[np.object_]:
    """Each row's agent: those of an id that several have in turn are ``7``, ``7#2`` and so on."""
    names, time_s = table["track_id"], table["time_s"]
    position = np.column_stack([table["x_m"], table["y_m"]])
    groups = grouped(names)
    longest_s = MAX_GAP_S + TIME_TOLERANCE_S
    uneven = may_begin(groups, time_s, position, longest_s)
    if not uneven.any():
        return names
    classes = {kind: kind_of(kind) for kind in set(table["class"])}
    kind = np.array([classes[label] for label in table["class"]], object)
    names = names.copy()
    for name, rows in groups.items():
        if not uneven[rows].any():
            continue
        starts = beginnings(time_s[rows], position[rows], kind[rows], longest_s)
        notes["ids that another agent has later, a track of its own"] += len(starts) - 1
        for number, (start, stop) in enumerate(pairwise([*starts, len(rows)][1:]), start=2):
            names[rows[start:stop]] = f"{name}#{number}"
    return names


def _tracks(table: Table, agents: Mapping[str, Rows], notes: Counter[str]) -> list[Track]:
    """The rows of each agent as a track; counts what had to be filled in."""
    pose = np.column_stack([table["x_m"], table["y_m"], table["yaw_rad"]])
    then = np.column_stack([table["x_then"], table["y_then"], table["yaw_then"]])
    sides = np.column_stack([table["length_m"], table["width_m"]])
    tracks = []
    for name, rows in agents.items():
        kind, kinds = most_frequent(table["class"][rows])
        notes["tracks of more than one class, the most frequent taken"] += kinds > 1
        size, so_far = _sizes(sides[rows])
        track = Track(
            name=name,
            kind=kind,
            time_s=table["time_s"][rows],
            pose=pose[rows],
            size_m=size,
            observed=np.concatenate([then[rows], so_far], axis=1),
            score=table["score"][rows],
            is_ego=bool(table["is_ego"][rows].any()),
        )
        tracks.append(track)
    return tracks


def _sizes(size_m: Array) -> tuple[Array, Array]:
    """The median length and width of a track, and ``(n, 2)`` those of what was measured so far."""
    if np.isnan(size_m).all() or (size_m == size_m[0]).all():
        return size_m[0], size_m
    sides = pd.DataFrame(size_m)
    return sides.median().to_numpy(float), sides.expanding().median().to_numpy(float)


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


def _suspicions(table: Table, agents: Mapping[str, Rows]) -> dict[str, str]:
    """What looks wrong with the numbers as they are in the table, before they are resampled."""
    pose = np.column_stack([table["x_m"], table["y_m"], table["yaw_rad"]])
    given = ~np.isnan(table["yaw_rad"])
    told = [rows[given[rows]] for rows in agents.values()] if given.any() else []
    paths = [(table["time_s"][rows], pose[rows]) for rows in told]
    return of_headings(paths) | of_coordinates(pose[:, :2])


def _egos(
    tracks: Sequence[Track], kind_of: Callable[[str], str], notes: Counter[str]
) -> tuple[int, ...]:
    """The marked track, else the vehicles, who moves furthest first; any class if there is none."""
    marked = tuple(place for place, track in enumerate(tracks) if track.is_ego)
    if marked:
        return marked
    notes["no ego named"] += 1
    is_vehicle = np.array([kind_of(track.kind) == "vehicle" for track in tracks])
    ends = np.array([track.pose[[0, -1], :2] for track in tracks]).clip(-FARTHEST_M, FARTHEST_M)
    moved = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    wanted = np.flatnonzero(is_vehicle | ~is_vehicle.any())
    return tuple(int(place) for place in wanted[np.argsort(-moved[wanted], kind="stable")])


def _map(path: str) -> tuple[MapElement, ...]:
    """The map beside a table: ``<table>.geojson``, or ``<table's stem>.map.geojson``."""
    stem, _ = posixpath.splitext(path.removesuffix(".gz"))
    for name in (f"{path}.geojson", f"{stem}.map.geojson"):
        system, inner = filesystem(name)
        if system.exists(inner):
            return read_map(name)
    return ()
