"""ROS 2 bags (MCAP) of an Autoware stack: tracked or detected objects, and the ego's odometry.

Messages count by the stamps in their headers, not by when they were recorded. Tracked objects are
resampled to the frames as the rows of a table are (:mod:`data_tools.sources.tracks_resample`);
detected ones have no ids and become rasters (:mod:`data_tools.sources.mcap_detected`).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.classes import usual_class
from data_tools.formats import ros_bag
from data_tools.formats.ros_messages import (
    DETECTED,
    ODOMETRY,
    PREDICTED,
    TRACKED,
    refuse_missing_packages,
)
from data_tools.labels.map_index import MapIndex
from data_tools.scene import LONGEST_M, DenseScene, Scene
from data_tools.sources.grouped import Rows, grouped
from data_tools.sources.inputs import find_files
from data_tools.sources.mcap_detected import detected_scene
from data_tools.sources.mcap_frames import ego_at, in_frame_of, of_distance, seconds
from data_tools.sources.mcap_map import map_beside
from data_tools.sources.mcap_objects import (
    COLUMNS,
    SHORTEST_M,
    Content,
    ObjectMessage,
    read_bag,
)
from data_tools.sources.observations import MAX_CELLS
from data_tools.sources.tracks_heading import most_frequent, table_headings
from data_tools.sources.tracks_resample import (
    TIME_TOLERANCE_S,
    Track,
    last_score,
    resample,
    samples,
)
from data_tools.sources.tracks_table import Table
from data_tools.suspicions import of_coordinates, of_headings
from forecast.angles import wrap_angle
from forecast.errors import DataError

Array = NDArray[np.float64]

# Where Autoware publishes them; a bag may have more of the same types.
USUAL = {
    TRACKED: "/perception/object_recognition/tracking/objects",
    DETECTED: "/perception/object_recognition/detection/objects",
    ODOMETRY: "/localization/kinematic_state",
}
MAX_SCENE_S = 24 * 3600.0
MOST_NAMED = 8
SHAPES = "objects with a shape other than a box, the box around them taken"
SIZELESS = f"objects without sides from {SHORTEST_M:g} to {LONGEST_M:g} m, size not known"
TURNED = "tracks with yaw up to a half turn, in front is where they move"


@dataclass(frozen=True)
class Mcap:
    """One bag a unit.

    Args:
        name: What the source is called.
        objects: Topic of the objects; empty = the one of TrackedObjects.
        odometry: Topic of the odometry; empty = the one of Odometry.
        origin: Where the origin of a Lanelet2 map is, see
            :func:`data_tools.sources.mcap_map.map_beside`.
    """

    name: str = "mcap"
    objects: str = ""
    odometry: str = ""
    origin: str = "mgrs"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The bags in some inputs: files ``.mcap``.

        Raises:
            ConfigError: The packages that read them are not installed.
            DataError: An input does not exist or holds no bag.
        """
        refuse_missing_packages()
        return find_files(inputs, (".mcap",))

    def read(self, unit: str, dt_s: float) -> Scene | DenseScene:
        """A bag in frames ``dt_s`` apart, from the first object on.

        Raises:
            DataError: The bag is damaged or says what cannot be, lacks objects or odometry, or
                has them in frames of reference that nothing relates.
        """
        refuse_missing_packages()
        kinds = ros_bag.topics(unit)
        _refuse_forecasts(set(kinds.values()), unit)
        odometry = _topic(kinds, (ODOMETRY,), self.odometry, "odometry", unit)
        wanted = (TRACKED, DETECTED) if self.objects else (TRACKED,)
        objects = _topic(kinds, wanted, self.objects, "objects", unit)
        content = read_bag(unit, objects, kinds[objects], odometry)
        name = posixpath.basename(unit).removesuffix(".mcap")
        if kinds[objects] == DETECTED:
            messages, poses = in_frame_of("ego", content, unit)
            _count_shapes(messages, content.notes)
            return detected_scene(name, messages, poses, dt_s, content.notes, unit)
        return self._tracked(name, content, unit, dt_s)

    def _tracked(self, name: str, content: Content, unit: str, dt_s: float) -> Scene:
        messages, _ = in_frame_of("odometry", content, unit)
        _count_shapes(messages, content.notes)
        _count_sizeless(messages, content.notes)
        table = _table(messages, unit)
        time_s = _frame_times(table["time_s"], dt_s, unit)
        agents = grouped(table["track_id"])
        moments = max(len(time_s), len(messages))
        if len(agents) * moments > MAX_CELLS:
            got = f"{len(agents)} times {moments} in {unit}"
            raise DataError(f"tracks times frames of {MAX_CELLS} at most", got, "split the bag")
        elements = MapIndex.of(map_beside(unit, self.origin, content.notes))
        tracks = _tracks(table, agents, elements, content.notes)
        ego_pose = ego_at(content, time_s)
        state = np.stack([resample(track, time_s) for track in tracks])
        score = np.stack([last_score(track, time_s) for track in tracks])
        return Scene(
            name=name,
            time_s=time_s,
            dt_s=dt_s,
            track_id=tuple(track.name for track in tracks),
            track_class=tuple(track.kind for track in tracks),
            state=state,
            ego_pose=ego_pose,
            map=elements,
            observed=samples(tracks, dt_s),
            score=np.where(np.isfinite(state[..., 0]), score, np.nan),
            notes={"ego without a box": 1, **content.notes},
            warnings=_suspicions(table, agents) | of_distance(state, ego_pose),
        )


