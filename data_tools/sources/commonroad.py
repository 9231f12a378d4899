"""Scenarios of CommonRoad, versions 2018b and 2020a, in XML.

- A scenario is made for a planner: the ego is cut out of it, and a planning problem stands in its
  place. The vehicles are centred on in turn instead, who moves furthest first.
- Values may be intervals, and places areas: their middle is taken, and counted.
- Shapes other than one rectangle become the box around them that heads as the obstacle does.
"""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.classes import class_of
from data_tools.formats.xml import read_xml
from data_tools.geometry import box_corners
from data_tools.scene import FARTHEST_M, Observed, Scene
from data_tools.sources.commonroad_map import Lanelet, lanelet_of, map_of
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.observations import MAX_CELLS, MAX_FRAMES
from forecast.angles import wrap_angle
from forecast.errors import DataError

Array = NDArray[np.float64]

VERSIONS = ("2018b", "2020a")
SUFFIXES = (".xml", ".xml.gz")
NOT_TRAFFIC = ("environmentObstacle", "phantomObstacle")
INTERVALS = "values given as intervals, their middle taken"
AREAS = "places given as areas, their middle taken"
SHAPES = "shapes other than one rectangle, the box around them taken"
SETS = "agents with an occupancy set for a trajectory, only their first place taken"
LEFT_OUT = "phantom and environment obstacles, left out"


class CommonRoad:
    """One scenario a file."""

    name = "commonroad"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenario files in some inputs.

        Raises:
            DataError: An input does not exist or holds no ``.xml`` or ``.xml.gz``.
        """
        return find_files(inputs, SUFFIXES)

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scenario at ``dt_s``, which must be a multiple of its ``timeStepSize``.

        Raises:
            DataError: The file cannot be read, or is no scenario of these versions with traffic.
        """
        parts = read_xml(unit, "commonRoad")
        try:
            # Numbers that are not finite are left to be counted as boxes that cannot be drawn.
            with np.errstate(all="ignore"):
                return _scene(next(parts), parts, unit, dt_s)
        except (
            *(KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError),
            shapely.errors.ShapelyError,
        ) as error:
            raise DataError(
                "a CommonRoad scenario with lanelets and obstacles",
                f"{unit} with {error!r}",
                "leave it out",
            ) from error


@dataclass(frozen=True)
class _Obstacle:
    """What is on the road: its boxes ``(n, 5)`` at time steps ``(n,)``, or one at all of them."""

    name: str
    kind: str
    parked: bool
    step: NDArray[np.int64]
    box: Array


def _scene(root: ET.Element, parts: Iterator[ET.Element], unit: str, dt_s: float) -> Scene:
    version, step_s = root.get("commonRoadVersion"), float(root.attrib["timeStepSize"])
    if version not in VERSIONS:
        wanted = f"CommonRoad {' or '.join(VERSIONS)}"
        raise DataError(wanted, f"version {version} in {unit}", "convert it with commonroad-io")
    if not 0 < step_s < np.inf:
        raise DataError("a timeStepSize above 0 s", f"{step_s:g} in {unit}", "leave it out")
    notes = Counter({"no ego named": 1})
    lanelets: list[Lanelet] = []
    obstacles: list[_Obstacle] = []
    for part in parts:
        if part.tag == "lanelet":
            lanelets.append(lanelet_of(part, unit))
        elif part.tag in ("obstacle", "dynamicObstacle", "staticObstacle"):
            obstacles.append(_obstacle(part, notes, unit))
        notes[LEFT_OUT] += part.tag in NOT_TRAFFIC
    state, first = _states(obstacles, unit)
    kinds = tuple(obstacle.kind for obstacle in obstacles)
    time_s = step_s * np.arange(first, first + state.shape[1], dtype=np.float64)
    every = decimate(time_s, dt_s, unit)
    egos = _furthest_first(kinds, state)
    return Scene(
        name=posixpath.basename(unit).removesuffix(".gz").removesuffix(".xml"),
        time_s=time_s[every],
        dt_s=dt_s,
        track_id=tuple(obstacle.name for obstacle in obstacles),
        track_class=kinds,
        state=state[:, every],
        ego_pose=state[egos[0], every, :3].copy(),
        ego_tracks=egos,
        map=map_of(lanelets, unit),
        observed=Observed(time_s, state),
        notes=dict(notes),
    )


def _states(obstacles: Sequence[_Obstacle], unit: str) -> tuple[Array, int]:
    """The boxes of all obstacles ``(N, T, 5)``, and the time step of the first frame."""
    names = [obstacle.name for obstacle in obstacles]
    if not names:
        raise DataError("traffic", f"no obstacles in {unit}", "leave it out")
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise DataError("each id once", f"two obstacles {twice} in {unit}", "leave it out")
    moving = [o.step for o in obstacles if not o.parked] or [o.step for o in obstacles]
    first = int(min(step[0] for step in moving))
    frames = int(max(step[-1] for step in moving)) - first + 1
    if frames > MAX_FRAMES or frames * len(names) > MAX_CELLS:
        raise DataError(
            f"{MAX_FRAMES} time steps and {MAX_CELLS} states at most",
            f"{frames} steps of {len(names)} obstacles in {unit}",
            "leave it out",
        )
    state = np.full((len(names), frames, 5), np.nan)
    for row, obstacle in zip(state, obstacles, strict=True):
        row[slice(None) if obstacle.parked else obstacle.step - first] = obstacle.box
    return state, first


