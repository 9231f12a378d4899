"""Waymo Open Motion scenarios in the JSON that GPUDrive and Nocturne exchange, plain or gzipped.

The files differ from each other in ways that nothing in them declares; what is done about each:

- heading is in degrees in some scenarios: numbers above a full turn tell, and many agents' motion;
- some name no ego (``metadata.sdc_track_index``): the vehicle that moves furthest, of those seen
  throughout if there are any, takes its place, else others in turn;
- steps that are not ``valid`` hold positions such as -10000 or 0: only ``valid`` is trusted;
- traffic may have no ``id``: its place in the file serves instead.
"""

from __future__ import annotations

import gzip
import io
import json
import posixpath
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.scene import MapElement, Observed, Scene
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.roads import area, line, widened
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.files import read_whole

Array = NDArray[np.float64]

STEP_S = 0.1
MAX_BYTES = 2**29  # of a scenario, unpacked; real ones have some millions
FULL_TURN_RAD = np.radians(361)  # numbers written with few digits may be a bit above 360 degrees
# The motion of so many agents is more than chance; it agrees with one unit and not the other.
MOVERS, NEAR_RAD, FAR_RAD = 3, np.radians(5), np.radians(12)
BIKE_LANE = 3  # map_element_id in the files that have one
SUFFIXES = (".json", ".json.gz")


class WaymoJson:
    """One scenario a file."""

    name = "waymo-json"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenario files in some inputs.

        Raises:
            DataError: An input does not exist or holds no ``.json`` or ``.json.gz``.
        """
        return find_files(inputs, SUFFIXES)

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scenario at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: The file cannot be read, or is not such a scenario.
        """
        content = _load(unit)
        try:
            return _scene(content, unit, dt_s)
        except (
            *(KeyError, TypeError, ValueError, IndexError, AttributeError),
            OverflowError,
        ) as error:
            raise DataError(
                "a Waymo scenario with objects and roads", f"{unit} with {error!r}", "leave it out"
            ) from error


def _load(unit: str) -> Any:
    content = read_whole(unit, MAX_BYTES)
    try:
        # By content, not by name: both kinds are found under both suffixes.
        if content.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes unpacked")
        return json.loads(content)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise DataError("a JSON scenario", f"{unit} ({error})", "leave it out") from error


def _scene(content: Any, unit: str, dt_s: float) -> Scene:
    objects = content["objects"]
    if not objects:
        raise DataError("traffic", f"no objects in {unit}", "leave it out")
    valid = np.array([item["valid"] for item in objects], bool)
    position = np.array([[(p["x"], p["y"]) for p in o["position"]] for o in objects], float)
    yaw, in_degrees = _yaw(np.array([o["heading"] for o in objects], float), position, valid)
    size = np.array([(item["length"], item["width"]) for item in objects], float)
    state = np.concatenate(
        [position, yaw[..., None], np.broadcast_to(size[:, None], position.shape)], axis=-1
    )
    state[~valid] = np.nan
    classes = tuple(str(item["type"]) for item in objects)
    ego, named = _ego(content, classes, state)
    time_s = STEP_S * np.arange(valid.shape[1], dtype=np.float64)
    every = decimate(time_s, dt_s, unit)
    return Scene(
        name=posixpath.basename(unit).removesuffix(".gz").removesuffix(".json"),
        time_s=time_s[every],
        dt_s=dt_s,
        track_id=_ids(objects, unit),
        track_class=classes,
        state=state[:, every],
        ego_pose=state[ego[0], every, :3],
        ego_tracks=ego,
        map=_map(content["roads"], unit),
        observed=Observed(time_s, state),
        notes={"heading in degrees": int(in_degrees), "no ego named": int(not named)},
    )


def _ids(objects: Sequence[Mapping[str, Any]], unit: str) -> tuple[str, ...]:
    """The ids of the objects; of one without, its place."""
    ids = tuple(str(item.get("id", place)) for place, item in enumerate(objects))
    if len(set(ids)) < len(ids):
        raise DataError("an id of its own for each object", f"one twice in {unit}", "leave it out")
    return ids


def _yaw(heading: Array, position: Array, valid: NDArray[np.bool_]) -> tuple[Array, bool]:
    """Headings in radians, and whether they were in degrees.

    Numbers above a full turn are degrees. Motion overrules them only where enough agents move,
    for one alone may back out, slide or be wrong.

    Args:
        heading: ``(N, T)`` in degrees or radians.
        position: ``(N, T, 2)`` metres.
        valid: ``(N, T)`` whether the other two hold anything.
    """
    known = valid & np.isfinite(heading)
    units = (heading, np.radians(heading))
    in_degrees = bool((np.abs(heading[known]) > FULL_TURN_RAD).any())
    errors = np.array([_course_errors(yaw, position, known) for yaw in units])
    if errors.shape[1] >= MOVERS:
        read, other = np.median(errors, axis=1)[:: -1 if in_degrees else 1]
        in_degrees ^= bool(other < NEAR_RAD and read > FAR_RAD)
    return wrap_angle(units[in_degrees]), in_degrees


def _course_errors(yaw: Array, position: Array, known: NDArray[np.bool_]) -> Array:
    """How far each agent that moves heads from its way, radians; who reverses heads along it."""
    lag = min(5, yaw.shape[1] - 1)
    motion = position[:, lag:] - position[:, :-lag]
    # Over a metre in half a second the direction of motion is the heading, within a few degrees.
    moving = known[:, lag:] & known[:, :-lag] & (np.hypot(*np.moveaxis(motion, -1, 0)) > 1.0)
    twice = wrap_angle(2 * (yaw[:, :-lag] - np.arctan2(motion[..., 1], motion[..., 0])))
    return np.array(
        [np.median(np.abs(e[m])) / 2 for e, m in zip(twice, moving, strict=True) if m.any()]
    )


def _ego(content: Any, classes: tuple[str, ...], state: Array) -> tuple[tuple[int, ...], bool]:
    """The track that the grid is centred on, and whether the file names it; else those in turn."""
    index = int((content.get("metadata") or {}).get("sdc_track_index", -1))
    if 0 <= index < len(classes):
        return (index,), True
    seen = np.isfinite(state[..., 0])
    moved = np.full(len(classes), -1.0)
    for track, kind in enumerate(classes):
        if kind == "vehicle" and seen[track].any():
            places = state[track, seen[track], :2]
            moved[track] = np.hypot(*(places[-1] - places[0]))
    # The ego is recorded in every frame, so vehicles that are not come second.
    order = np.lexsort((-moved, ~seen.all(axis=1)))
    vehicles = tuple(int(track) for track in order if moved[track] >= 0)
    if not vehicles:
        raise DataError("a vehicle to centre the grid on", "none", "leave it out")
    return vehicles, False


def _map(roads: Any, unit: str) -> tuple[MapElement, ...]:
    """Lanes, road edges and crosswalks; lanes for motor traffic widened to the drivable area."""
    elements: list[MapElement] = []
    motor_lanes: list[MapElement] = []
    for place, road in enumerate(roads):
        if road["type"] not in ("lane", "road_edge", "crosswalk"):
            continue
        points = np.array([(point["x"], point["y"]) for point in road["geometry"]], float)
        where = f"road {place} of {unit}"
        if road["type"] == "crosswalk":
            elements += area("crosswalk", points, where)
        elif road["type"] == "road_edge":
            elements += line("road_edge", points, where)
        else:
            lane = line("lane_centre", points, where)
            elements += lane
            motor_lanes += lane if road.get("map_element_id") != BIKE_LANE else ()
    return (*elements, *widened(motor_lanes))
