"""Waymo Open Motion as published: ``Scenario`` messages in TFRecord files, without TensorFlow."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from data_tools.formats.tfrecord import count_records, read_record
from data_tools.scene import MapElement, Observed, Scene
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.roads import area, line, widened
from data_tools.sources.waymo_proto import LANE_TYPES, OBJECT_TYPES, Scenario
from forecast.angles import wrap_angle
from forecast.errors import DataError

Array = NDArray[np.float64]

# Published shards are named like training.tfrecord-00000-of-01000.
SUFFIXES = (".tfrecord", ".tfrecord-*")


class WaymoMotion:
    """TFRecord files of scenarios; a unit of work is one record, ``path#index`` from 0."""

    name = "waymo-motion"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The records of some files; one that is cut short or damaged is a unit too.

        Raises:
            DataError: An input does not exist, holds no TFRecord, or cannot be read.
        """
        return [
            f"{path}#{index}"
            for path in find_files(inputs, SUFFIXES)
            for index in range(count_records(path))
        ]

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scenario at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: The record is cut short or damaged, or holds no such scenario.
        """
        path, _, index = unit.rpartition("#")
        if not (path and index.isdecimal()):
            raise DataError("path#index", repr(unit), "name a record of the file")
        content = read_record(path, int(index))
        try:
            scenario = Scenario.FromString(content)
        except DecodeError as error:
            example = b"roadgraph_samples/" in content
            raise DataError(
                "a Scenario message",
                f"{unit}, a tf.Example" if example else f"{unit} ({error})",
                "take the Motion dataset's folder scenario/, not tf_example/ or Perception's files",
            ) from error
        return _scene(scenario, unit, dt_s)


def _scene(scenario: Any, unit: str, dt_s: float) -> Scene:
    time_s = np.array(scenario.timestamps_seconds, np.float64)
    tracks = list(scenario.tracks)
    ids = tuple(str(track.id) for track in tracks)
    if not tracks:
        raise DataError("a Scenario with traffic", f"no tracks in {unit}", "leave it out")
    if len(set(ids)) < len(ids):
        raise DataError("each track id once", f"one again in {unit}", "leave it out")
    ego = scenario.sdc_track_index
    if not (scenario.HasField("sdc_track_index") and 0 <= ego < len(tracks)):
        raise DataError("an ego, sdc_track_index", f"none in {unit}", "leave it out")
    every = decimate(time_s, dt_s, unit)
    state = np.stack([_states(track, len(time_s), unit) for track in tracks])
    name = scenario.scenario_id.decode("utf-8", "replace")
    return Scene(
        name=name or posixpath.basename(unit),
        time_s=time_s[every],
        dt_s=dt_s,
        track_id=ids,
        track_class=tuple(_name_of(OBJECT_TYPES, track.object_type) for track in tracks),
        state=state[:, every],
        ego_pose=state[ego, every, :3].copy(),
        map=_map(scenario.map_features, unit),
        observed=Observed(time_s, state),
    )


def _states(track: Any, frames: int, unit: str) -> Array:
    """A track as ``(T, 5)`` x, y, yaw, length, width; NaN where it is not valid."""
    if len(track.states) != frames:
        raise DataError(
            f"{frames} states of each track",
            f"{len(track.states)} of track {track.id} in {unit}",
            "leave it out",
        )
    state = np.array(
        [
            (s.center_x, s.center_y, s.heading, s.length, s.width) if s.valid else (np.nan,) * 5
            for s in track.states
        ],
        np.float64,
    )
    finite = np.isfinite(state[:, 2])
    state[finite, 2] = wrap_angle(state[finite, 2])
    return state


def _name_of(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _map(features: Any, unit: str) -> tuple[MapElement, ...]:
    """Lanes, road edges and crosswalks; lanes for motor traffic widened to the drivable area."""
    elements: list[MapElement] = []
    motor_lanes: list[MapElement] = []
    for feature in features:
        where = f"map feature {feature.id} of {unit}"
        if feature.HasField("lane"):
            lane = line("lane_centre", _points(feature.lane.polyline), where)
            elements += lane
            motor_lanes += lane if _name_of(LANE_TYPES, feature.lane.type) != "bike_lane" else ()
        elif feature.HasField("road_edge"):
            elements += line("road_edge", _points(feature.road_edge.polyline), where)
        elif feature.HasField("crosswalk"):
            elements += area("crosswalk", _points(feature.crosswalk.polygon), where)
    return (*elements, *widened(motor_lanes))


def _points(points: Any) -> Array:
    return np.array([(point.x, point.y) for point in points], np.float64)
