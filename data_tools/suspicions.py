"""What looks wrong with a recording that can be read: a warning each, with what supports it.

Headings are compared with the ways that agents make, coordinates with the numbers that ``float32``
has, the map with the places of the traffic. Each function returns warnings by what is suspected,
which is the same text in all scenes, with what was found in this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from data_tools.labels.map_index import MapIndex
from data_tools.scene import FARTHEST_M, MapElement, Scene
from forecast.angles import wrap_angle

Array = NDArray[np.float64]

# Ways of so much in so long; over shorter ones noise turns the direction.
LAG_S, MAX_LAG_S, LEAST_M = 0.4, 1.1, 1.0
LEAST_STEPS = 5  # of an agent
AGREES_RAD, DISAGREES_RAD, ASKEW_RAD = np.radians(5), np.radians(15), np.radians(30)
LEAST_TURNED = 3  # agents that must be turned alike, for one alone may slide or back out
LEAST_ALIKE = 2  # agents whose headings a mistake must explain

FAR_M = 1e5  # coordinates below keep their centimetres in float32
LEAST_VALUES = 20  # different ones: a few may be round numbers by chance
LOST_PRECISION = (
    "coordinates have lost precision in float32; write float64, or subtract an origin first"
)
BESIDE_MAP_M = 10.0
MOST_PLACES = 2000


def of_scene(scene: Scene) -> dict[str, str]:
    """What looks wrong with a scene's map, and with headings and coordinates.

    Those that the source has looked at, which has them as they are in the file, go first.
    """
    placed = _placed(scene.state[..., :3])
    paths = [
        (scene.time_s[seen], track[seen])
        for track, seen in zip(scene.state, placed, strict=True)
        if seen.any()
    ]
    places = [track[:, :2] for _, track in paths]
    xy = np.concatenate(places) if places else np.empty((0, 2))
    found = scene.warnings or of_headings(paths) | of_coordinates(xy)
    return found | of_map(scene.map, xy)


def of_headings(paths: Iterable[tuple[Array, Array]]) -> dict[str, str]:
    """Headings in degrees, from north, clockwise, or all turned by the same angle.

    Args:
        paths: Times ``(n,)`` of each agent, ascending, and its x, y, yaw and what else,
            ``(n, 3 or more)``, yaw as it is in the recording.
    """
    moves = _moves(list(paths))
    if len(moves) < LEAST_ALIKE:
        return {}
    off = np.array([_circular_median(_errors(move, move[:, 1:])) for move in moves])
    typical = float(np.median(np.abs(off)))
    if typical > DISAGREES_RAD:
        mistakes: dict[str, Callable[[Array], Array]] = {
            "yaw looks like degrees; convert it to radians": np.radians,
            "yaw looks clockwise from north; write pi/2 - yaw": lambda yaw: np.pi / 2 - yaw,
            "yaw looks clockwise; change its sign": lambda yaw: -yaw,
        }
        for mistake, mend in mistakes.items():
            errors = [np.median(np.abs(_errors(move, mend(move[:, 1:])))) for move in moves]
            if np.median(errors) < AGREES_RAD:
                return {mistake: _degrees(typical, "off the way made")}
    return _of_turned(off, typical)


def _of_turned(off: Array, typical: float) -> dict[str, str]:
    """Whether all headings are off by one angle, or by whatever."""
    turned = _circular_median(off)
    around = np.median(np.abs(wrap_angle(off - turned)))
    if len(off) >= LEAST_TURNED and abs(turned) > AGREES_RAD > 2 * around:
        found = _degrees(turned, "counter-clockwise of the way made")
        return {"yaw looks turned by one angle; subtract it": found}
    if len(off) >= LEAST_TURNED and typical > ASKEW_RAD:
        return {"yaw does not follow the way made": _degrees(typical, "off it")}
    return {}


def _moves(paths: Sequence[tuple[Array, Array]]) -> list[Array]:
    """Of each agent that has enough the direction of its ways, and yaw at their start and end.

    Returns:
        ``(m, 3)`` of each.
    """
    if not paths:
        return []
    time_s, pose = (np.concatenate(rows) for rows in zip(*paths, strict=True))
    agent = np.repeat(np.arange(len(paths)), [len(rows) for rows, _ in paths])
    placed = _placed(pose)
    time_s, pose, agent = time_s[placed], pose[placed], agent[placed]
    borders = np.searchsorted(agent, np.arange(len(paths) + 1))
    own = [time_s[start:stop] for start, stop in pairwise(borders)]
    later = np.concatenate([np.searchsorted(times, times + LAG_S) for times in own])
    later += borders[agent]
    start = np.flatnonzero(later < borders[agent + 1])
    end = later[start]
    way = pose[end, :2] - pose[start, :2]
    told = (np.hypot(*way.T) > LEAST_M) & (time_s[end] - time_s[start] <= MAX_LAG_S)
    course = np.arctan2(way[:, 1], way[:, 0])
    moves = np.column_stack([course, pose[start, 2], pose[end, 2]])[told]
    count = np.bincount(agent[start[told]], minlength=len(paths))
    return [m for m in np.split(moves, count.cumsum()[:-1]) if len(m) >= LEAST_STEPS]


def _errors(move: Array, yaw: Array) -> Array:
    """Angles from the ways to the headings halfway, counter-clockwise."""
    halfway = yaw[:, 0] + wrap_angle(yaw[:, 1] - yaw[:, 0]) / 2
    return wrap_angle(halfway - move[:, 0])


def _circular_median(angle: Array) -> float:
    """The angle that the others are nearest to, as the median around their mean direction."""
    mean = np.angle(np.exp(1j * angle).sum())
    return float(wrap_angle(mean + np.median(wrap_angle(angle - mean))))


def _placed(pose: Array) -> NDArray[np.bool_]:
    """Which rows are finite and on Earth."""
    return np.asarray((np.abs(pose) < FARTHEST_M).all(axis=-1))


def _degrees(angle: float, what: str) -> str:
    return f"{np.degrees(angle):.0f} degrees {what}"


def of_coordinates(xy: Array) -> dict[str, str]:
    """Coordinates far from their origin that have been through ``float32``.

    Args:
        xy: ``(n, 2)`` x, y as they are in the recording, metres.
    """
    rounded = [
        values
        for values in map(np.unique, xy[_placed(xy)].T)
        if len(values) and (values.astype(np.float32) == values).all()
    ]
    worst = max((float(np.abs(values).max()) for values in rounded), default=0.0)
    if worst < FAR_M or max(map(len, rounded)) < LEAST_VALUES:
        return {}
    apart = np.spacing(np.float32(worst))
    return {LOST_PRECISION: f"up to {worst:.0f} m, in steps of {apart:g} m"}


def of_map(elements: Iterable[MapElement], xy: Array) -> dict[str, str]:
    """A map that is elsewhere.

    Args:
        elements: The map, in the frame of the traffic; there may be none.
        xy: ``(n, 2)`` places of the traffic, metres.
    """
    tree = MapIndex.of(elements).tree
    xy = xy[_placed(xy)]
    if not len(tree) or not len(xy):
        return {}
    xy = xy[:: -(-len(xy) // MOST_PLACES)]
    if _nearest(tree, xy[:1]) <= BESIDE_MAP_M:  # as of nearly every map: no need to ask the others
        return {}
    away_m = _nearest(tree, xy)
    if away_m <= BESIDE_MAP_M:
        return {}
    far = f"{away_m / 1e3:,.0f} km" if away_m >= 1e4 else f"{away_m:,.0f} m"
    found = f"its nearest point is {far} from the traffic"
    if _nearest(tree, xy[:, ::-1]) <= BESIDE_MAP_M:
        found += "; with x and y swapped it is there"
    elif (np.abs(shapely.total_bounds(tree.geometries)) <= [180, 90, 180, 90]).all():
        found += "; its coordinates look like degrees"
    return {"the map is elsewhere; bring it into the frame of the traffic": found}


def _nearest(tree: shapely.STRtree, xy: Array) -> float:
    """The shortest distance from some places to a map."""
    _, away = tree.query_nearest(shapely.points(xy), return_distance=True, all_matches=False)
    return float(away.min())
