"""Recordings told to a live forecaster, frame by frame, in a world of their own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data_tools.geometry import poses_to_world
from forecast.live import Forecaster, MapRaster, Raster, Tracks, WorldMap
from forecast.schema import DEFAULT_CLASSES
from forecast.types import BEVSequence

WORLD = np.array([1.0e6, -3.0e6, 2.0])
CLOCK_S = 1.7e9  # seconds since 1970, as stacks count


def replay(live: Forecaster, sequence: BEVSequence, stands: bool = False) -> Forecaster:
    """Tells of a sequence's ``track_history``, with rasters at the moments of its frames.

    Args:
        live: Whom it is told.
        sequence: One of a store.
        stands: Whether the ego is where it is at present all the time.
    """
    assert sequence.track_history is not None
    assert sequence.sample_time is not None
    assert sequence.track_class is not None
    states = sequence.track_history[0].numpy().astype(np.float64)
    names = np.array(["", *DEFAULT_CLASSES])[sequence.track_class[0].numpy()]
    frames = np.arange(-2, 1) * sequence.dt_s
    path = sequence.ego_pose[0, : len(frames)].numpy().astype(np.float64)
    for sample, time_s in enumerate(sequence.sample_time[0].tolist()):
        pose = np.array([np.interp(time_s, frames, path[:, axis]) for axis in range(3)])
        state = states[:, sample]
        seen = np.flatnonzero(np.isfinite(state).all(axis=1))
        of_frame = np.abs(frames - time_s).min() < 0.03
        live.observe(
            CLOCK_S + time_s,
            ego_pose=poses_to_world(path[-1] if stands else pose, WORLD),
            tracks=tracks_of(seen, state[seen], names[seen]),
            raster=Raster(np.zeros(sequence.grid.shape, int)) if of_frame else None,
            map=world_of(sequence) if sample == 0 else None,
        )
    return live


def tracks_of(
    rows: NDArray[np.int64], state: NDArray[np.float64], names: NDArray[np.str_]
) -> Tracks:
    x, y, yaw = poses_to_world(state[:, :3], WORLD).T
    ids = [f"track {row}" for row in rows.tolist()]
    return Tracks(ids, x, y, yaw, state[:, 3], state[:, 4], names)


def world_of(sequence: BEVSequence) -> WorldMap:
    """The map of a sequence, in the world."""
    assert sequence.map_point is not None
    assert sequence.map is not None
    points = sequence.map_point[0].numpy().astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    raster = MapRaster(sequence.map[0].numpy(), sequence.grid, WORLD)
    return WorldMap(lane_points=poses_to_world(points, WORLD), raster=raster)


def traffic(frame: int, agents: int = 12) -> tuple[float, NDArray[np.float64], Tracks]:
    """A moment of endless traffic at 10 Hz: two parked cars, others that come and pass.

    Args:
        frame: Which one.
        agents: How many are seen at a time.

    Returns:
        Time, pose of the ego, and tracks.
    """
    time_s = 0.1 * frame
    state, ids = [], []
    for slot in range(agents - 2):
        period_s = 9.0 + slot % 8  # every so often another takes the slot
        lap, since_s = divmod(time_s + 2.3 * slot, period_s)
        speed = 5.0 + slot % 4
        ids.append(f"{slot}, {lap:.0f}")
        state.append([speed * (since_s - period_s / 2), 3.5 * (slot % 24) - 42.0, 0.0, 4.5, 2.0])
    for parked in range(2):
        ids.append(f"parked {parked}")
        state.append([10.0 * parked - 5.0, 46.0, math.pi / 2, 4.5, 1.9])
    local = np.array(state)
    x, y, yaw = poses_to_world(local[:, :3], WORLD).T
    ego = poses_to_world(
        np.array([8 * math.sin(time_s / 7), 0.0, 0.3 * math.sin(time_s / 5)]), WORLD
    )
    tracks = Tracks(ids, x, y, yaw, local[:, 3], local[:, 4], ["vehicle"] * agents)
    return CLOCK_S + time_s, ego, tracks