def _furthest_first(kinds: Sequence[str], state: Array) -> tuple[int, ...]:
    """Vehicles in the order of the way between their ends; any class if there is none."""
    is_vehicle = np.array([class_of(CommonRoad.name, kind) == "vehicle" for kind in kinds])
    moved = np.zeros(len(kinds))
    for track, places in enumerate(state[..., :2]):
        seen = places[np.isfinite(places).all(axis=1)].clip(-FARTHEST_M, FARTHEST_M)
        moved[track] = np.linalg.norm(seen[-1] - seen[0]) if len(seen) else -1.0
    wanted = np.flatnonzero(is_vehicle | ~is_vehicle.any())
    return tuple(int(track) for track in wanted[np.argsort(-moved[wanted], kind="stable")])


def _obstacle(element: ET.Element, notes: Counter[str], unit: str) -> _Obstacle:
    name = element.attrib["id"]
    parked = element.tag == "staticObstacle" or element.findtext("role") == "static"
    states = [_child(element, "initialState")]
    if not parked:
        states += element.findall("trajectory/state")
        notes[SETS] += element.find("occupancySet") is not None
    step = np.array([_step(_child(state, "time"), notes) for state in states])
    if (np.diff(step) <= 0).any():
        raise DataError("time steps that ascend", f"others of obstacle {name} in {unit}", "sort it")
    pose = np.array([_pose(state, notes) for state in states])
    return _Obstacle(
        name=name,
        kind=(element.findtext("type") or "unknown").strip(),
        parked=parked,
        step=step,
        box=_placed(_shape(element.find("shape"), notes), pose),
    )


def _placed(box: Array, pose: Array) -> Array:
    """A box ``(5,)`` in an obstacle's own frame at each of its poses ``(n, 3)``: ``(n, 5)``."""
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    x, y, yaw, length, width = box
    return np.column_stack(
        [
            pose[:, 0] + cos * x - sin * y,
            pose[:, 1] + sin * x + cos * y,
            wrap_angle(pose[:, 2] + yaw),
            np.full(len(pose), length),
            np.full(len(pose), width),
        ]
    )


def _step(time: ET.Element, notes: Counter[str]) -> int:
    return int(np.floor(_number(time, notes)))  # refuses what is not finite


def _pose(state: ET.Element, notes: Counter[str]) -> tuple[float, float, float]:
    """x, y, yaw; NaN where not given."""
    yaw, position = state.find("orientation"), state.find("position")
    place = (np.nan, np.nan)
    if position is not None:
        point = position.find("point")
        if point is not None:
            place = _point(point)
        elif position.find("lanelet") is None:  # which says no more than which lanelet it is on
            place = tuple(_around(list(position))[:2])
            notes[AREAS] += 1
    return (*place, np.nan if yaw is None else _number(yaw, notes))


def _number(value: ET.Element, notes: Counter[str]) -> float:
    """A value that is exact, or the middle of an interval."""
    exact = value.find("exact")
    if exact is not None:
        return _float(value, "exact")
    notes[INTERVALS] += 1
    return (_float(value, "intervalStart") + _float(value, "intervalEnd")) / 2


def _shape(shape: ET.Element | None, notes: Counter[str]) -> Array:
    """The box ``(5,)`` of a shape in the obstacle's frame; NaN sizes where there is none."""
    parts = [] if shape is None else list(shape)
    if not parts:
        return np.array([0.0, 0.0, 0.0, np.nan, np.nan])
    if [part.tag for part in parts] == ["rectangle"]:
        return _rectangle(parts[0])
    notes[SHAPES] += 1
    return _around(parts)


def _around(parts: Sequence[ET.Element]) -> Array:
    """The box ``(5,)`` around some shapes, along the axes; without size where one has none."""
    corners = np.concatenate([_corners(part) for part in parts])
    low, high = corners.min(axis=0), corners.max(axis=0)
    return np.array([*(low + high) / 2, 0.0, *(high - low)])


def _corners(shape: ET.Element) -> Array:
    """The corners of a rectangle, a polygon, or the square around a circle: ``(n, 2)``."""
    match shape.tag:
        case "rectangle":
            box = _rectangle(shape)
        case "circle":
            side = 2 * _float(shape, "radius")
            box = np.array([*_centre(shape), 0.0, side, side])
        case "polygon":
            return np.array([_point(point) for point in shape.findall("point")]).reshape(-1, 2)
        case other:
            raise ValueError(f"a shape {other}")
    if not (box[3:] > 0).all():
        raise ValueError(f"a {shape.tag} of {box[3]:g} m by {box[4]:g} m")
    return box_corners(box)


def _rectangle(shape: ET.Element) -> Array:
    yaw = 0.0 if shape.find("orientation") is None else _float(shape, "orientation")
    return np.array([*_centre(shape), yaw, _float(shape, "length"), _float(shape, "width")])


def _centre(shape: ET.Element) -> tuple[float, float]:
    centre = shape.find("center")
    return (0.0, 0.0) if centre is None else _point(centre)


def _point(point: ET.Element) -> tuple[float, float]:
    return _float(point, "x"), _float(point, "y")


def _float(element: ET.Element, name: str) -> float:
    return float(_child(element, name).text or "")


def _child(element: ET.Element, name: str) -> ET.Element:
    found = element.find(name)
    if found is None:
        raise KeyError(f"{name} of {element.tag}")
    return found
