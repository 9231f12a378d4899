"""A scene: what every source of recordings yields, of tracks or of rasters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forecast.grid import BEVGrid

# No real box is further from a recording's origin: the Earth is 4e7 m around.
FARTHEST_M = 1e8
LONGEST_M = 200.0  # a train is longer, but no box that a tracker follows

MapLayer = Literal["drivable", "lane_centre", "road_edge", "crosswalk"]


def text_of(name: str) -> str:
    """A name that can be stored: files, and what they say, may be bytes that are no text."""
    return name.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class MapElement:
    """One polyline or polygon of the map.

    Args:
        layer: The raster layer that it is drawn into.
        points: ``(n, 2)`` x, y in the scene's world frame, metres, ordered along the direction
            of travel where the element has one.
        closed: Whether it is a polygon (filled) or a line (one cell wide).
    """

    layer: MapLayer
    points: NDArray[np.float64]
    closed: bool = False


@dataclass(frozen=True)
class Observed:
    """Tracks as they were observed, at a rate of their own; no sample knows of later ones.

    Args:
        time_s: ``(S,)`` seconds, ascending, on the clock of the scene's frames; may be irregular.
        state: ``(N, S, 5)`` x, y, yaw, length, width in the world; NaN in all five where not seen.
    """

    time_s: NDArray[np.float64]
    state: NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A recording in a fixed world frame: x, y in metres, yaw counter-clockwise in radians.

    Args:
        name: Unique name of the recording within its source.
        time_s: ``(T,)`` seconds, ascending, regular with step ``dt_s``.
        dt_s: Seconds between frames.
        track_id: ``(N,)`` the source's own ids, as text.
        track_class: ``(N,)`` what the source calls each of them; :mod:`data_tools.classes` says
            which class that is.
        state: ``(N, T, 5)`` x, y, yaw, length, width; NaN in all five where absent; length and
            width NaN throughout where the source does not know them.
        ego_pose: ``(T, 3)`` x, y, yaw of the ego; NaN where it is not known: no sequence around it
            is made that needs those frames.
        ego_tracks: Where the source marks no ego, or one seen in parts: the tracks that take its
            place in turn. A sequence is around the first that is seen in all its frames.
        map: Lines and polygons; empty where the source has no map.
        hidden: ``(N, T)`` whether the source says that an agent is hardly visible (by 40 % at
            most); None where it says nothing.
        observed: The same tracks at the recording's own rate; None = in the frames only.
        score: ``(N, T)`` the tracker's confidence, 0 to 1, NaN where it gives none; None where it
            never does.
        notes: Counts of what the source had to repair or leave out, by reason.
        warnings: What looks wrong with it, and what supports that (:mod:`data_tools.suspicions`).
    """

    name: str
    time_s: NDArray[np.float64]
    dt_s: float
    track_id: tuple[str, ...]
    track_class: tuple[str, ...]
    state: NDArray[np.float64]
    ego_pose: NDArray[np.float64]
    map: tuple[MapElement, ...] = ()
    hidden: NDArray[np.bool_] | None = None
    observed: Observed | None = None
    score: NDArray[np.float64] | None = None
    ego_tracks: tuple[int, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DenseScene:
    """A recording of rasters, each in the frame that the ego had when it was made.

    Args:
        name: Unique name of the recording within its source.
        time_s: ``(T,)`` seconds, ascending, regular with step ``dt_s``.
        dt_s: Seconds between frames.
        row: ``(T,)`` where each frame is among the N there are; -1 where there is none.
        ego_pose: ``(T, 3)`` x, y, yaw of the ego, hence of each raster, in the world; NaN where
            there is none.
        grid: Of all rasters.
        native: What the source calls its classes, in the order of their numbers.
        semantic: ``(N, H, W)`` 0 background, k = ``native[k - 1]``.
        instance: ``(N, H, W)`` 0 background, else an id that is constant through the recording;
            None where the source knows no agents.
        map: ``(N, M, H, W)`` 0/1 by layer, as in ``forecast.schema.MAP_LAYERS``, or None.
        channels: Names of the channels of ``bev``.
        bev: ``(N, C, H, W)`` whatever else the source has.
        notes: Counts of what the source had to repair or leave out, by reason.
    """

    name: str
    time_s: NDArray[np.float64]
    dt_s: float
    row: NDArray[np.int64]
    ego_pose: NDArray[np.float64]
    grid: BEVGrid
    native: tuple[str, ...]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.integer[Any]] | None
    map: NDArray[np.uint8] | None
    channels: tuple[str, ...]
    bev: NDArray[np.float32]
    notes: dict[str, int] = field(default_factory=dict)