def _refuse_forecasts(types: Set[str], path: str) -> None:
    """Refuses a bag of forecasts, which says nothing of what was there.

    Raises:
        DataError: It is one.
    """
    if PREDICTED in types and types.isdisjoint((TRACKED, DETECTED, ODOMETRY)):
        raise DataError(
            "a bag of what a stack recorded",
            f"{path}, a bag of forecasts such as `forecast rollout --mcap` writes",
            "give the bags that they were made of",
        )


def _topic(
    kinds: Mapping[str, str], wanted: tuple[str, ...], chosen: str, setting: str, path: str
) -> str:
    """The topic that a setting names, or else the only or usual one of a type.

    Raises:
        DataError: There is none, or several and no choice.
    """
    types = " or ".join(kind.rpartition("/")[2] for kind in wanted)
    found = [topic for topic, kind in kinds.items() if kind in wanted]
    if chosen:
        if chosen not in found:
            got = f"{kinds.get(chosen) or 'no such topic'} in {path}"
            raise DataError(f"{types} on {chosen}", got, f"correct --set {setting}")
        return chosen
    usual = USUAL[wanted[0]]
    if len(found) == 1 or usual in found:
        return usual if usual in found else found[0]
    if found:
        several = f"{', '.join(sorted(found)[:MOST_NAMED])} in {path}"
        raise DataError(f"one topic of {types}", several, f"choose one by --set {setting}=TOPIC")
    remedy = f"record {wanted[0]}, or leave the bag out"
    detected = [topic for topic, kind in kinds.items() if kind == DETECTED]
    if detected and wanted == (TRACKED,):
        remedy = f"for objects without ids add --set objects={detected[0]}"
    others = sorted({kind for kind in kinds.values() if kind}) or ["no messages"]
    more = " and others" if len(others) > MOST_NAMED else ""
    got = f"{', '.join(others[:MOST_NAMED])}{more} in {path}"
    raise DataError(f"a topic of {types}", got, remedy)


def _count_shapes(messages: Sequence[ObjectMessage], notes: Counter[str]) -> None:
    for message in messages:
        notes[SHAPES] += int((message.values[:, COLUMNS.index("is_box")] == 0).sum())


