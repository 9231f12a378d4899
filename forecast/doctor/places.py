"""Where things are: the map under the traffic, and the same place or moment in two stores."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from forecast.doctor.clip import FAST_M_S, ON_ROADS, Clip, Finding, steps
from forecast.doctor.drives import Drive, drive_of, same_drives
from forecast.doctor.orientation import TURNED
from forecast.doctor.rasters import cell_of
from forecast.grid import BEVGrid

HALF_LANE_M = 2.0
SHIFTS_M = (2.0, 4.0, 8.0)
TURNS_DEG = (10.0, 30.0)
FEWEST_VEHICLES = 20  # before the map of a store is judged
FEWEST_OF_SCENE = 5  # before that of one of its scenes is
MISFITS = 0.2  # of the scenes; in recordings it is none
LEAST_ON_ROAD = 0.6  # recordings have 0.95: some roads and car parks have no lanes

NEIGHBOURS = 8  # of a lane point: its distances to them, to a centimetre, are its fingerprint
FEWEST_SHARED = 30  # fingerprints, before two scenes are said to share a place
SHARED = 0.1  # of the scene with fewer


@dataclass
class MapUnderTraffic:
    """Asks a store whether its map lies under its traffic.

    Attributes:
        votes: (sequence, scene) -> what :func:`vehicles_on_road` gives.
        layers: Whether there is a map at all.
        cells: Whether any layer has a cell in any sequence.
        moving: How many vehicles move on the grid.
    """

    votes: dict[tuple[int, str], NDArray[Any]] = field(default_factory=dict)
    layers: bool = False
    cells: bool = False
    moving: int = 0

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the moving vehicles of one sequence."""
        self.votes[sequence, scene] = vehicles_on_road(clip)
        self.layers = self.layers or bool(clip.map)
        self.cells = self.cells or any(layer.any() for layer in clip.map.values())
        if not self.cells:
            self.moving += len(list(_moving_vehicles(clip)))

    def findings(self) -> Iterator[Finding]:
        """A map that is elsewhere, shifted, turned or mirrored."""
        if self.layers and not self.cells and self.moving:
            yield Finding(
                f"{self.moving} vehicles move, but no layer of the map has a cell within the grid"
                " in any sequence: a map of another place, in degrees, of another UTM zone or with"
                " x and y swapped? Compare its coordinates with those of the traffic"
            )
        yield from map_fits_motion(self.votes)

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        if not self.layers:
            return "the store has no map"
        vehicles = sum(len(rows) for rows in self.votes.values())
        few = vehicles < FEWEST_VEHICLES
        return f"only {vehicles} vehicles move on a map" if few else ""


@dataclass(frozen=True)
class MapPlace:
    """Where a map may be instead of where it should be: turned, then shifted.

    Attributes:
        turn: ``(2, 2)`` of columns x, y; may mirror.
        shift: x, y in metres.
        about_ego: Whether it is turned about the ego, and not about the middle of the grid.
    """

    turn: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    shift: tuple[float, float] = (0.0, 0.0)
    about_ego: bool = False

    def of(self, points: NDArray[Any], grid: BEVGrid) -> NDArray[Any]:
        """Where the map has what should be at points ``(P, 2)``."""
        middle = np.array([grid.x_min_m + grid.x_max_m, grid.y_min_m + grid.y_max_m]) / 2
        centre = np.zeros(2) if self.about_ego else middle
        return np.asarray((points - centre) @ self.turn.T + centre + self.shift)


def _places_of_map() -> dict[str, MapPlace]:
    """Name -> place; the first is where it should be."""
    shifts = {
        f"{metres:g} m too far {side}": MapPlace(shift=(ahead * metres, left * metres))
        for metres in SHIFTS_M
        for side, ahead, left in (
            ("ahead", 1, 0),
            ("back", -1, 0),
            ("to the left", 0, 1),
            ("to the right", 0, -1),
        )
    }
    turned = {
        f"turned by {degrees:g} degrees to the {side}": MapPlace(_rotation(angle), about_ego=True)
        for degrees in TURNS_DEG
        for side, angle in (("left", np.radians(degrees)), ("right", -np.radians(degrees)))
    }
    mirrored = {name: MapPlace(turn) for name, turn in TURNED.items()}
    return {"": MapPlace(), **shifts, **turned, **mirrored}