def _count_sizeless(messages: Sequence[ObjectMessage], notes: Counter[str]) -> None:
    for message in messages:
        notes[SIZELESS] += int(np.isnan(message.values[:, COLUMNS.index("length")]).sum())


def _table(messages: Sequence[ObjectMessage], unit: str) -> Table:
    """All objects, a row each, in the order of time, in the columns of a table of tracks."""
    nothing = np.empty((0, len(COLUMNS)))
    values = np.concatenate([nothing, *(message.values for message in messages)])
    if not len(values):
        raise DataError("objects", f"none in {unit}", "leave the bag out")
    counts = [len(message.values) for message in messages]
    columns = dict(zip(COLUMNS, values.T, strict=True))
    unknown = np.full(len(values), np.nan)
    return {
        "time_s": np.repeat(seconds([message.stamp_ns for message in messages]), counts),
        "track_id": np.array([name for message in messages for name in message.ids], object),
        "class": np.array([name for message in messages for name in message.labels], object),
        **{"x_m": columns["x"], "y_m": columns["y"], "yaw_rad": columns["yaw"]},
        **{"length_m": columns["length"], "width_m": columns["width"], "score": columns["score"]},
        **{"speed_mps": unknown, "vx_mps": unknown, "vy_mps": unknown},
        "forward": columns["forward"],
        "sign_unknown": columns["sign_unknown"] > 0,
    }


def _frame_times(time_s: Array, dt_s: float, unit: str) -> Array:
    first, last = float(time_s[0]), float(time_s[-1])
    if last - first > MAX_SCENE_S:
        raise DataError("a bag of a day at most", f"{last - first:g} s in {unit}", "split it")
    frames = int((last - first + TIME_TOLERANCE_S) / dt_s) + 1
    return first + dt_s * np.arange(frames, dtype=np.float64)


def _tracks(
    table: Table, agents: Mapping[str, Rows], elements: MapIndex, notes: Counter[str]
) -> list[Track]:
    """The rows of each agent as a track; counts what had to be filled in."""
    whole, causal = table_headings(table, agents, elements, usual_class, notes)
    place = np.column_stack([table["x_m"], table["y_m"]])
    sides = np.column_stack([table["length_m"], table["width_m"]])
    tracks = []
    for name, rows in agents.items():
        kind, kinds = most_frequent(table["class"][rows])
        notes["tracks of more than one class, the most frequent taken"] += kinds > 1
        end, so_far = _backwards(table, rows)
        notes[TURNED] += bool(table["sign_unknown"][rows].any())
        yaw = wrap_angle(whole[rows] + np.pi * end)
        then = wrap_angle(causal[rows] + np.pi * so_far)
        track = Track(
            name=name,
            kind=kind,
            time_s=table["time_s"][rows],
            pose=np.column_stack([place[rows], yaw]),
            size_m=pd.DataFrame(sides[rows]).median().to_numpy(float),
            observed=np.column_stack([place[rows], then, sides[rows]]),
            score=table["score"][rows],
        )
        tracks.append(track)
    return tracks


def _backwards(table: Table, rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which given headings of an agent point backwards, by all of its motion and by that so far."""
    unsure = table["sign_unknown"][rows] & np.isfinite(table["yaw_rad"][rows])
    moved = np.cumsum(np.where(unsure, np.nan_to_num(table["forward"][rows]).clip(-99, 99), 0.0))
    return unsure & (moved[-1] < 0), unsure & (moved < 0)


def _suspicions(table: Table, agents: Mapping[str, Rows]) -> dict[str, str]:
    """What looks wrong with the numbers as they are in the bag."""
    pose = np.column_stack([table["x_m"], table["y_m"], table["yaw_rad"]])
    told = np.isfinite(table["yaw_rad"]) & ~table["sign_unknown"]
    paths = [
        (table["time_s"][kept], pose[kept])
        for rows in agents.values()
        if len(kept := rows[told[rows]])
    ]
    return of_headings(paths) | of_coordinates(pose[:, :2])