def _rotation(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


MAP_PLACES = _places_of_map()


def vehicles_on_road(clip: Clip) -> NDArray[np.float64]:
    """The share of each moving vehicle's places on the road, with the map as it is and moved.

    Returns:
        ``(vehicles, len(MAP_PLACES))``; no rows where there is no map, no road or no motion.
    """
    none = np.empty((0, len(MAP_PLACES)))
    road = _road(clip)
    if road is None:
        return none
    rows = [
        [_share(road, points, clip, place) for place in MAP_PLACES.values()]
        for points in _moving_vehicles(clip)
    ]
    return np.array(rows) if rows else none


def _moving_vehicles(clip: Clip) -> Iterator[NDArray[Any]]:
    """Where each vehicle is on the grid while it moves, ``(P, 2)``; those that do not, left out."""
    if clip.state is None or clip.label is None:
        return
    for track, label in enumerate(clip.label.tolist()):
        if clip.named(label) in ON_ROADS:
            points = _moving_points(clip.state[track, :, :2], clip)
            if len(points):
                yield points


def _road(clip: Clip) -> NDArray[np.bool_] | None:
    """What may be driven on: the drivable area, else cells near lane centres."""
    drivable, lanes = clip.map.get("drivable"), clip.map.get("lane_centre")
    if drivable is not None and drivable.any():
        return np.asarray(drivable > 0)
    if lanes is None or not lanes.any():
        return None
    reach = max(1, round(HALF_LANE_M / clip.grid.resolution_m))
    return np.asarray(ndimage.binary_dilation(lanes > 0, iterations=reach))


def _moving_points(path: NDArray[Any], clip: Clip) -> NDArray[Any]:
    """Where a path ``(T, 2)`` is on the grid while it moves."""
    fast = {
        frame
        for before, after, moved, seconds in steps(path, clip.dt_s)
        if np.linalg.norm(moved) > FAST_M_S * seconds
        for frame in (before, after)
    }
    points: NDArray[Any] = path[sorted(fast)]
    inside: NDArray[np.bool_] = clip.grid.contains(points[:, 0], points[:, 1])
    return points[inside]


def _share(road: NDArray[np.bool_], points: NDArray[Any], clip: Clip, place: MapPlace) -> float:
    """The share of points on the road, if the map were moved back from ``place``."""
    there = place.of(points, clip.grid)
    inside = clip.grid.contains(there[:, 0], there[:, 1])
    return float((road[cell_of(clip, there)] & inside).mean())


def map_fits_motion(votes: Mapping[tuple[int, str], NDArray[Any]]) -> Iterator[Finding]:
    """Vehicles move on roads, and no shifted, turned or mirrored map would fit them better.

    Args:
        votes: (sequence, scene) -> what :func:`vehicles_on_road` gives.
    """
    present = {key: rows for key, rows in votes.items() if len(rows)}
    rows = np.concatenate([np.empty((0, len(MAP_PLACES))), *present.values()])
    better = _better_place(rows)
    if len(rows) < FEWEST_VEHICLES:
        yield from _misfit_scenes(present)
    elif not better and (shifted := _shifted_in_the_world(present)):
        yield Finding(shifted)
    elif better or float(rows[:, 0].mean()) < LEAST_ON_ROAD:
        worst = min(present, key=lambda key: float((present[key][:, 0] - 1).sum()))
        text = f"{rows[:, 0].mean():.0%} of {len(rows)} moving vehicles' places are on a road"
        yield Finding(
            f"{text}, least so in sequence {worst[0]} ({worst[1]}){_reason(rows, better)}"
        )
    else:
        yield from _misfit_scenes(present)


def _by_scene(
    votes: Mapping[tuple[int, str], NDArray[Any]],
) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """Each scene, its first sequence and the rows of all its sequences."""
    scenes: defaultdict[str, list[tuple[int, NDArray[Any]]]] = defaultdict(list)
    for (sequence, scene), rows in votes.items():
        scenes[scene].append((sequence, rows))
    for scene, found in scenes.items():
        yield scene, found[0][0], np.concatenate([rows for _, rows in found])


def _shifted_in_the_world(votes: Mapping[tuple[int, str], NDArray[Any]]) -> str:
    """Scenes whose map would fit better elsewhere, each to another side of its ego; "" if few."""
    judged = [(scene, rows) for scene, _, rows in _by_scene(votes) if len(rows) >= FEWEST_OF_SCENE]
    better = {scene: place for scene, rows in judged if (place := _better_place(rows))}
    if len(better) < 2 or len(better) < MISFITS * len(judged):
        return ""
    scene, place = next(iter(better.items()))
    return (
        f"the map would fit the traffic better elsewhere in {len(better)} of {len(judged)} scenes,"
        f" not to one side of the ego ({scene}: it is {place}): shifted in the world? Compare the"
        " map's origin with that of the traffic"
    )


def _misfit_scenes(votes: Mapping[tuple[int, str], NDArray[Any]]) -> Iterator[Finding]:
    """Single scenes without any vehicle on a road, among others that fit."""
    for scene, first, rows in _by_scene(votes):
        if len(rows) >= 3 and rows[:, 0].mean() < 0.05:
            text = f"none of {len(rows)} moving vehicles is on a road"
            yield Finding(text + _reason(rows, _better_place(rows)), None, first, scene)


def _better_place(rows: NDArray[Any]) -> str:
    """The place of the map at which many more vehicles gain than lose; "" if there is none."""
    gain = rows - rows[:, :1]
    gains, losses = (gain > 0.5).sum(axis=0), (gain < -0.5).sum(axis=0)
    best = int((gains - losses).argmax())
    clear = gains[best] > 3 * losses[best] and gains[best] > max(2, 0.1 * len(rows))
    return list(MAP_PLACES)[best] if clear else ""


def _reason(rows: NDArray[Any], better: str) -> str:
    if not better:
        return ": a map of another place or frame?"
    share = rows[:, list(MAP_PLACES).index(better)].mean()
    return f": the map is {better}? ({share:.0%} if it were moved back)"


@dataclass
class Prints:
    """Fingerprints of scenes that do not depend on the frame they are seen from.

    Attributes:
        places: Scene -> fingerprints of its lane points.
        drives: Their sequences' tracks.
    """

    places: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    drives: list[Drive] = field(default_factory=list)

    def add(self, scene: str, clip: Clip) -> None:
        """Takes the fingerprints of one sequence."""
        self.places[scene] |= lane_prints(clip.lanes[:, :2])
        if drive := drive_of(scene, clip):
            self.drives.append(drive)


def lane_prints(points: NDArray[Any]) -> set[bytes]:
    """Each lane point's distances to its neighbours, to the centimetre.

    ``forecast prepare`` samples lanes in the recording's world frame, so the same lanes give the
    same distances from wherever they are seen.

    Args:
        points: ``(P, 2)`` metres.
    """
    if len(points) <= NEIGHBOURS:
        return set()
    distance = np.asarray(KDTree(points).query(points, NEIGHBOURS + 1)[0])
    return {row.tobytes() for row in np.round(100 * distance[:, 1:]).astype(np.int32)}


def overlap(ours: Prints, theirs: Prints) -> Iterator[Finding]:
    """Scenes and places in both stores: one cannot validate what was trained on the other."""
    shared = sorted(set(ours.places) & set(theirs.places))
    for scene in shared:
        yield Finding("is in both stores", scene=scene)
    own, others = (
        [drive for drive in prints.drives if drive.scene not in shared] for prints in (ours, theirs)
    )
    for here, there in same_drives(own, others):
        text = f"is the same drive as {there} in the other store: put both on one side of the split"
        yield Finding(text, scene=here)
    for here, there, share in _same_places(ours.places, theirs.places):
        if here not in shared and there not in shared:
            text = f"{share:.0%} of its lanes are those of {there} in the other store: one place"
            yield Finding(text, scene=here)


def _same_places(
    ours: Mapping[str, set[bytes]], theirs: Mapping[str, set[bytes]]
) -> Iterable[tuple[str, str, float]]:
    where: defaultdict[bytes, list[str]] = defaultdict(list)
    for scene, prints in theirs.items():
        for one in prints:
            where[one].append(scene)
    for here, prints in ours.items():
        counts = Counter(there for one in prints for there in where.get(one, ()))
        for there, shared in counts.most_common():
            share = shared / min(len(prints), len(theirs[there]))
            if shared >= FEWEST_SHARED and share >= SHARED:
                yield here, there, share
